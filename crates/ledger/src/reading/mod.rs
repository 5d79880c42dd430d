//! Reading the books: balances, charges, transactions. Nothing here is for update.

use domain::{Amount, RequestId, TenantId, clock::UnixMs, scope::TenantScope};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement, Value};
use store::StoreError;

mod books;
mod budgets;
mod corrections;
mod logged;
mod payable;

pub use books::{EntryView, LotView, TransactionView, operator_lots, operator_transactions};
pub use budgets::budgets;
pub use corrections::{CorrectionView, corrections, operator_corrections};
pub use logged::{LoggedCharge, logged_charge};
pub(crate) use logged::{charges_of_transaction, operator_logged_charge};
pub use payable::operator_booked_cost;

use crate::{items::ChargeRow, rules::Balance, sql_store::read_charge};

/// A terminal row with the instant at which it was written.
#[derive(Debug, Clone)]
pub struct ClosedCharge {
    /// The row.
    pub row: ChargeRow,
    /// When it was written.
    pub closed_at: UnixMs,
}

pub(crate) async fn rows(
    connection: &impl ConnectionTrait,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Vec<QueryResult>, StoreError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_all_raw(statement).await?)
}

/// A tenant's balance; `None` when it has no account.
///
/// # Errors
/// What the database says.
pub async fn balance(connection: &DatabaseConnection, tenant: TenantId) -> Result<Option<Balance>, StoreError> {
    let sql = "SELECT available, held, debt, claimed FROM acct WHERE tenant_id = $1";
    let found = rows(connection, sql, vec![tenant.as_uuid().into()]).await?;
    found
        .first()
        .map(|row| {
            Ok(Balance {
                available: amount(row, "available")?,
                held: amount(row, "held")?,
                debt: amount(row, "debt")?,
                claimed: amount(row, "claimed")?,
            })
        })
        .transpose()
}

/// The tenant's own charge of one request; `None` when it is open, unknown or somebody else's.
///
/// # Errors
/// What the database says.
pub async fn charge(
    connection: &DatabaseConnection,
    scope: TenantScope,
    request: RequestId,
) -> Result<Option<ClosedCharge>, StoreError> {
    let sql = "SELECT request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
               price_version, tx_id, closed_at_ms FROM charge WHERE request_id = $1 AND tenant_id = $2";
    let values = vec![request.as_uuid().into(), scope.tenant().as_uuid().into()];
    rows(connection, sql, values)
        .await?
        .first()
        .map(closed_charge)
        .transpose()
}

/// What an open request of the tenant has reserved; `None` when it is not open.
///
/// # Errors
/// What the database says.
pub async fn open_hold(
    connection: &DatabaseConnection,
    scope: TenantScope,
    request: RequestId,
) -> Result<Option<Amount>, StoreError> {
    let sql = "SELECT amount FROM hold WHERE request_id = $1 AND tenant_id = $2";
    let values = vec![request.as_uuid().into(), scope.tenant().as_uuid().into()];
    let found = rows(connection, sql, values).await?;
    found.first().map(|row| amount(row, "amount")).transpose()
}

/// The charge of one request of any tenant, for an operator; `None` when it is open or unknown.
///
/// # Errors
/// What the database says.
pub async fn operator_charge(
    connection: &DatabaseConnection,
    request: RequestId,
) -> Result<Option<ClosedCharge>, StoreError> {
    let sql = "SELECT request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
               price_version, tx_id, closed_at_ms FROM charge WHERE request_id = $1";
    let found = rows(connection, sql, vec![request.as_uuid().into()]).await?;
    found.first().map(closed_charge).transpose()
}

/// The charges of a page of requests, for an operator, in no order; open and unknown ones are left out.
///
/// # Errors
/// What the database says.
pub async fn operator_charges(
    connection: &impl ConnectionTrait,
    requests: &[RequestId],
) -> Result<Vec<ClosedCharge>, StoreError> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (1..=requests.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
         price_version, tx_id, closed_at_ms FROM charge WHERE request_id IN ({})",
        places.join(", ")
    );
    let values = requests.iter().map(|request| request.as_uuid().into()).collect();
    rows(connection, sql, values).await?.iter().map(closed_charge).collect()
}

fn closed_charge(row: &QueryResult) -> Result<ClosedCharge, StoreError> {
    Ok(ClosedCharge {
        row: read_charge(row)?,
        closed_at: UnixMs(row.try_get("", "closed_at_ms")?),
    })
}

pub(crate) fn amount(row: &QueryResult, column: &str) -> Result<Amount, StoreError> {
    Ok(Amount::from_nanos(row.try_get("", column)?))
}
