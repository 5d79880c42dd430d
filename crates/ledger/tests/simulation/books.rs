//! The oracle: what the books must be, kept as simply as can be and without the product's rules. It follows every
//! committed item and is compared with the database after each batch.

use std::collections::{BTreeMap, BTreeSet};

use domain::{LotId, RequestId, TenantId, request::Reason};
use ledger::{
    BudgetKey, HoldRequest,
    batch::{Item, ItemOutcome},
    chart::LotKind,
    claims::Purpose,
    items::{Closing, End},
    rules::{HoldOutcome, Lot},
};

use crate::{credit::Credit, database::Database};

#[derive(Debug, Clone)]
struct Open {
    tenant: TenantId,
    amount: i64,
    budgets: Vec<BudgetKey>,
}

#[derive(Debug, Clone, Default)]
struct Ended {
    charge: i64,
    booked: i64,
    was_refused: bool,
    /// Kinds of ends that came afterwards and cost something: each counts once.
    later: BTreeSet<bool>,
}

/// What must be.
#[derive(Debug, Default)]
pub struct Books {
    granted: BTreeMap<TenantId, i64>,
    credit: BTreeMap<TenantId, Credit>,
    open: BTreeMap<RequestId, Open>,
    ended: BTreeMap<RequestId, Ended>,
    used: BTreeMap<BudgetKey, i64>,
    /// Earned, overruns included.
    revenue: i64,
    /// Owed to providers.
    owed: i64,
}

impl Books {
    /// Credit was given.
    pub fn grant(&mut self, tenant: TenantId, lot: &Lot) {
        let amount = lot.remaining.nanos();
        *self.granted.entry(tenant).or_default() += amount;
        let credit = self.credit.entry(tenant).or_default();
        credit.grant(lot.id, lot.kind == LotKind::Paid, amount);
    }

    /// Credit was taken out of a lot.
    pub fn withdraw(&mut self, tenant: TenantId, lot: LotId, purpose: Purpose, amount: i64, available: i64) {
        let credit = self.credit.entry(tenant).or_default();
        credit.withdraw(lot, purpose, amount, available);
    }

    /// All credit that a tenant has ever been given.
    pub fn granted(&self, tenant: TenantId) -> i64 {
        self.granted.get(&tenant).copied().unwrap_or_default()
    }

    fn held(&self, tenant: TenantId) -> i64 {
        let of_tenant = self.open.values().filter(|open| open.tenant == tenant);
        of_tenant.map(|open| open.amount).sum()
    }

    fn held_in(&self, key: &BudgetKey) -> i64 {
        let in_budget = self.open.values().filter(|open| open.budgets.contains(key));
        in_budget.map(|open| open.amount).sum()
    }

    fn credit(&self, tenant: TenantId) -> i64 {
        self.credit.get(&tenant).map(Credit::left).unwrap_or_default()
    }

    /// A committed item. Answers what is wrong with what came of it.
    pub fn follow(&mut self, item: &Item, outcome: &ItemOutcome) -> Option<String> {
        if *outcome == ItemOutcome::Deferred {
            return None;
        }
        match item {
            Item::Hold(hold) => {
                let expected = self.hold(hold);
                let matches = match outcome {
                    ItemOutcome::Hold(HoldOutcome::Duplicate) => expected.is_none(),
                    ItemOutcome::Hold(HoldOutcome::Held) => expected == Some(true),
                    ItemOutcome::Hold(HoldOutcome::Refused(_)) => expected == Some(false),
                    _ => false,
                };
                (!matches).then(|| format!("a hold came to {outcome:?}, expected {expected:?}"))
            }
            Item::Progress(_) => (*outcome != ItemOutcome::Noted).then(|| "progress was not noted".to_owned()),
            Item::Close(closing) => {
                self.close(closing);
                (*outcome != ItemOutcome::Closed).then(|| "an end was not written".to_owned())
            }
        }
    }

