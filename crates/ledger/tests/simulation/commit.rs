//! The instant of a commit: rows change, the oracle follows, and whatever can be judged at once is judged.

use std::collections::BTreeSet;

use domain::{TenantId, request::Reason};
use ledger::{
    batch::{Batch, Committed, Item, ItemOutcome},
    items::{ChargeRow, Progress},
    rules::HoldOutcome,
};
use store::StoreError;

use crate::{
    database::{Applied, HoldRow},
    plan::MAX_REQUEST_MS,
    sim::State,
};

/// A hold older than this is closed by whoever sees it, in milliseconds.
const MAX_AGE_MS: u64 = MAX_REQUEST_MS + 60_000;
/// A node that is well has written an end after this at the latest, however often its calls were lost, in milliseconds.
const WELL_AGAIN_MS: u64 = 90_000;

/// Commits a batch.
pub fn commit(s: &mut State, batch: &Batch, left_out: &BTreeSet<TenantId>) -> Result<Committed, StoreError> {
    match s.database.apply(batch, left_out, s.now) {
        Applied::Before(committed) => {
            s.note("a batch had been written", 0_u64, batch.name.number);
            Ok(committed)
        }
        Applied::Fenced => {
            s.note("a batch comes too late", 0_u64, batch.name.number);
            Err(StoreError::Fenced("another batch has been written"))
        }
        Applied::Broken(why) => {
            s.violate(why.clone());
            Err(StoreError::Contradiction(why))
        }
        Applied::Now { committed, closed } => {
            judge(s, batch, &committed, &closed);
            Ok(committed)
        }
    }
}

fn judge(s: &mut State, batch: &Batch, committed: &Committed, closed: &[(ChargeRow, Option<HoldRow>)]) {
    s.note("a batch commits", batch.items.len(), batch.name.number);
    for (item, outcome) in batch.items.iter().zip(&committed.outcomes) {
        let number = s.truth.number(item.request());
        s.note(told(item, outcome), number, 0);
        if *outcome == ItemOutcome::Hold(HoldOutcome::Held) {
            s.truth.held(item.request());
        }
        if let (Item::Progress(progress), ItemOutcome::Noted) = (item, outcome) {
            judge_order(s, batch, progress);
        }
        if let (Item::Close(closing), ItemOutcome::Closed) = (item, outcome) {
            s.truth.ended(closing);
        }
        if let Some(wrong) = s.truth.books.follow(item, outcome) {
            s.violate(format!("request {number}: {wrong}"));
        }
    }
    if let Some(difference) = s.truth.books.difference(&s.database) {
        s.violate(difference);
    }
    for request in &committed.orphans {
        s.violate(format!("{request} was closed without a hold"));
    }
    for (row, hold) in closed {
        let number = s.truth.number(row.request);
        s.note(row.reason.as_str(), number, row.amount.nanos());
        if let Some(hold) = hold {
            judge_closing(s, row, hold);
        }
    }
}

/// What a node has queued for a request is written in that order. What it finds on its disk at a later boot may be older.
fn judge_order(s: &mut State, batch: &Batch, progress: &Progress) {
    let (number, life) = (s.truth.number(progress.request), s.life_of(batch.name.boot));
    let request = s.truth.of(progress.request);
    if Some(request.life) != life {
        return;
    }
    let so_far = progress.so_far.amount().nanos();
    let is_in_order = !request.end_is_written && so_far >= request.noted;
    request.noted = so_far;
    s.demand(is_in_order, || format!("request {number}: progress out of order"));
}

fn told(item: &Item, outcome: &ItemOutcome) -> &'static str {
    match (item, outcome) {
        (_, ItemOutcome::Deferred) => "- left out",
        (_, ItemOutcome::Hold(HoldOutcome::Held)) => "- held",
        (_, ItemOutcome::Hold(HoldOutcome::Refused(_))) => "- refused",
        (_, ItemOutcome::Hold(HoldOutcome::Duplicate)) => "- known already",
        (Item::Progress(_), _) => "- progress",
        _ => "- end",
    }
}

/// Whoever closes somebody else's hold must have a reason to.
fn judge_closing(s: &mut State, row: &ChargeRow, hold: &HoldRow) {
    let Some(life) = s.life_of(hold.boot) else { return };
    let number = s.truth.number(row.request);
    let is_dead = s.lives[life].is_dead;
    let retired_at = s.database.nodes[&hold.boot].retired_at;
    let is_retired = retired_at.is_some_and(|at| at >= hold.created_at);
    if row.reason == Reason::RelayCrashed {
        s.demand(is_dead || is_retired, || {
            format!("request {number}: recovery has closed a hold of a living node")
        });
    }
    if row.reason != Reason::HoldExpired {
        return;
    }
    let (now, age) = (s.now, s.now - hold.created_at);
    s.demand(age > MAX_AGE_MS, || {
        format!("request {number}: closed by age after {age} ms")
    });
    let was_paused = s.lives[life].paused_until > hold.created_at;
    let node = s.lives[life].node;
    let was_away = (0..WELL_AGAIN_MS / 500)
        .any(|half_seconds| s.plan.away(node, now.saturating_sub(half_seconds * 500)).is_some());
    let is_owed = s.truth.done_at(row.request).is_some_and(|at| at + WELL_AGAIN_MS < now);
    let is_quarantined = s.database.quarantined.contains(&row.request);
    let has_excuse = is_dead || is_retired || was_paused || was_away || is_quarantined || !is_owed;
    s.demand(has_excuse, || {
        format!("request {number}: left open until it was too old, though its node was well")
    });
}
