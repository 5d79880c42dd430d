//! A tenant's credit as the oracle keeps it: what is left of each lot, and what waits to leave it. Written anew from
//! docs/credit.md, without the product's rules.

use std::collections::BTreeMap;

use domain::{LotId, TenantId};
use ledger::claims::Purpose;

use crate::database::Database;

#[derive(Debug, Clone)]
struct Claimed {
    lot: LotId,
    purpose: Purpose,
    left: i64,
}

/// Lots and claims of one tenant.
#[derive(Debug, Clone, Default)]
pub struct Credit {
    /// Promotional lots, then paid ones, each the oldest first: the order in which they are spent.
    lots: BTreeMap<(bool, LotId), i64>,
    /// In the order in which they were made.
    claims: Vec<Claimed>,
}

impl Credit {
    /// A lot is added.
    pub fn grant(&mut self, lot: LotId, is_paid: bool, amount: i64) {
        self.lots.insert((is_paid, lot), amount);
    }

    /// What is left, claimed or not.
    pub fn left(&self) -> i64 {
        self.lots.values().sum()
    }

    /// Credit leaves a lot: at once as far as it is available, and the rest when holds give something back.
    pub fn withdraw(&mut self, lot: LotId, purpose: Purpose, amount: i64, available: i64) {
        let taken = amount.min(available);
        *self.lot(lot) -= taken;
        if amount > taken {
            self.claims.push(Claimed {
                lot,
                purpose,
                left: amount - taken,
            });
        }
    }

    /// A charge eats of the lots, and what is no longer there cannot be claimed: the last claim gives way first.
    pub fn spend(&mut self, amount: i64) {
        let mut rest = amount;
        for left in self.lots.values_mut() {
            let part = rest.min(*left);
            *left -= part;
            rest -= part;
        }
        for ((_, lot), left) in &self.lots {
            let mut room = *left;
            for claim in self.claims.iter_mut().filter(|claim| claim.lot == *lot) {
                claim.left = claim.left.min(room);
                room -= claim.left;
            }
        }
        self.claims.retain(|claim| claim.left > 0);
    }

    /// What a hold gives back serves claims before anybody else, the oldest first.
    pub fn give_back(&mut self, freed: i64) {
        let mut rest = freed;
        let mut claims = std::mem::take(&mut self.claims);
        for claim in &mut claims {
            let part = rest.min(claim.left);
            *self.lot(claim.lot) -= part;
            claim.left -= part;
            rest -= part;
        }
        claims.retain(|claim| claim.left > 0);
        self.claims = claims;
    }

    fn lot(&mut self, lot: LotId) -> &mut i64 {
        let mut lots = self.lots.iter_mut();
        lots.find(|((_, id), _)| *id == lot).map(|(_, left)| left).unwrap()
    }

    /// Where the database differs.
    pub fn difference(&self, tenant: TenantId, database: &Database) -> Option<String> {
        let lots = database.lots.get(&tenant).into_iter().flatten();
        for lot in lots {
            let is_paid = lot.kind == ledger::chart::LotKind::Paid;
            let expected = self.lots.get(&(is_paid, lot.id)).copied();
            if expected != Some(lot.remaining.nanos()) {
                return Some(format!("{tenant}: of {lot:?} there should be left {expected:?}"));
            }
        }
        let key = |claim: &Claimed| (claim.lot, claim.purpose, claim.left);
        let mut expected: Vec<_> = self.claims.iter().map(key).collect();
        let claims = database.claims.get(&tenant).into_iter().flatten();
        let mut found: Vec<_> = claims
            .map(|claim| (claim.lot, claim.purpose, claim.amount.nanos()))
            .collect();
        expected.sort();
        found.sort();
        (expected != found).then(|| format!("{tenant}: claims are {found:?}, expected {expected:?}"))
    }
}
