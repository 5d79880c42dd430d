//! What really happened to every request, whatever the database says: what the provider generated, what was handed out,
//! what the node was told, and what was durable when it died.

use std::collections::BTreeMap;

use domain::{Amount, RequestId};
use ledger::items::Closing;

use crate::{
    books::Books,
    orders::{Order, Poison},
    sim::LifeId,
};

/// An end that a living node has accepted.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub at: u64,
    /// `None` gives everything back.
    pub wanted: Option<i64>,
    /// What the providers bill, in nano-USD.
    pub cost: i64,
}

/// What was durable when a node died, on its disk or in the database.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    pub end_is_durable: bool,
    /// What was spent before a refusal was durable, or had been queued for so long that it must be.
    pub cost_is_owed: bool,
    /// Most of what was noted in the database.
    pub noted: Option<i64>,
    /// The same, with what was on disk.
    pub kept: Option<i64>,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    pub number: usize,
    pub life: LifeId,
    pub amount: Amount,
    pub estimate: i64,
    pub poison: Option<Poison>,
    pub handed_out: bool,
    /// Its hold was committed.
    pub was_held: bool,
    /// An end by its own node was committed; and one that says what was spent before a refusal.
    pub end_is_written: bool,
    pub cost_is_written: bool,
    /// Its caller was told that there is no hold, when.
    pub told_no_at: Option<u64>,
    /// The last progress that was committed.
    pub noted: i64,
    /// When which progress was queued.
    pub offered: Vec<(u64, i64)>,
    pub end: Option<End>,
    /// The cost that was booked for want of a hold, when.
    pub refused_cost: Option<(u64, i64)>,
    pub crash: Option<Crash>,
    /// The disk has lost what it had kept of the request.
    pub disk_lost_it: bool,
}

/// All requests.
#[derive(Debug, Default)]
pub struct Truth {
    pub requests: BTreeMap<RequestId, Request>,
    pub books: Books,
    /// Counts of what happened, for whoever asks whether a run was worth anything.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Truth {
    /// A request is about to be made.
    pub fn ask(&mut self, order: &Order, life: LifeId) {
        let number = self.requests.len() + 1;
        let request = Request {
            number,
            life,
            amount: order.hold.amount,
            estimate: order.hold.provider_estimate.nanos(),
            poison: order.poison,
            handed_out: false,
            was_held: false,
            end_is_written: false,
            cost_is_written: false,
            told_no_at: None,
            noted: 0,
            offered: Vec::new(),
            end: None,
            refused_cost: None,
            crash: None,
            disk_lost_it: false,
        };
        self.requests.insert(order.hold.request, request);
    }

    /// A request that was asked for.
    pub fn of(&mut self, request: RequestId) -> &mut Request {
        self.requests.get_mut(&request).unwrap()
    }

    /// Which one it is, for people.
    pub fn number(&self, request: RequestId) -> usize {
        self.requests.get(&request).map_or(0, |request| request.number)
    }

    /// What is wrong with it.
    pub fn poison(&self, request: RequestId) -> Option<Poison> {
        self.requests.get(&request)?.poison
    }

    /// A hold was committed.
    pub fn held(&mut self, request: RequestId) {
        self.of(request).was_held = true;
    }

    /// An end was committed.
    pub fn ended(&mut self, closing: &Closing) {
        if is_own_end(closing) {
            let has_cost = !closing.unbilled.is_empty();
            let request = self.of(closing.request);
            request.end_is_written = true;
            request.cost_is_written |= has_cost;
        }
    }

    /// When its client had nothing more to do with it.
    pub fn done_at(&self, request: RequestId) -> Option<u64> {
        let request = self.requests.get(&request)?;
        request.end.map(|end| end.at).or(request.told_no_at)
    }

    /// Counts.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

/// Whether the node itself has ended the request, not recovery.
pub fn is_own_end(closing: &Closing) -> bool {
    !closing.reason.is_by_recovery()
}
