//! PURE: what a batch does to the books. The same code serves every store, so there is one meaning of money.
//!
//! [`Book`] holds the rows that a batch touches, as read under lock. Items are applied in order of arrival; what
//! changed is then written by the store in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Amount, LotId, RequestId, TenantId, clock::UnixMs, refund_rules::Bears, request::Reason};
use uuid::Uuid;

use crate::{
    charge_rows::{closed_row, open_hold, orphan_row, refused_row, withdrawn_row},
    chart::{Account, Loss, LotKind},
    claims::{Claim, Purpose},
    items::{
        BudgetClaim, BudgetKey, ChargeRow, ChargeState, Closing, End, HoldRequest, OpenHold, Progress, ProviderCost,
        Refusal,
    },
    posting::{Posting, Transaction, transaction_id},
};

/// A tenant's balance. `available` is what a new hold may take; `held` is reserved; `debt` blocks use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Unreserved credit.
    pub available: Amount,
    /// Credit reserved by open holds.
    pub held: Amount,
    /// What the tenant owes.
    pub debt: Amount,
    /// What is still to leave the tenant's lots when holds end: the sum of its claims.
    pub claimed: Amount,
}

/// An account as it was read, before a batch was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountAsRead {
    /// Counts the changes of its balance.
    pub version: i64,
    /// Its balance.
    pub balance: Balance,
}

/// A lot with something left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lot {
    /// The lot.
    pub id: LotId,
    /// Paid or promotional.
    pub kind: LotKind,
    /// What is left.
    pub remaining: Amount,
    /// When it expires, if it does.
    pub expires_at: Option<UnixMs>,
}

/// A budget in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// The most that may be used.
    pub limit: Amount,
    /// What was charged.
    pub used: Amount,
    /// What open holds reserve.
    pub held: Amount,
}

/// The books are not as the rules require: an error of ours. The batch must not commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenBook {
    /// A sum does not fit in an amount.
    #[error("an amount overflows for {0}")]
    Overflow(String),
    /// Reserved credit is not covered by lots.
    #[error("the lots of {0} do not cover its holds")]
    LotsDoNotCover(TenantId),
    /// A balance or a budget would fall below zero.
    #[error("a balance or a budget of {0} would fall below zero")]
    BelowZero(TenantId),
    /// An amount that reserves or costs something is negative.
    #[error("an amount of {0} is negative")]
    NegativeAmount(RequestId),
}

/// The rows that a batch touches, and what it does to them.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Balances of the tenants named in the batch. A tenant without one has no credit.
    pub balances: BTreeMap<TenantId, Balance>,
    /// The accounts of those tenants as they were read, for the archive.
    pub accounts: BTreeMap<TenantId, AccountAsRead>,
    /// Unspent lots of those tenants.
    pub lots: BTreeMap<TenantId, Vec<Lot>>,
    /// Claims on those lots, of tenants that have any.
    pub claims: BTreeMap<TenantId, Vec<Claim>>,
    /// Budgets named in the batch.
    pub budgets: BTreeMap<BudgetKey, Budget>,
    /// Open holds of the requests named in the batch.
    pub holds: BTreeMap<RequestId, OpenHold>,
    /// Terminal rows of the requests named in the batch.
    pub charges: BTreeMap<RequestId, ChargeRow>,
    /// What has to be written.
    pub changes: Changes,
}

/// What a batch changed, for the store to write.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Tenants whose balance changed.
    pub balances: BTreeSet<TenantId>,
    /// Lots that were drawn on, with what is left.
    pub lots: BTreeMap<LotId, Amount>,
    /// Claims that were served or lowered, with what still waits; one of nothing goes.
    pub claims: BTreeMap<(LotId, Purpose), Amount>,
    /// Budgets that changed, and whose holds changed them.
    pub budgets: BTreeMap<BudgetKey, TenantId>,
    /// Holds to insert.
    pub opened: BTreeSet<RequestId>,
    /// Holds to delete.
    pub closed: BTreeSet<RequestId>,
    /// How far open requests have come.
    pub progressed: BTreeMap<RequestId, Progress>,
    /// Terminal rows to insert.
    pub charged: BTreeSet<RequestId>,
    /// Postings on tenants' credit, one transaction per tenant.
    pub usage: BTreeMap<TenantId, Posting>,
    /// The ids of these transactions, which take a hash to make.
    pub usage_ids: BTreeMap<TenantId, Uuid>,
    /// Postings between the operator and its providers, one transaction per batch.
    pub operator: Posting,
    /// Whose requests its debits come from.
    pub costs: Vec<(TenantId, Account, Amount)>,
    /// Costs that arrived after their request was closed, each its own transaction.
    pub late: Vec<Transaction>,
    /// What claims were given, each its own transaction.
    pub served: Vec<Transaction>,
    /// Requests that were closed without a hold: somebody must look.
    pub orphans: Vec<RequestId>,
}

