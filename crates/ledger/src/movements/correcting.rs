//! Corrections: something of a charge goes back after it was made, or credit is given beside it. The charge's own rows stay
//! as they are; a correction is a transaction of its own whose reference is the request.

use domain::{Amount, LotId, RequestId, TenantId, clock::UnixMs};
use store::{Backend, StoreError, Tx, audit::Actor};
use uuid::Uuid;

use super::{
    lock_account,
    lots::{find_lot, insert_lot, set_remaining},
    post, receive, refuse_repetition, with_credit,
};
use crate::{
    BudgetKey, LedgerError,
    archive::{
        Movement, gate,
        record::{BudgetRow, LotRow},
        standing, transaction_row,
    },
    chart::{Account, LotKind},
    corrections::{CorrectionKind, Home, Part, between, home},
    items::ChargeRow,
    posting::{Posting, Transaction, transaction_id},
    reading::{self, LoggedCharge, amount},
    rules::Balance,
};

/// A correction to make.
#[derive(Debug, Clone)]
pub struct Correction {
    /// Of which request.
    pub request: RequestId,
    /// Why.
    pub kind: CorrectionKind,
    /// How much, more than nothing; `None` for all that is left to give back.
    pub amount: Option<Amount>,
    /// What identifies the correction of this request: given twice, it is posted once.
    pub source: String,
    /// The budgets in which the charge was counted, each in the period of its hold: there it is counted no more.
    pub budgets: Vec<BudgetKey>,
}

impl Correction {
    /// Made of what identifies the correction, so that whoever knows its source finds it again.
    pub fn transaction_id(&self) -> Uuid {
        transaction_id(&[b"correction", self.request.as_uuid().as_bytes(), self.source.as_bytes()])
    }
}

/// Credit that went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenBack {
    /// In which lot it is.
    pub lot: LotId,
    /// Paid or promotional, as it was spent.
    pub kind: LotKind,
    /// How much.
    pub amount: Amount,
    /// When it expires, if it does.
    pub expires_at: Option<UnixMs>,
    /// Whether the lot is new.
    pub is_new: bool,
}

/// What a correction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrected {
    /// Its transaction.
    pub transaction: Uuid,
    /// Whose request it is.
    pub tenant: TenantId,
    /// How much was given.
    pub amount: Amount,
    /// What was charged for the request.
    pub charged: Amount,
    /// What is left of the charge after all corrections.
    pub net_charge: Amount,
    /// How much of it paid off debt.
    pub paid_debt: Amount,
    /// Where the rest is.
    pub credit: Vec<GivenBack>,
    /// The tenant's available credit afterwards.
    pub available: Amount,
    /// For the archive, after the commit.
    pub movement: Movement,
}

/// Makes a correction. What is given back of a charge goes to the lots that paid it, what was spent last first; paid credit
/// pays debt first. Goodwill becomes a lot of promotional credit. Rolled back, it is a preview.
///
/// # Errors
/// [`LedgerError::InvalidAmount`] for nothing or less, [`LedgerError::UnknownCharge`], [`LedgerError::MoreThanCharged`],
/// [`LedgerError::MoreThanHeld`], [`LedgerError::Duplicate`] when the source has corrected this request before,
/// [`LedgerError::AwaitsReplay`] while a restored database waits for its archives, and what the database says.
pub async fn correct(tx: &Tx, actor: &Actor, correction: &Correction) -> Result<Corrected, LedgerError> {
    gate::refuse_while_closed(tx).await?;
    let logged = reading::operator_logged_charge(tx.connection(), correction.request).await?;
    let logged = logged.ok_or(LedgerError::UnknownCharge)?;
    let charge = &logged.charge.row;
    let (balance, version) = lock_account(tx, charge.tenant).await?;
    refuse_repetition(tx, correction.transaction_id()).await?;
    let given = given_before(tx, correction.request).await?;
    let amount = amount_of(correction, charge, &given)?;
    let now = tx.now().await?;
    let mut giving = Giving {
        tx,
        tenant: charge.tenant,
        now,
        posting: Posting::default(),
        debt: balance.debt,
        credit: Vec::new(),
        movement: Movement::step(charge.tenant, version + 1, now),
    };
    let mut net_charge = charge.amount.less(given.of_charge);
    if correction.kind.lowers_charge() {
        giving.lower_budgets(&correction.budgets, amount).await?;
        giving.give_back(&logged, net_charge, amount).await?;
        net_charge = net_charge.less(amount);
    } else {
        giving.give_new(Account::Goodwill, LotKind::Promo, amount, None).await?;
    }
    let credited = Amount::checked_sum(giving.credit.iter().map(|given| given.amount)).unwrap_or(Amount::MAX);
    let paid_debt = amount.less(credited);
    let after = Balance {
        debt: giving.debt,
        ..with_credit(balance, credited)?
    };
    let (credit, movement) = giving.post(actor, correction, (balance, after)).await?;
    receive(tx, charge.tenant, credited, paid_debt).await?;
    Ok(Corrected {
        transaction: correction.transaction_id(),
        tenant: charge.tenant,
        amount,
        charged: charge.amount,
        net_charge,
        paid_debt,
        credit,
        available: after.available,
        movement,
    })
}

