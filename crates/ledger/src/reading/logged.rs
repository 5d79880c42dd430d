//! What the transparency log states about a tenant's request.

use domain::{RequestId, scope::TenantScope};
use sea_orm::DatabaseConnection;
use store::StoreError;
use uuid::Uuid;

use super::{ClosedCharge, closed_charge, rows};
use crate::sql_store::request_statement;

/// A terminal row with its batch of the log.
#[derive(Debug, Clone)]
pub struct LoggedCharge {
    /// The row.
    pub charge: ClosedCharge,
    /// The batch that has its leaf; `None` for a row that is older than the log.
    pub log_batch: Option<Uuid>,
}

impl LoggedCharge {
    /// The statement, with the request's record as the request log keeps it.
    pub fn statement(&self, record: Option<&str>) -> String {
        request_statement(&self.charge.row, self.charge.closed_at, record)
    }
}

/// The tenant's own charge of one request; `None` when it is open, unknown or somebody else's.
///
/// # Errors
/// What the database says.
pub async fn logged_charge(
    connection: &DatabaseConnection,
    scope: TenantScope,
    request: RequestId,
) -> Result<Option<LoggedCharge>, StoreError> {
    let sql = "SELECT request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
               price_version, tx_id, closed_at_ms, log_batch FROM charge WHERE request_id = $1 AND tenant_id = $2";
    let values = vec![request.as_uuid().into(), scope.tenant().as_uuid().into()];
    let found = rows(connection, sql, values).await?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some(LoggedCharge {
        charge: closed_charge(row)?,
        log_batch: row.try_get("", "log_batch")?,
    }))
}
