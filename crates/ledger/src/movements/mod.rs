//! Movements outside the writer: they run in their caller's transaction, take locks in the same order (account, lot,
//! claim), and are conditional.

mod expiry;
mod grants;
mod lots;
mod release;
mod withdrawal;

pub use expiry::{Expired, expire_lots};
pub use grants::{Grant, GrantKind, Granted, grant, open_account};
pub use release::{Release, Released, release};
pub use withdrawal::{Withdrawal, Withdrawn, withdraw};

use domain::{Amount, TenantId};
use store::{Backend, StoreError, Tx};

use crate::rules::Balance;

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