    /// `None` for what is known already, else whether it fits.
    fn hold(&mut self, hold: &HoldRequest) -> Option<bool> {
        let (request, amount) = (hold.request, hold.amount.nanos());
        if self.open.contains_key(&request) || self.ended.contains_key(&request) {
            return None;
        }
        let has_room = hold.budgets.iter().all(|claim| {
            let used = self.used.get(&claim.key).copied().unwrap_or_default();
            used + self.held_in(&claim.key) + amount <= claim.limit.nanos()
        });
        let fits = has_room && self.credit(hold.tenant) - self.held(hold.tenant) >= amount;
        if fits {
            let open = Open {
                tenant: hold.tenant,
                amount,
                budgets: hold.budgets.iter().map(|claim| claim.key).collect(),
            };
            self.open.insert(request, open);
        } else {
            let refused = Ended {
                was_refused: true,
                ..Ended::default()
            };
            self.ended.insert(request, refused);
        }
        Some(fits)
    }

    fn close(&mut self, closing: &Closing) {
        let (wanted, provider_cost) = match &closing.end {
            End::Settle(settled) => (settled.amount().nanos(), settled.provider_cost().amount.nanos()),
            End::Void => (0, 0),
        };
        let unbilled: i64 = closing.unbilled.iter().map(|cost| cost.amount.nanos()).sum();
        let cost = provider_cost + unbilled;
        let is_settle = matches!(closing.end, End::Settle(_));
        if let Some(open) = self.open.remove(&closing.request) {
            let charge = wanted.min(open.amount);
            let credit = self.credit.entry(open.tenant).or_default();
            credit.spend(charge);
            credit.give_back(open.amount - charge);
            for key in open.budgets {
                *self.used.entry(key).or_default() += charge;
            }
            self.revenue += wanted;
            self.owed += cost;
            let ended = Ended {
                charge,
                booked: cost,
                ..Ended::default()
            };
            self.ended.insert(closing.request, ended);
            return;
        }
        if closing.reason.is_by_recovery() && self.ended.contains_key(&closing.request) {
            return;
        }
        let ended = self.ended.entry(closing.request).or_insert_with(|| Ended {
            was_refused: closing.reason == Reason::LedgerUnavailable,
            ..Ended::default()
        });
        let booked = if ended.was_refused { 0 } else { ended.booked };
        let late = (cost - booked).max(0);
        if late > 0 && ended.later.insert(is_settle) {
            self.owed += late;
        }
    }

    /// Answers where the database differs.
    pub fn difference(&self, database: &Database) -> Option<String> {
        for (tenant, balance) in &database.balances {
            let (available, held) = (balance.available.nanos(), balance.held.nanos());
            let lots: i64 = database.lots.get(tenant)?.iter().map(|lot| lot.remaining.nanos()).sum();
            if held != self.held(*tenant) || available + held != self.credit(*tenant) || lots != available + held {
                let expected = (self.credit(*tenant), self.held(*tenant));
                return Some(format!(
                    "{tenant}: {available}+{held}, lots {lots}, expected {expected:?}"
                ));
            }
        }
        let mut credits = self.credit.iter();
        if let Some(wrong) = credits.find_map(|(tenant, credit)| credit.difference(*tenant, database)) {
            return Some(wrong);
        }
        for (key, budget) in &database.budgets {
            let used = self.used.get(key).copied().unwrap_or_default();
            let taken = budget.used.nanos() + budget.held.nanos();
            let is_right = budget.used.nanos() == used && budget.held.nanos() == self.held_in(key);
            if !is_right || taken > budget.limit.nanos() {
                return Some(format!(
                    "budget {key:?} is {budget:?}, expected {used}+{}",
                    self.held_in(key)
                ));
            }
        }
        if !database.holds.keys().eq(self.open.keys()) || !database.charges.keys().eq(self.ended.keys()) {
            return Some("other requests are open or closed than should be".to_owned());
        }
        let wrong = |(request, ended): (&RequestId, &Ended)| database.charges[request].amount.nanos() != ended.charge;
        if self.ended.iter().any(wrong) {
            return Some("a charge is not what its first end said".to_owned());
        }
        let sum = |account: &str| {
            let of_kind = database.accounts.iter().filter(|(name, _)| name.starts_with(account));
            of_kind.map(|(_, sum)| *sum).sum::<i128>()
        };
        if sum("") != 0 || -sum("revenue_usage") != i128::from(self.revenue) {
            return Some("the entries do not balance, or revenue is not what was charged".to_owned());
        }
        let owed = -sum("provider_payable");
        (owed != i128::from(self.owed)).then(|| format!("providers are owed {owed}, expected {}", self.owed))
    }
}
