//! Grants: credit that is given or was paid for, each a lot of its own, and accounts for it.

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use serde::{Deserialize, Serialize};
use store::{Tx, audit::Actor};

use super::{lock_account, lots::insert_lot, post, receive, with_credit};
use crate::{
    LedgerError,
    archive::{Movement, gate, record::LotRow, standing, transaction_row},
    chart::{Account, LotKind},
    posting::{Posting, Transaction, transaction_id},
    rules::Balance,
};

/// Why credit is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Paid for outside the card flow (a bank transfer): paid credit.
    Payment,
    /// A sign-up bonus or promotion: promotional credit.
    Promotion,
    /// To make up for something: promotional credit.
    Goodwill,
}

impl GrantKind {
    const fn lot_kind(self) -> LotKind {
        match self {
            Self::Payment => LotKind::Paid,
            Self::Promotion | Self::Goodwill => LotKind::Promo,
        }
    }

    const fn debit(self) -> Account {
        match self {
            Self::Payment => Account::Bank,
            Self::Promotion => Account::PromoExpense,
            Self::Goodwill => Account::Goodwill,
        }
    }
}

/// Credit to give.
#[derive(Debug, Clone)]
pub struct Grant {
    /// To whom.
    pub tenant: TenantId,
    /// How much; more than nothing.
    pub amount: Amount,
    /// Why.
    pub kind: GrantKind,
    /// When what is left of it expires, by the database's clock; `None` for never.
    pub expires_at: Option<UnixMs>,
    /// What identifies the grant: given twice, it is posted once.
    pub source: String,
}

/// What a grant did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The new lot; `None` when all of it paid off debt.
    pub lot: Option<LotId>,
    /// How much paid off debt.
    pub paid_debt: Amount,
    /// The available credit afterwards.
    pub available: Amount,
    /// For the archive, after the commit.
    pub movement: Movement,
}

/// Opens the account of a new tenant, with nothing in it. What it answers is for the archive, after the commit.
///
/// # Errors
/// [`LedgerError::AwaitsReplay`] while a restored database waits for its archives; what the database says.
pub async fn open_account(tx: &Tx, tenant: TenantId) -> Result<Movement, LedgerError> {
    gate::refuse_while_closed(tx).await?;
    tx.execute(
        "INSERT INTO acct (tenant_id, available, held, debt, version) VALUES ($1, 0, 0, 0, 0)",
        vec![tenant.as_uuid().into()],
    )
    .await?;
    Ok(Movement::step(tenant, 0, tx.now().await?))
}

/// Gives credit. Incoming paid credit pays debt first; the rest becomes a lot.
///
/// # Errors
/// [`LedgerError::InvalidAmount`] for nothing or less, [`LedgerError::ExpiryPassed`], [`LedgerError::Duplicate`] when
/// the source was granted before, [`LedgerError::AwaitsReplay`] while a restored database waits for its archives, and
/// what the database says.
pub async fn grant(tx: &Tx, actor: &Actor, grant: &Grant) -> Result<Granted, LedgerError> {
    if grant.amount <= Amount::ZERO {
        return Err(LedgerError::InvalidAmount("the amount of a grant must be more than 0"));
    }
    gate::refuse_while_closed(tx).await?;
    let (balance, version) = lock_account(tx, grant.tenant).await?;
    let now = tx.now().await?;
    if grant.expires_at.is_some_and(|expiry| expiry <= now) {
        return Err(LedgerError::ExpiryPassed);
    }
    let paid_debt = match grant.kind {
        GrantKind::Payment => balance.debt.min(grant.amount),
        GrantKind::Promotion | GrantKind::Goodwill => Amount::ZERO,
    };
    let credit = grant.amount.less(paid_debt);
    let after = Balance {
        debt: balance.debt.less(paid_debt),
        ..with_credit(balance, credit)?
    };
    let lot = (!credit.is_zero()).then(LotId::generate);
    let transaction = posting(grant, lot, credit, paid_debt);
    let mut movement = Movement::step(grant.tenant, version + 1, now);
    let part = &mut movement.0;
    part.transactions
        .push(transaction_row(&transaction, actor.as_str(), now));
    post(tx, actor, transaction, now).await?;
    if let Some(lot) = lot {
        let row = lot_row(grant, lot, credit, now);
        insert_lot(tx, grant.tenant, &row).await?;
        part.granted.push(row);
    }
    receive(tx, grant.tenant, credit, paid_debt).await?;
    part.was = standing(balance);
    part.now = standing(after);
    Ok(Granted {
        lot,
        paid_debt,
        available: after.available,
        movement,
    })
}

fn lot_row(grant: &Grant, lot: LotId, credit: Amount, now: UnixMs) -> LotRow {
    LotRow {
        id: lot.as_uuid(),
        kind: grant.kind.lot_kind().as_str().to_owned(),
        granted: credit.nanos(),
        remaining: credit.nanos(),
        expires_at_ms: grant.expires_at.map(|at| at.0),
        created_at_ms: now.0,
    }
}

fn posting(grant: &Grant, lot: Option<LotId>, credit: Amount, paid_debt: Amount) -> Transaction {
    let mut posting = Posting::default();
    if let Some(lot) = lot {
        let account = Account::Credit(grant.kind.lot_kind(), grant.tenant, lot);
        posting.transfer(grant.kind.debit(), account, credit);
    }
    posting.transfer(grant.kind.debit(), Account::CustomerDebt(grant.tenant), paid_debt);
    Transaction {
        id: transaction_id(&[b"grant", grant.tenant.as_uuid().as_bytes(), grant.source.as_bytes()]),
        kind: "grant",
        tenant: Some(grant.tenant),
        reference: grant.source.clone(),
        posting,
    }
}