/// What earlier corrections gave.
#[derive(Default)]
struct Given {
    of_charge: Amount,
    goodwill: Amount,
}

async fn given_before(tx: &Tx, request: RequestId) -> Result<Given, StoreError> {
    let mut given = Given::default();
    for earlier in reading::operator_corrections(tx.connection(), &[request]).await? {
        let sum = if earlier.kind.lowers_charge() {
            &mut given.of_charge
        } else {
            &mut given.goodwill
        };
        *sum = sum.checked_add(earlier.amount).unwrap_or(Amount::MAX);
    }
    Ok(given)
}

/// How much is given: no more than is left of the charge; goodwill no more than the request could have cost.
fn amount_of(correction: &Correction, charge: &ChargeRow, given: &Given) -> Result<Amount, LedgerError> {
    if correction.amount.is_some_and(|amount| amount <= Amount::ZERO) {
        return Err(LedgerError::InvalidAmount(
            "the amount of a correction must be more than 0",
        ));
    }
    let (left, refusal): (Amount, fn(Amount) -> LedgerError) = if correction.kind.lowers_charge() {
        (charge.amount.less(given.of_charge), LedgerError::MoreThanCharged)
    } else {
        (charge.held.less(given.goodwill), LedgerError::MoreThanHeld)
    };
    let amount = correction.amount.unwrap_or(left);
    if amount.is_zero() || amount > left {
        return Err(refusal(left));
    }
    Ok(amount)
}

/// A correction under way, its account locked.
struct Giving<'a> {
    tx: &'a Tx,
    tenant: TenantId,
    now: UnixMs,
    posting: Posting,
    /// What the tenant still owes.
    debt: Amount,
    credit: Vec<GivenBack>,
    movement: Movement,
}

impl Giving<'_> {
    /// What goes back was not used of the budgets either. A period that is over is lowered too: its sum is what was spent.
    async fn lower_budgets(&mut self, budgets: &[BudgetKey], by: Amount) -> Result<(), StoreError> {
        let mut budgets = budgets.to_vec();
        budgets.sort();
        budgets.dedup();
        let lock = for_update(self.tx);
        for key in budgets {
            let sql =
                format!("SELECT limit_amount, used, held FROM budget WHERE scope = $1 AND period_start_ms = $2 {lock}");
            let place = [key.scope.into(), key.period_start.0.into()];
            let found = self.tx.query(sql, place.to_vec()).await?;
            let Some(row) = found.first() else { continue };
            let used = amount(row, "used")?.less(by);
            let sql = "UPDATE budget SET used = $3 WHERE scope = $1 AND period_start_ms = $2";
            let [scope, period_start] = place;
            let values = vec![scope, period_start, used.nanos().into()];
            self.tx.execute(sql, values).await?;
            self.movement.0.budgets.push(BudgetRow {
                scope: key.scope,
                period_start_ms: key.period_start.0,
                limit: row.try_get("", "limit_amount")?,
                used: used.nanos(),
                held: row.try_get("", "held")?,
            });
        }
        Ok(())
    }

    /// Gives back the last `amount` of the `left` that the charge still is.
    async fn give_back(&mut self, charge: &LoggedCharge, left: Amount, amount: Amount) -> Result<(), LedgerError> {
        let drawn = drawn_by(self.tx, charge).await?;
        let begin = charged_before(self.tx, charge, drawn.len()).await?;
        let parts: Vec<Part> = drawn.iter().map(|(part, _)| *part).collect();
        let end = begin.checked_add(left).unwrap_or(Amount::MAX);
        let parts = between(&parts, end.less(amount), end)
            .ok_or_else(|| contradiction("its transaction drew less on lots than its charges say", charge))?;
        for part in parts {
            let part = self.pay_debt(part);
            if part.amount.is_zero() {
                continue;
            }
            match home(part.expires_at, charge.charge.closed_at, self.now) {
                Home::NewLot(expires_at) => {
                    self.give_new(Account::RevenueUsage, part.kind, part.amount, Some(expires_at))
                        .await?;
                }
                Home::ItsLot => {
                    let lot = drawn.iter().find(|(drawn, _)| drawn.lot == part.lot);
                    let remaining = lot.map_or(Amount::ZERO, |(_, remaining)| *remaining);
                    self.give_to_lot(&part, remaining).await?;
                }
            }
        }
        Ok(())
    }

    /// Paid credit that comes in pays debt first, wherever it comes from. Answers the rest.
    fn pay_debt(&mut self, part: Part) -> Part {
        if part.kind != LotKind::Paid {
            return part;
        }
        let paid = self.debt.min(part.amount);
        self.debt = self.debt.less(paid);
        self.posting
            .transfer(Account::RevenueUsage, Account::CustomerDebt(self.tenant), paid);
        Part {
            amount: part.amount.less(paid),
            ..part
        }
    }

    async fn give_to_lot(&mut self, part: &Part, remaining: Amount) -> Result<(), LedgerError> {
        let remaining = remaining.checked_add(part.amount).unwrap_or(Amount::MAX);
        set_remaining(self.tx, part.lot, remaining).await?;
        self.movement.0.drawn.push((part.lot.as_uuid(), remaining.nanos()));
        self.give(
            Account::RevenueUsage,
            GivenBack {
                lot: part.lot,
                kind: part.kind,
                amount: part.amount,
                expires_at: part.expires_at,
                is_new: false,
            },
        );
        Ok(())
    }

    async fn give_new(
        &mut self,
        debit: Account,
        kind: LotKind,
        amount: Amount,
        expires_at: Option<UnixMs>,
    ) -> Result<(), LedgerError> {
        let lot = LotId::generate();
        let row = LotRow {
            id: lot.as_uuid(),
            kind: kind.as_str().to_owned(),
            granted: amount.nanos(),
            remaining: amount.nanos(),
            expires_at_ms: expires_at.map(|at| at.0),
            created_at_ms: self.now.0,
        };
        insert_lot(self.tx, self.tenant, &row).await?;
        self.movement.0.granted.push(row);
        let given = GivenBack {
            lot,
            kind,
            amount,
            expires_at,
            is_new: true,
        };
        self.give(debit, given);
        Ok(())
    }

    fn give(&mut self, debit: Account, given: GivenBack) {
        let account = Account::Credit(given.kind, self.tenant, given.lot);
        self.posting.transfer(debit, account, given.amount);
        self.credit.push(given);
    }

    async fn post(
        mut self,
        actor: &Actor,
        correction: &Correction,
        (before, after): (Balance, Balance),
    ) -> Result<(Vec<GivenBack>, Movement), LedgerError> {
        let transaction = Transaction {
            id: correction.transaction_id(),
            kind: correction.kind.transaction_kind(),
            tenant: Some(self.tenant),
            reference: correction.request.to_string(),
            posting: self.posting,
        };
        let part = &mut self.movement.0;
        part.was = standing(before);
        part.now = standing(after);
        part.transactions
            .push(transaction_row(&transaction, actor.as_str(), self.now));
        post(self.tx, actor, transaction, self.now).await?;
        Ok((self.credit, self.movement))
    }
}