/// What became of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldOutcome {
    /// Reserved.
    Held,
    /// Not reserved.
    Refused(Refusal),
    /// The request has a hold or a terminal row already.
    Duplicate,
}

/// What identifies the batch, for the ids of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchName {
    /// The node.
    pub node: Uuid,
    /// The boot of the node.
    pub boot: Uuid,
    /// The batch's number in that boot.
    pub number: i64,
}

impl BatchName {
    /// The id of the batch's transaction on one tenant's credit.
    pub fn usage_id(&self, tenant: TenantId) -> Uuid {
        self.transaction_id(b"usage", tenant.as_uuid().as_bytes())
    }

    /// The id of the batch's transaction between the operator and its providers.
    pub fn operator_id(&self) -> Uuid {
        self.transaction_id(b"operator_cost", b"")
    }

    fn transaction_id(&self, kind: &[u8], subject: &[u8]) -> Uuid {
        transaction_id(&[
            kind,
            self.node.as_bytes(),
            self.boot.as_bytes(),
            &self.number.to_be_bytes(),
            subject,
        ])
    }
}

impl Book {
    /// Reserves credit, or refuses and writes a zero charge. Conditional on `available`, on no debt and on every
    /// budget; all or none.
    ///
    /// # Errors
    /// [`BrokenBook`] when a sum does not fit or an amount is negative.
    pub fn place_hold(&mut self, request: &HoldRequest) -> Result<HoldOutcome, BrokenBook> {
        if request.amount.is_negative() || request.provider_estimate.is_negative() {
            return Err(BrokenBook::NegativeAmount(request.request));
        }
        if self.holds.contains_key(&request.request) || self.charges.contains_key(&request.request) {
            return Ok(HoldOutcome::Duplicate);
        }
        if let Some(refusal) = self.refusal(request) {
            self.write_charge(refused_row(request, &refusal));
            return Ok(HoldOutcome::Refused(refusal));
        }
        let overflow = || BrokenBook::Overflow(request.tenant.to_string());
        let balance = self.balances.entry(request.tenant).or_default();
        balance.available = taken(balance.available, request.amount, request.tenant)?;
        balance.held = balance.held.checked_add(request.amount).ok_or_else(overflow)?;
        self.changes.balances.insert(request.tenant);
        for claim in &request.budgets {
            let budget = self.budgets.entry(claim.key).or_default();
            budget.held = budget.held.checked_add(request.amount).ok_or_else(overflow)?;
            // The limit is the one under which this hold was accepted, so that `used + held <= limit` stays true. A hold
            // of nothing fits even where a limit was lowered below what had been used by then.
            let taken = budget.used.checked_add(budget.held).ok_or_else(overflow)?;
            budget.limit = claim.limit.max(taken);
            self.changes.budgets.insert(claim.key, request.tenant);
        }
        self.holds.insert(request.request, open_hold(request));
        self.changes.opened.insert(request.request);
        Ok(HoldOutcome::Held)
    }

    /// Why the hold cannot be placed now, if it cannot.
    pub fn refusal(&self, request: &HoldRequest) -> Option<Refusal> {
        let balance = self.balances.get(&request.tenant).copied().unwrap_or_default();
        if !balance.debt.is_zero() {
            return Some(Refusal::Debt { debt: balance.debt });
        }
        if balance.available < request.amount {
            return Some(Refusal::InsufficientCredit {
                available: balance.available,
            });
        }
        let (scope, left) = request
            .budgets
            .iter()
            .map(|claim| (claim.key.scope, self.left_in(claim)))
            .min_by_key(|(_, left)| *left)?;
        (left < request.amount).then_some(Refusal::BudgetExceeded { scope, left })
    }

    /// What a budget leaves for a new hold; nothing where the limit was lowered below what is taken.
    fn left_in(&self, claim: &BudgetClaim) -> Amount {
        let budget = self.budgets.get(&claim.key).copied().unwrap_or_default();
        claim.limit.less(budget.used).less(budget.held)
    }

