//! The rules against a small sequential model: random histories of two tenants, and after each step the books must be
//! what the model says and keep their invariants.

mod correcting;
mod purse;

use std::collections::BTreeMap;

use domain::{Amount, KeyId, LotId, RequestId, TenantId, clock::UnixMs, request::Reason};
use proptest::prelude::*;
use purse::Purse;
use uuid::Uuid;

use crate::{
    BudgetClaim, BudgetKey, HoldRequest, ProviderCost, Refusal,
    chart::{Account, LotKind},
    claims::{Claim, Purpose},
    items::{ChargeState, Closing, End, Settled},
    rules::{Balance, BatchName, Book, HoldOutcome, Lot},
};

/// The limits of two nested budgets.
type Limits = [Option<i64>; 2];

#[derive(Debug, Clone)]
enum Step {
    Grant {
        tenant: u128,
        amount: i64,
        promo: bool,
        expires: Option<i64>,
    },
    /// Each limit makes it a hold under one more budget: a key's, its tenant's.
    Hold {
        tenant: u128,
        request: u128,
        amount: i64,
        limits: Limits,
    },
    Settle {
        tenant: u128,
        request: u128,
        charge: u64,
        unbilled: i64,
    },
    Void {
        tenant: u128,
        request: u128,
    },
    Debt {
        tenant: u128,
        owed: bool,
    },
    /// Of one of the tenant's lots.
    Withdraw {
        tenant: u128,
        lot: usize,
        amount: i64,
        purpose: Purpose,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 1_u128..=2;
    // few requests, so that duplicates, late ends and ends without a hold are common
    let request = || 1_u128..=12;
    let limit = || proptest::option::weighted(0.5, 0_i64..600);
    prop_oneof![
        2 => (who(), 1_i64..500, any::<bool>(), proptest::option::of(1_i64..50))
            .prop_map(|(tenant, amount, promo, expires)| Step::Grant { tenant, amount, promo, expires }),
        6 => (who(), request(), 0_i64..300, [limit(), limit()])
            .prop_map(|(tenant, request, amount, limits)| Step::Hold { tenant, request, amount, limits }),
        4 => (who(), request(), 0_u64..400, prop_oneof![Just(0), 1_i64..50])
            .prop_map(|(tenant, request, charge, unbilled)| Step::Settle { tenant, request, charge, unbilled }),
        2 => (who(), request()).prop_map(|(tenant, request)| Step::Void { tenant, request }),
        1 => (who(), proptest::bool::weighted(0.3)).prop_map(|(tenant, owed)| Step::Debt { tenant, owed }),
        3 => (who(), 0_usize..8, 1_i64..400, purpose())
            .prop_map(|(tenant, lot, amount, purpose)| Step::Withdraw { tenant, lot, amount, purpose }),
    ]
}

fn purpose() -> impl Strategy<Value = Purpose> {
    prop_oneof![Just(Purpose::Refund), Just(Purpose::Expiry), Just(Purpose::Suspension)]
}

/// Requests belong to one tenant: the id says to which.
fn request_id(tenant: u128, request: u128) -> RequestId {
    RequestId::from_uuid(Uuid::from_u128(tenant << 64 | request))
}

fn tenant_id(tenant: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(tenant))
}

fn budget_key(tenant: u128, which: usize) -> BudgetKey {
    BudgetKey {
        scope: Uuid::from_u128(tenant << 64 | u128::try_from(which).unwrap()),
        period_start: UnixMs(0),
    }
}

struct Play {
    book: Book,
    purses: BTreeMap<u128, Purse>,
    granted: u128,
    withdrawn: i64,
}

const BATCH: BatchName = BatchName {
    node: Uuid::nil(),
    boot: Uuid::nil(),
    number: 1,
};

impl Play {
    fn new() -> Self {
        let mut book = Book::default();
        for tenant in 1..=2 {
            book.balances.insert(tenant_id(tenant), Balance::default());
        }
        Self {
            book,
            purses: BTreeMap::from([(1, Purse::default()), (2, Purse::default())]),
            granted: 0,
            withdrawn: 0,
        }
    }