/// What the charge's transaction drew on lots, in the order of spending, with what is left of each now. The lots are locked,
/// in the order of their ids.
async fn drawn_by(tx: &Tx, charge: &LoggedCharge) -> Result<Vec<(Part, Amount)>, LedgerError> {
    let row = &charge.charge.row;
    let transaction = row
        .transaction
        .ok_or_else(|| contradiction("it names no transaction", charge))?;
    let sql = "SELECT account, amount FROM entry WHERE tx_id = $1 AND amount > 0";
    let mut drawn = Vec::new();
    for entry in tx.query(sql, vec![transaction.into()]).await? {
        let account: String = entry.try_get("", "account").map_err(StoreError::from)?;
        if let Some((kind, lot)) = Account::lot_of(&account) {
            drawn.push((lot, kind, amount(&entry, "amount")?));
        }
    }
    drawn.sort();
    let mut parts = Vec::with_capacity(drawn.len());
    for (lot, kind, amount) in drawn {
        let locked = find_lot(tx, row.tenant, lot).await?;
        let locked = locked.ok_or_else(|| contradiction("a lot that paid it is missing", charge))?;
        let part = Part {
            lot,
            kind,
            expires_at: locked.expires_at,
            amount,
        };
        parts.push((part, locked.remaining));
    }
    parts.sort_by_key(|(part, _)| part.spending_rank());
    Ok(parts)
}

/// What the same transaction charged for requests whose ids come before. Of credit that came from one lot it does not matter.
async fn charged_before(tx: &Tx, charge: &LoggedCharge, lots: usize) -> Result<Amount, LedgerError> {
    if lots <= 1 {
        return Ok(Amount::ZERO);
    }
    let row = &charge.charge.row;
    let together = reading::charges_of_transaction(tx, charge).await?;
    let before = together.iter().filter(|(request, _)| *request < row.request);
    let sum = Amount::checked_sum(before.map(|(_, amount)| *amount));
    Ok(sum.ok_or_else(|| contradiction("the charges of its transaction do not fit", charge))?)
}

fn contradiction(what: &str, charge: &LoggedCharge) -> StoreError {
    StoreError::Contradiction(format!("{} cannot be corrected: {what}", charge.charge.row.request))
}

fn for_update(tx: &Tx) -> &'static str {
    match tx.backend() {
        Backend::Postgres => "FOR UPDATE",
        Backend::Sqlite => "",
    }
}