    /// Notes how far an open request has come. The progress of a request that has ended, or never had a hold, says
    /// nothing any more.
    ///
    /// # Errors
    /// [`BrokenBook::NegativeAmount`] when an amount is negative.
    pub fn note_progress(&mut self, progress: &Progress) -> Result<(), BrokenBook> {
        let so_far = &progress.so_far;
        if so_far.amount().is_negative() || so_far.provider_cost().amount.is_negative() {
            return Err(BrokenBook::NegativeAmount(progress.request));
        }
        if self.holds.contains_key(&progress.request) {
            self.changes.progressed.insert(progress.request, progress.clone());
        }
        Ok(())
    }

    /// Ends a request: the hold goes, the charge is drawn from lots, the rest serves claims or is given back. The first
    /// terminal row wins; a later one moves no customer's credit.
    ///
    /// # Errors
    /// [`BrokenBook`] when a sum does not fit, an amount is negative or lots do not cover what was reserved.
    pub fn close(&mut self, batch: &BatchName, closing: &Closing) -> Result<(), BrokenBook> {
        if is_negative(closing) {
            return Err(BrokenBook::NegativeAmount(closing.request));
        }
        if let Some(existing) = self.charges.get(&closing.request) {
            if existing.state == ChargeState::Refused {
                self.book_refused_cost(closing);
                return Ok(());
            }
            // recovery only supposes what a request cost, and whoever ended it knew
            if closing.reason.is_by_recovery() {
                return Ok(());
            }
            let booked = existing.provider_cost.checked_add(existing.unbilled);
            self.book_late_cost(closing, booked.unwrap_or(Amount::MAX));
            return Ok(());
        }
        let Some(hold) = self.holds.remove(&closing.request) else {
            self.close_without_hold(closing);
            return Ok(());
        };
        self.changes.progressed.remove(&closing.request);
        if !self.changes.opened.remove(&closing.request) {
            self.changes.closed.insert(closing.request);
        }
        let ids = &mut self.changes.usage_ids;
        let row = closed_row(&hold, closing, || {
            *ids.entry(hold.tenant).or_insert_with(|| batch.usage_id(hold.tenant))
        });
        self.draw_on_lots(&hold, row.amount)?;
        self.lower_claims(hold.tenant)?;
        self.end_reservation(&hold, row.amount)?;
        self.serve_claims(&hold, row.amount)?;
        self.post_costs(closing, &row);
        self.write_charge(row);
        Ok(())
    }

    /// A request whose hold was withdrawn while the database was away may have been sent by then: its cost is the
    /// operator's. Anything else that has no hold is an error of ours, which somebody must look at.
    fn close_without_hold(&mut self, closing: &Closing) {
        if closing.reason == Reason::LedgerUnavailable {
            self.write_charge(withdrawn_row(closing));
            self.book_refused_cost(closing);
            return;
        }
        self.changes.orphans.push(closing.request);
        self.write_charge(orphan_row(closing));
        self.book_late_cost(closing, Amount::ZERO);
    }

    /// Debits the charge to lots: promotional before paid, soonest expiry first, then oldest first.
    fn draw_on_lots(&mut self, hold: &OpenHold, amount: Amount) -> Result<(), BrokenBook> {
        if amount.is_zero() {
            return Ok(());
        }
        let lots = self.lots.entry(hold.tenant).or_default();
        lots.sort_by_key(spending_order);
        let posting = self.changes.usage.entry(hold.tenant).or_default();
        let mut left = amount;
        for lot in lots.iter_mut().filter(|lot| !lot.remaining.is_zero()) {
            let part = left.min(lot.remaining);
            lot.remaining = lot.remaining.less(part);
            left = left.less(part);
            self.changes.lots.insert(lot.id, lot.remaining);
            posting.transfer(
                Account::Credit(lot.kind, hold.tenant, lot.id),
                Account::RevenueUsage,
                part,
            );
            if left.is_zero() {
                return Ok(());
            }
        }
        Err(BrokenBook::LotsDoNotCover(hold.tenant))
    }

    /// `held -= hold`, `available += hold - charge`, and the same in every budget of the hold.
    fn end_reservation(&mut self, hold: &OpenHold, charged: Amount) -> Result<(), BrokenBook> {
        let overflow = || BrokenBook::Overflow(hold.tenant.to_string());
        let balance = self.balances.entry(hold.tenant).or_default();
        balance.held = taken(balance.held, hold.amount, hold.tenant)?;
        balance.available = balance
            .available
            .checked_add(hold.amount.less(charged))
            .ok_or_else(overflow)?;
        self.changes.balances.insert(hold.tenant);
        for key in &hold.budgets {
            let budget = self.budgets.entry(*key).or_default();
            budget.held = taken(budget.held, hold.amount, hold.tenant)?;
            budget.used = budget.used.checked_add(charged).ok_or_else(overflow)?;
            self.changes.budgets.insert(*key, hold.tenant);
        }
        Ok(())
    }

