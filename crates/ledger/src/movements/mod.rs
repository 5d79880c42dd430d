//! Movements outside the writer: they run in their caller's transaction, take locks in the same order (account, lot,
//! claim), and are conditional.

mod correcting;
mod expiry;
mod grants;
mod lots;
mod release;
mod withdrawal;

pub use correcting::{Corrected, Correction, GivenBack, correct};
pub use expiry::{Expired, expire_lots};
pub use grants::{Grant, GrantKind, Granted, grant, open_account};
pub use release::{Release, Released, release};
pub use withdrawal::{Withdrawal, Withdrawn, withdraw};

use domain::{Amount, TenantId, clock::UnixMs};
use store::{Backend, StoreError, Tx, audit::Actor};
use uuid::Uuid;

use crate::{LedgerError, posting::Transaction, rules::Balance, sql_store::write_transaction};

/// Locks a tenant's account. Answers its balance, and its version, which every movement counts up.
async fn lock_account(tx: &Tx, tenant: TenantId) -> Result<(Balance, i64), StoreError> {
    let sql = match tx.backend() {
        Backend::Postgres => "SELECT available, held, debt, claimed, version FROM acct WHERE tenant_id = $1 FOR UPDATE",
        Backend::Sqlite => "SELECT available, held, debt, claimed, version FROM acct WHERE tenant_id = $1",
    };
    let rows = tx.query(sql, vec![tenant.as_uuid().into()]).await?;
    let row = rows.first().ok_or(StoreError::MissingReference)?;
    let balance = Balance {
        available: Amount::from_nanos(row.try_get("", "available")?),
        held: Amount::from_nanos(row.try_get("", "held")?),
        debt: Amount::from_nanos(row.try_get("", "debt")?),
        claimed: Amount::from_nanos(row.try_get("", "claimed")?),
    };
    Ok((balance, row.try_get("", "version")?))
}

/// A balance with more credit.
///
/// # Errors
/// [`LedgerError::InvalidAmount`] when it would not fit.
fn with_credit(balance: Balance, credit: Amount) -> Result<Balance, LedgerError> {
    let available = balance.available.checked_add(credit);
    let available = available
        // what is held comes back: the two together must fit as well
        .filter(|available| available.checked_add(balance.held).is_some())
        .ok_or(LedgerError::InvalidAmount(
            "the balance would exceed the largest amount",
        ))?;
    Ok(Balance { available, ..balance })
}

/// Writes that an account has received credit, and that debt was paid off.
async fn receive(tx: &Tx, tenant: TenantId, credit: Amount, paid_debt: Amount) -> Result<(), StoreError> {
    let sql =
        "UPDATE acct SET available = available + $2, debt = debt - $3, version = version + 1 WHERE tenant_id = $1";
    let values = vec![tenant.as_uuid().into(), credit.nanos().into(), paid_debt.nanos().into()];
    tx.execute(sql, values).await?;
    Ok(())
}

/// Refuses what was posted before. The account is locked, so nobody posts it meanwhile.
async fn refuse_repetition(tx: &Tx, transaction: Uuid) -> Result<(), LedgerError> {
    let sql = "SELECT id FROM tx WHERE id = $1";
    if tx.query(sql, vec![transaction.into()]).await?.is_empty() {
        return Ok(());
    }
    Err(LedgerError::Duplicate)
}

/// Writes a movement's transaction. One that moves nothing yet has no entries; it is written all the same, because its
/// id is what keeps the movement from being made twice.
async fn post(tx: &Tx, actor: &Actor, transaction: Transaction, now: UnixMs) -> Result<(), LedgerError> {
    match write_transaction(tx, actor.as_str(), &transaction, now).await {
        Err(StoreError::Conflict) => Err(LedgerError::Duplicate),
        other => Ok(other?),
    }
}
