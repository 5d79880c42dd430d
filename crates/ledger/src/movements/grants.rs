//! Grants: credit that is given or was paid for, each a lot of its own, and accounts for it.

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use serde::{Deserialize, Serialize};
use store::{StoreError, Tx, audit::Actor};

use super::{lock_account, post};
use crate::{
    LedgerError,
    chart::{Account, LotKind},
    posting::{Posting, Transaction, transaction_id},
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
}

/// Opens the account of a new tenant, with nothing in it.
///
/// # Errors
/// What the database says.
pub async fn open_account(tx: &Tx, tenant: TenantId) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO acct (tenant_id, available, held, debt, version) VALUES ($1, 0, 0, 0, 0)",
        vec![tenant.as_uuid().into()],
    )
    .await?;
    Ok(())
}

/// Gives credit. Incoming paid credit pays debt first; the rest becomes a lot.
///
/// # Errors
/// [`LedgerError::InvalidAmount`] for nothing or less, [`LedgerError::ExpiryPassed`], [`LedgerError::Duplicate`] when
/// the source was granted before, and what the database says.
pub async fn grant(tx: &Tx, actor: &Actor, grant: &Grant) -> Result<Granted, LedgerError> {
    if grant.amount <= Amount::ZERO {
        return Err(LedgerError::InvalidAmount("the amount of a grant must be more than 0"));
    }
    let (balance, _) = lock_account(tx, grant.tenant).await?;
    let now = tx.now().await?;
    if grant.expires_at.is_some_and(|expiry| expiry <= now) {
        return Err(LedgerError::ExpiryPassed);
    }
    let paid_debt = match grant.kind {
        GrantKind::Payment => balance.debt.min(grant.amount),
        GrantKind::Promotion | GrantKind::Goodwill => Amount::ZERO,
    };
    let credit = grant.amount.less(paid_debt);
    let available = balance.available.checked_add(credit);
    let available = available
        // what is held comes back: the two together must fit as well
        .filter(|available| available.checked_add(balance.held).is_some())
        .ok_or(LedgerError::InvalidAmount(
            "the balance would exceed the largest amount",
        ))?;
    let lot = (!credit.is_zero()).then(LotId::generate);
    write_posting(tx, actor, grant, (lot, credit), paid_debt, now).await?;
    if let Some(lot) = lot {
        insert_lot(tx, grant, lot, credit, now).await?;
    }
    tx.execute(
        "UPDATE acct SET available = available + $2, debt = debt - $3, version = version + 1 WHERE tenant_id = $1",
        vec![
            grant.tenant.as_uuid().into(),
            credit.nanos().into(),
            paid_debt.nanos().into(),
        ],
    )
    .await?;
    Ok(Granted {
        lot,
        paid_debt,
        available,
    })
}

async fn write_posting(
    tx: &Tx,
    actor: &Actor,
    grant: &Grant,
    (lot, credit): (Option<LotId>, Amount),
    paid_debt: Amount,
    now: UnixMs,
) -> Result<(), LedgerError> {
    let mut posting = Posting::default();
    if let Some(lot) = lot {
        let account = Account::Credit(grant.kind.lot_kind(), grant.tenant, lot);
        posting.transfer(grant.kind.debit(), account, credit);
    }
    posting.transfer(grant.kind.debit(), Account::CustomerDebt(grant.tenant), paid_debt);
    let transaction = Transaction {
        id: transaction_id(&[b"grant", grant.tenant.as_uuid().as_bytes(), grant.source.as_bytes()]),
        kind: "grant",
        tenant: Some(grant.tenant),
        reference: grant.source.clone(),
        posting,
    };
    post(tx, actor, transaction, now).await
}

async fn insert_lot(tx: &Tx, grant: &Grant, lot: LotId, credit: Amount, now: UnixMs) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO lot (id, tenant_id, kind, granted, remaining, expires_at_ms, created_at_ms) \
         VALUES ($1, $2, $3, $4, $4, $5, $6)",
        vec![
            lot.as_uuid().into(),
            grant.tenant.as_uuid().into(),
            grant.kind.lot_kind().as_str().into(),
            credit.nanos().into(),
            grant.expires_at.map(|at| at.0).into(),
            now.0.into(),
        ],
    )
    .await?;
    Ok(())
}