    /// What the request cost beyond its hold, what the provider bills, and what the operator bears.
    fn post_costs(&mut self, closing: &Closing, row: &ChargeRow) {
        if !row.overrun.is_zero() {
            self.changes.usage.entry(row.tenant).or_default().transfer(
                Account::OperatorLoss(Loss::Overrun),
                Account::RevenueUsage,
                row.overrun,
            );
        }
        if let End::Settle(settled) = &closing.end {
            let cost = settled.provider_cost();
            self.post_cost(row.tenant, Account::ProviderCost(cost.provider.clone()), cost);
        }
        let loss = match closing.reason.rule().bears {
            Bears::Node => Loss::Node,
            // of an answer that is charged, the attempts before it
            Bears::Unbilled | Bears::Nothing => Loss::Unbilled,
        };
        for cost in &closing.unbilled {
            self.post_cost(row.tenant, Account::OperatorLoss(loss), cost);
        }
    }

    fn post_cost(&mut self, tenant: TenantId, debit: Account, cost: &ProviderCost) {
        let payable = Account::ProviderPayable(cost.provider.clone());
        self.changes.operator.transfer(debit.clone(), payable, cost.amount);
        self.changes.costs.push((tenant, debit, cost.amount));
    }

    /// The cost of a closing that came too late, as far as it is not booked yet. Its transaction's id is made of
    /// the request and the kind of end, so it is booked once.
    fn book_late_cost(&mut self, closing: &Closing, booked: Amount) {
        self.book_cost_apart(closing, booked, Loss::Late, "late_cost");
    }

    /// What a request cost that was sent before its hold was refused.
    fn book_refused_cost(&mut self, closing: &Closing) {
        self.book_cost_apart(closing, Amount::ZERO, Loss::Unbilled, "refused_cost");
    }

    fn book_cost_apart(&mut self, closing: &Closing, booked: Amount, loss: Loss, transaction: &'static str) {
        let posting = costs_beyond(booked, closing_costs(closing), loss);
        if posting.is_empty() {
            return;
        }
        let kind: &[u8] = match closing.end {
            End::Settle(_) => b"settle",
            End::Void => b"void",
        };
        self.changes.late.push(Transaction {
            id: transaction_id(&[transaction.as_bytes(), closing.request.as_uuid().as_bytes(), kind]),
            kind: transaction,
            tenant: None,
            reference: closing.request.to_string(),
            posting,
        });
    }

    fn write_charge(&mut self, row: ChargeRow) {
        self.changes.charged.insert(row.request);
        self.charges.insert(row.request, row);
    }
}

/// What is left after taking a part; a store must never be asked to write less than nothing.
pub(crate) fn taken(whole: Amount, part: Amount, tenant: TenantId) -> Result<Amount, BrokenBook> {
    whole
        .checked_sub(part)
        .filter(|left| !left.is_negative())
        .ok_or(BrokenBook::BelowZero(tenant))
}

fn is_negative(closing: &Closing) -> bool {
    let charge = match &closing.end {
        End::Settle(settled) => settled.amount(),
        End::Void => Amount::ZERO,
    };
    charge.is_negative() || closing_costs(closing).any(|cost| cost.amount.is_negative())
}

/// What each provider is owed beyond what is booked, which counts as the first of it: what was booked is the answer's.
fn costs_beyond<'a>(booked: Amount, costs: impl Iterator<Item = &'a ProviderCost>, loss: Loss) -> Posting {
    let mut posting = Posting::default();
    let mut covered = booked;
    for cost in costs {
        let payable = Account::ProviderPayable(cost.provider.clone());
        posting.transfer(Account::OperatorLoss(loss), payable, cost.amount.less(covered));
        covered = covered.less(cost.amount);
    }
    posting
}

fn closing_costs(closing: &Closing) -> impl Iterator<Item = &ProviderCost> {
    let settled = match &closing.end {
        End::Settle(settled) => Some(settled.provider_cost()),
        End::Void => None,
    };
    settled.into_iter().chain(&closing.unbilled)
}

fn spending_order(lot: &Lot) -> (bool, i64, LotId) {
    spending_rank(lot.kind, lot.expires_at, lot.id)
}

/// Promotional credit first, then what expires soonest, then what is oldest (lot ids sort by time).
pub(crate) fn spending_rank(kind: LotKind, expires_at: Option<UnixMs>, lot: LotId) -> (bool, i64, LotId) {
    (kind == LotKind::Paid, expires_at.map_or(i64::MAX, |at| at.0), lot)
}