    fn purse(&mut self, tenant: u128) -> &mut Purse {
        self.purses.get_mut(&tenant).unwrap()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Grant {
                tenant,
                amount,
                promo,
                expires,
            } => self.grant(tenant, amount, promo, expires),
            Step::Hold {
                tenant,
                request,
                amount,
                limits,
            } => self.hold(tenant, request, amount, limits),
            Step::Settle {
                tenant,
                request,
                charge,
                unbilled,
            } => {
                let charge_row = super::world::charge_of(charge);
                self.end(
                    tenant,
                    request,
                    End::Settle(Settled::new(&charge_row, "acme".to_owned())),
                    unbilled,
                );
                self.purse(tenant).end(request, i64::try_from(charge).unwrap());
            }
            Step::Void { tenant, request } => {
                self.end(tenant, request, End::Void, 0);
                self.purse(tenant).end(request, 0);
            }
            Step::Withdraw {
                tenant,
                lot,
                amount,
                purpose,
            } => self.withdraw(tenant, lot, amount, purpose),
            Step::Debt { tenant, owed } => {
                let debt = i64::from(owed);
                self.purse(tenant).debt = debt;
                self.book.balances.get_mut(&tenant_id(tenant)).unwrap().debt = Amount::from_nanos(debt);
            }
        }
    }

    fn grant(&mut self, tenant: u128, amount: i64, promo: bool, expires: Option<i64>) {
        self.granted += 1;
        let id = self.granted;
        self.purse(tenant)
            .lots
            .insert((!promo, expires.unwrap_or(i64::MAX), id), amount);
        let balance = self.book.balances.get_mut(&tenant_id(tenant)).unwrap();
        balance.available = balance.available.checked_add(Amount::from_nanos(amount)).unwrap();
        self.book.lots.entry(tenant_id(tenant)).or_default().push(Lot {
            id: LotId::from_uuid(Uuid::from_u128(id)),
            kind: if promo { LotKind::Promo } else { LotKind::Paid },
            remaining: Amount::from_nanos(amount),
            expires_at: expires.map(UnixMs),
        });
    }

    /// As a withdrawal does: at once what is available, a claim for the rest.
    fn withdraw(&mut self, tenant: u128, which: usize, amount: i64, purpose: Purpose) {
        self.withdrawn += 1;
        let created_at = UnixMs(self.withdrawn);
        let purse = self.purses.get_mut(&tenant).unwrap();
        let Some(name) = purse.lots.keys().nth(which).copied() else {
            return;
        };
        let is_claimed = purse.claims.iter().any(|(lot, of, _)| (*lot, *of) == (name, purpose));
        let amount = amount.min(purse.lots[&name] - purse.claimed_of(name));
        let taken = amount.min(purse.available());
        let rest = amount - taken;
        if (purpose == Purpose::Refund && !name.0) || (is_claimed && rest > 0) {
            return;
        }
        *purse.lots.get_mut(&name).unwrap() -= taken;
        let lots = self.book.lots.get_mut(&tenant_id(tenant)).unwrap();
        let id = LotId::from_uuid(Uuid::from_u128(name.2));
        let lot = lots.iter_mut().find(|lot| lot.id == id).unwrap();
        lot.remaining = lot.remaining.less(Amount::from_nanos(taken));
        let balance = self.book.balances.get_mut(&tenant_id(tenant)).unwrap();
        balance.available = balance.available.less(Amount::from_nanos(taken));
        if rest > 0 {
            purse.claims.push((name, purpose, rest));
            balance.claimed = balance.claimed.checked_add(Amount::from_nanos(rest)).unwrap();
            self.book.claims.entry(tenant_id(tenant)).or_default().push(Claim {
                lot: id,
                purpose,
                amount: Amount::from_nanos(rest),
                reference: "asked".to_owned(),
                created_at,
            });
        }
    }

    fn hold(&mut self, tenant: u128, request: u128, amount: i64, limits: Limits) {
        let claim = |which: usize| {
            Some(BudgetClaim {
                key: budget_key(tenant, which),
                limit: Amount::from_nanos(limits[which]?),
            })
        };
        let asked = HoldRequest {
            request: request_id(tenant, request),
            tenant: tenant_id(tenant),
            key: KeyId::from_uuid(Uuid::nil()),
            amount: Amount::from_nanos(amount),
            budgets: (0..2).filter_map(claim).collect(),
            price_version: 1,
            provider: "acme".to_owned(),
            provider_estimate: Amount::from_nanos(amount),
        };
        let outcome = self.book.place_hold(&asked).unwrap();
        let purse = self.purse(tenant).clone();
        match self.purse(tenant).hold(request, amount, limits) {
            None => assert_eq!(outcome, HoldOutcome::Duplicate),
            Some(true) => {
                assert_eq!(outcome, HoldOutcome::Held);
                for claim in &asked.budgets {
                    let budget = self.book.budgets[&claim.key];
                    let taken = budget.used.nanos() + budget.held.nanos();
                    assert!(amount == 0 || taken <= claim.limit.nanos());
                    assert!(taken <= budget.limit.nanos());
                }
            }
            Some(false) => {
                let HoldOutcome::Refused(refusal) = outcome else {
                    panic!("{outcome:?}");
                };
                assert!(is_the_reason(&refusal, tenant, &purse, limits), "{refusal:?}");
            }
        }
    }

    fn end(&mut self, tenant: u128, request: u128, end: End, unbilled: i64) {
        let lost = ProviderCost {
            provider: "slow".to_owned(),
            amount: Amount::from_nanos(unbilled),
        };
        let closing = Closing {
            request: request_id(tenant, request),
            tenant: tenant_id(tenant),
            key: KeyId::from_uuid(Uuid::nil()),
            reason: Reason::Completed,
            end,
            unbilled: vec![lost],
            record: None,
        };
        let before = self.book.charges.get(&closing.request).cloned();
        let orphans = self.book.changes.orphans.len();
        let known = self.purse(tenant).is_known(request);
        self.book.close(&BATCH, &closing).unwrap();
        // the first terminal row stays for ever
        if let Some(before) = before {
            assert_eq!(self.book.charges[&closing.request], before);
        }
        assert_eq!(self.book.changes.orphans.len() - orphans, usize::from(!known));
    }

    fn check(&self) {
        for (tenant, purse) in &self.purses {
            let balance = self.book.balances[&tenant_id(*tenant)];
            assert_eq!(balance.available.nanos(), purse.available());
            assert_eq!(balance.held.nanos(), purse.held());
            assert!(balance.available.nanos() >= 0 && balance.held.nanos() >= 0);
            self.check_lots(*tenant, purse);
            self.check_claims(*tenant, purse);
            for which in 0..2 {
                let key = budget_key(*tenant, which);
                let budget = self.book.budgets.get(&key).copied().unwrap_or_default();
                assert_eq!(
                    (budget.used.nanos(), budget.held.nanos()),
                    (purse.used[which], purse.held_in_budget(which))
                );
            }
            for (request, charged) in &purse.ended {
                let row = &self.book.charges[&request_id(*tenant, *request)];
                assert_eq!(row.amount.nanos(), *charged);
                assert!(row.amount <= row.held && !row.amount.is_negative() && !row.overrun.is_negative());
                assert!(row.state == ChargeState::Settled || (row.amount.is_zero() && row.overrun.is_zero()));
                assert!(!self.book.holds.contains_key(&row.request), "both open and closed");
            }
        }
        let rows: usize = self.purses.values().map(|purse| purse.ended.len()).sum();
        assert_eq!(self.book.charges.len(), rows);
        self.check_postings();
    }

    fn check_lots(&self, tenant: u128, purse: &Purse) {
        let lots = self.book.lots.get(&tenant_id(tenant)).cloned().unwrap_or_default();
        let left: BTreeMap<_, _> = lots
            .iter()
            .map(|lot| (lot.id.as_uuid().as_u128(), lot.remaining.nanos()))
            .collect();
        let expected: BTreeMap<_, _> = purse.lots.iter().map(|((.., id), left)| (*id, *left)).collect();
        assert_eq!(left, expected);
        assert!(left.values().all(|left| *left >= 0));
    }

    fn check_claims(&self, tenant: u128, purse: &Purse) {
        let claims = self.book.claims.get(&tenant_id(tenant)).cloned().unwrap_or_default();
        let mut waiting: Vec<_> = claims
            .iter()
            .map(|claim| (claim.lot.as_uuid().as_u128(), claim.purpose, claim.amount.nanos()))
            .collect();
        let mut expected: Vec<_> = purse
            .claims
            .iter()
            .map(|((.., id), of, left)| (*id, *of, *left))
            .collect();
        waiting.sort();
        expected.sort();
        assert_eq!(waiting, expected);
        let claimed = waiting.iter().map(|(.., amount)| amount).sum::<i64>();
        assert_eq!(self.book.balances[&tenant_id(tenant)].claimed.nanos(), claimed);
        for (lot, left) in &purse.lots {
            assert!(purse.claimed_of(*lot) <= *left);
        }
        for claim in &claims {
            let written = self.book.changes.claims.get(&(claim.lot, claim.purpose));
            assert!(written.is_none_or(|written| *written == claim.amount));
        }
        let mut served: BTreeMap<(String, String), i64> = BTreeMap::new();
        for ((lot, purpose), amount) in &purse.served {
            let id = LotId::from_uuid(Uuid::from_u128(*lot));
            let kind = purse.lots.keys().find(|name| name.2 == *lot).unwrap();
            let kind = if kind.0 { LotKind::Paid } else { LotKind::Promo };
            let debit = Account::Credit(kind, tenant_id(tenant), id).to_string();
            let credit = purpose.credited(kind, tenant_id(tenant), id).to_string();
            *served.entry((debit, credit)).or_default() += amount;
        }
        let mut posted: BTreeMap<(String, String), i64> = BTreeMap::new();
        let transactions = self.book.changes.served.iter();
        for transaction in transactions.filter(|found| found.tenant == Some(tenant_id(tenant))) {
            let entries = transaction.posting.entries().unwrap();
            let (credits, debits): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, amount)| amount.is_negative());
            assert_eq!((credits.len(), debits.len()), (1, 1));
            *posted.entry((debits[0].0.clone(), credits[0].0.clone())).or_default() += debits[0].1.nanos();
        }
        assert_eq!(posted, served);
        let ids: std::collections::BTreeSet<_> = self.book.changes.served.iter().map(|found| found.id).collect();
        assert_eq!(ids.len(), self.book.changes.served.len());
    }

    /// Every posting balances; what was posted on credit and revenue is what the charges say.
    fn check_postings(&self) {
        let changes = &self.book.changes;
        let late = changes
            .late
            .iter()
            .chain(&changes.served)
            .map(|transaction| &transaction.posting);
        for posting in changes.usage.values().chain(late).chain([&changes.operator]) {
            let entries = posting.entries().unwrap();
            assert_eq!(
                entries
                    .iter()
                    .map(|(_, amount)| i128::from(amount.nanos()))
                    .sum::<i128>(),
                0
            );
        }
        for (tenant, purse) in &self.purses {
            let Some(posting) = changes.usage.get(&tenant_id(*tenant)) else {
                continue;
            };
            let entries = posting.entries().unwrap();
            let credit: i64 = entries
                .iter()
                .filter(|(account, _)| account.starts_with("credit_"))
                .map(|(_, a)| a.nanos())
                .sum();
            assert_eq!(credit, purse.ended.values().sum::<i64>());
            let revenue = Account::RevenueUsage.to_string();
            let revenue: i64 = entries
                .iter()
                .filter(|(account, _)| *account == revenue)
                .map(|(_, a)| a.nanos())
                .sum();
            let rows = self
                .book
                .charges
                .values()
                .filter(|row| row.tenant == tenant_id(*tenant));
            assert_eq!(
                -revenue,
                rows.map(|row| row.amount.nanos() + row.overrun.nanos()).sum::<i64>()
            );
        }
    }
}

/// A refusal tells what is truly left; of two budgets it names the one that leaves less.
fn is_the_reason(refusal: &Refusal, tenant: u128, purse: &Purse, limits: Limits) -> bool {
    match *refusal {
        Refusal::Debt { debt } => debt.nanos() == purse.debt,
        Refusal::InsufficientCredit { available } => available.nanos() == purse.available(),
        Refusal::BudgetExceeded { scope, left } => {
            let lefts = [0, 1].map(|which| limits[which].map(|limit| purse.left(which, limit)));
            let which = usize::from(scope == budget_key(tenant, 1).scope);
            lefts[which] == Some(left.nanos()) && lefts.iter().flatten().min() == Some(&left.nanos())
        }
    }
}

proptest! {
    #[test]
    fn the_books_follow_the_model(steps in proptest::collection::vec(step(), 1..120)) {
        let mut play = Play::new();
        for step in &steps {
            play.take(step);
            play.check();
        }
    }
}
