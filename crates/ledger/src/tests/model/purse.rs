//! One tenant of the model.

use std::collections::BTreeMap;

use super::Limits;
use crate::claims::Purpose;

/// (is paid, expiry or never, order of arrival)
pub type LotName = (bool, i64, u128);

/// One tenant as a child would keep it: a purse, what is promised, and what was spent.
#[derive(Debug, Default, Clone)]
pub struct Purse {
    /// What is left of each lot.
    pub lots: BTreeMap<LotName, i64>,
    /// What is to leave lots when holds end, oldest first.
    pub claims: Vec<(LotName, Purpose, i64)>,
    /// What has left lots because holds ended.
    pub served: BTreeMap<(u128, Purpose), i64>,
    /// request -> (amount, under which budgets).
    pub open: BTreeMap<u128, (i64, [bool; 2])>,
    /// request -> charged.
    pub ended: BTreeMap<u128, i64>,
    /// What requests have spent of each lot, less what was given back.
    pub spent: BTreeMap<LotName, i64>,
    pub debt: i64,
    /// In each budget.
    pub used: [i64; 2],
}

impl Purse {
    pub fn held(&self) -> i64 {
        self.open.values().map(|(amount, _)| amount).sum()
    }

    pub fn held_in_budget(&self, which: usize) -> i64 {
        self.open
            .values()
            .filter(|(_, budgets)| budgets[which])
            .map(|(amount, _)| amount)
            .sum()
    }

    pub fn available(&self) -> i64 {
        self.lots.values().sum::<i64>() - self.held()
    }

    pub fn is_known(&self, request: u128) -> bool {
        self.open.contains_key(&request) || self.ended.contains_key(&request)
    }

    /// `None` for a duplicate, else whether it is held.
    pub fn hold(&mut self, request: u128, amount: i64, limits: Limits) -> Option<bool> {
        if self.is_known(request) {
            return None;
        }
        let room = |which: usize| limits[which].is_none_or(|limit| amount <= self.left(which, limit));
        let fits = self.debt == 0 && self.available() >= amount && room(0) && room(1);
        if fits {
            self.open.insert(request, (amount, limits.map(|limit| limit.is_some())));
        } else {
            self.ended.insert(request, 0);
        }
        Some(fits)
    }

    pub fn left(&self, which: usize, limit: i64) -> i64 {
        (limit - self.used[which] - self.held_in_budget(which)).max(0)
    }

    pub fn end(&mut self, request: u128, wanted: i64) {
        let Some((amount, budgets)) = self.open.remove(&request) else {
            self.ended.entry(request).or_insert(0);
            return;
        };
        let charge = wanted.min(amount);
        let mut left = charge;
        for (name, lot) in &mut self.lots {
            let part = left.min(*lot);
            *lot -= part;
            left -= part;
            *self.spent.entry(*name).or_default() += part;
        }
        self.lower_claims();
        self.serve_claims(amount - charge);
        for (used, _) in self.used.iter_mut().zip(budgets).filter(|(_, named)| *named) {
            *used += charge;
        }
        self.ended.insert(request, charge);
    }
}

impl Purse {
    pub fn claimed_of(&self, lot: LotName) -> i64 {
        let claims = self.claims.iter().filter(|(of, ..)| *of == lot);
        claims.map(|(.., amount)| amount).sum()
    }

    /// What is more than the lot has gives way, the last claim first.
    fn lower_claims(&mut self) {
        let lots = self.lots.clone();
        for (lot, left) in lots {
            let mut above = self.claimed_of(lot) - left;
            for (_, _, amount) in self.claims.iter_mut().rev().filter(|(of, ..)| *of == lot) {
                let part = above.clamp(0, *amount);
                *amount -= part;
                above -= part;
            }
        }
        self.claims.retain(|(.., amount)| *amount > 0);
    }

    fn serve_claims(&mut self, mut freed: i64) {
        for (lot, purpose, amount) in &mut self.claims {
            let part = freed.min(*amount);
            freed -= part;
            *amount -= part;
            *self.lots.get_mut(lot).unwrap() -= part;
            *self.served.entry((lot.2, *purpose)).or_default() += part;
        }
        self.claims.retain(|(.., amount)| *amount > 0);
        self.served.retain(|_, amount| *amount > 0);
    }
}
