//! PURE: claims, the part of a withdrawal from a lot that has to wait because open holds cover it.
//!
//! Only credit that ended holds give back serves claims, never new credit: what a tenant was told to have available stays
//! available. A claim is never above what is left of its lot.

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use serde::{Deserialize, Serialize};

use crate::{
    chart::{Account, LotKind},
    items::OpenHold,
    posting::{Posting, Transaction, transaction_id},
    rules::{Book, BrokenBook, taken},
};

/// Why credit leaves a lot without being spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It is paid back. Of paid credit only.
    Refund,
    /// Its time is over.
    Expiry,
    /// It must not be used for now, such as during a dispute.
    Suspension,
}

impl Purpose {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Expiry => "expiry",
            Self::Suspension => "suspension",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Refund, Self::Expiry, Self::Suspension]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
    }

    /// Whether credit of this kind may leave for this purpose: what was given is never paid back.
    pub const fn allows(self, kind: LotKind) -> bool {
        !matches!((self, kind), (Self::Refund, LotKind::Promo))
    }

    /// The account that is credited with what leaves the lot.
    pub(crate) const fn credited(self, kind: LotKind, tenant: TenantId, lot: LotId) -> Account {
        match (self, kind) {
            (Self::Refund, _) => Account::RefundsPayable(tenant),
            (Self::Expiry, LotKind::Paid) => Account::Breakage,
            (Self::Expiry, LotKind::Promo) => Account::PromoExpense,
            (Self::Suspension, _) => Account::CreditSuspended(tenant, lot),
        }
    }
}

/// What is still to leave a lot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// From which lot.
    pub lot: LotId,
    /// Why. A lot has at most one claim of each purpose.
    pub purpose: Purpose,
    /// How much; never above what is left of the lot.
    pub amount: Amount,
    /// What caused it.
    pub reference: String,
    /// When it was made; the oldest is served first.
    pub created_at: UnixMs,
}

impl Claim {
    /// Oldest first.
    fn serving_order(&self) -> (UnixMs, Purpose, LotId) {
        (self.created_at, self.purpose, self.lot)
    }
}

impl Book {
    /// A hold has ended: what it gives back serves the tenant's claims, oldest first, before anybody can use it.
    pub(crate) fn serve_claims(&mut self, hold: &OpenHold, charged: Amount) -> Result<(), BrokenBook> {
        let tenant = hold.tenant;
        let Some(claims) = self.claims.get_mut(&tenant) else {
            return Ok(());
        };
        claims.sort_by_key(Claim::serving_order);
        let lots = self.lots.entry(tenant).or_default();
        let balance = self.balances.entry(tenant).or_default();
        let mut freed = hold.amount.less(charged);
        for claim in claims.iter_mut() {
            // one that must not be is left for the auditor to find: it is no reason to keep a customer's request open
            let lot = lots.iter_mut().find(|lot| lot.id == claim.lot);
            let Some(lot) = lot.filter(|lot| claim.purpose.allows(lot.kind)) else {
                continue;
            };
            let part = freed.min(claim.amount).min(lot.remaining);
            if part.is_zero() {
                continue;
            }
            freed = freed.less(part);
            lot.remaining = lot.remaining.less(part);
            claim.amount = claim.amount.less(part);
            balance.available = taken(balance.available, part, tenant)?;
            balance.claimed = taken(balance.claimed, part, tenant)?;
            self.changes.lots.insert(lot.id, lot.remaining);
            self.changes.claims.insert((claim.lot, claim.purpose), claim.amount);
            self.changes.served.push(served(hold, claim, lot.kind, part));
        }
        claims.retain(|claim| !claim.amount.is_zero());
        Ok(())
    }

    /// A charge has eaten of the tenant's lots: claims go down with what is left, the last one first.
    pub(crate) fn lower_claims(&mut self, tenant: TenantId) -> Result<(), BrokenBook> {
        let Some(claims) = self.claims.get_mut(&tenant) else {
            return Ok(());
        };
        claims.sort_by_key(Claim::serving_order);
        let lots = self.lots.entry(tenant).or_default();
        let balance = self.balances.entry(tenant).or_default();
        for lot in lots.iter() {
            let mut room = lot.remaining;
            for claim in claims.iter_mut().filter(|claim| claim.lot == lot.id) {
                let kept = claim.amount.min(room);
                room = room.less(kept);
                if kept < claim.amount {
                    balance.claimed = taken(balance.claimed, claim.amount.less(kept), tenant)?;
                    claim.amount = kept;
                    self.changes.claims.insert((claim.lot, claim.purpose), kept);
                }
            }
        }
        claims.retain(|claim| !claim.amount.is_zero());
        Ok(())
    }
}

/// The posting of what a claim was given. A request ends once, so its id with the claim's is used once.
fn served(hold: &OpenHold, claim: &Claim, kind: LotKind, part: Amount) -> Transaction {
    let mut posting = Posting::default();
    posting.transfer(
        Account::Credit(kind, hold.tenant, claim.lot),
        claim.purpose.credited(kind, hold.tenant, claim.lot),
        part,
    );
    Transaction {
        id: transaction_id(&[
            b"claim",
            hold.request.as_uuid().as_bytes(),
            claim.lot.as_uuid().as_bytes(),
            claim.purpose.as_str().as_bytes(),
        ]),
        kind: "claim",
        tenant: Some(hold.tenant),
        reference: claim.reference.clone(),
        posting,
    }
}
