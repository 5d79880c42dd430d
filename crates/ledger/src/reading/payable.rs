//! What the ledger booked as owed to a provider.

use domain::{Amount, clock::UnixMs};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, TransactionTrait};
use store::StoreError;

use super::rows;
use crate::chart::Account;

/// What was booked as owed to a provider from one instant (inside) to another (outside): the cost of charged requests and
/// what the operator bears beside it.
///
/// # Errors
/// What the database says.
pub async fn operator_booked_cost(
    connection: &DatabaseConnection,
    provider: &str,
    from: UnixMs,
    to: UnixMs,
) -> Result<Amount, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(e.amount), 0) AS TEXT) AS owed FROM tx AS t JOIN entry AS e ON e.tx_id = t.id \
         WHERE t.at_ms >= $1 AND t.at_ms < $2 AND e.account = $3";
    let account = Account::ProviderPayable(provider.to_owned()).to_string();
    let tx = connection.begin().await?;
    if tx.get_database_backend() == DbBackend::Postgres {
        // a month of large books takes its time, and nobody waits for it
        tx.execute_unprepared("SET LOCAL statement_timeout = '10min'").await?;
    }
    let found = rows(&tx, sql, vec![from.0.into(), to.0.into(), account.into()]).await?;
    tx.rollback().await?;
    let owed: String = found
        .first()
        .map_or_else(|| Ok("0".to_owned()), |row| row.try_get("", "owed"))?;
    // a credit is negative
    let nanos = owed.parse::<i128>().ok().and_then(|sum| i64::try_from(-sum).ok());
    nanos
        .map(Amount::from_nanos)
        .ok_or_else(|| StoreError::damaged("sum of a provider's costs"))
}
