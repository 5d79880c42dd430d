//! What the transparency log states about a tenant's request.

use domain::{Amount, RequestId, scope::TenantScope};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use store::{StoreError, Tx, bulk::Rows};
use transparency::LeafKind;
use uuid::Uuid;

use super::{ClosedCharge, amount, closed_charge, rows};
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

const CHARGE: &str = "SELECT request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
     price_version, tx_id, closed_at_ms, log_batch FROM charge WHERE request_id = $1";

/// The tenant's own charge of one request; `None` when it is open, unknown or somebody else's.
///
/// # Errors
/// What the database says.
pub async fn logged_charge(
    connection: &DatabaseConnection,
    scope: TenantScope,
    request: RequestId,
) -> Result<Option<LoggedCharge>, StoreError> {
    let logged = operator_logged_charge(connection, request).await?;
    Ok(logged.filter(|logged| logged.charge.row.tenant == scope.tenant()))
}

/// The charge of one request of any tenant, for an operator; `None` when it is open or unknown.
///
/// # Errors
/// What the database says.
pub(crate) async fn operator_logged_charge(
    connection: &impl ConnectionTrait,
    request: RequestId,
) -> Result<Option<LoggedCharge>, StoreError> {
    let found = rows(connection, CHARGE, vec![request.as_uuid().into()]).await?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some(LoggedCharge {
        charge: closed_charge(row)?,
        log_batch: row.try_get("", "log_batch")?,
    }))
}

/// All requests that a charge's transaction charged, with their charges. The log's batch names them; a charge that is older
/// than the log is looked for among all of its tenant.
///
/// # Errors
/// What the database says.
pub(crate) async fn charges_of_transaction(
    tx: &Tx,
    charge: &LoggedCharge,
) -> Result<Vec<(RequestId, Amount)>, StoreError> {
    const BY_ID: &str = "SELECT c.request_id, c.amount FROM {rows} JOIN charge c ON c.request_id = r.id \
         WHERE c.tx_id = r.tx_id";
    const BY_TENANT: &str = "SELECT request_id, amount FROM charge WHERE tenant_id = $1 AND tx_id = $2";
    let row = &charge.charge.row;
    let Some(transaction) = row.transaction else {
        return Ok(Vec::new());
    };
    let logged = match charge.log_batch {
        Some(batch) => transparency_log::leaves_of(tx, batch).await?,
        None => Vec::new(),
    };
    let found = if logged.is_empty() {
        let values = vec![row.tenant.as_uuid().into(), transaction.into()];
        tx.query(BY_TENANT, values).await?
    } else {
        let requests = logged.iter().filter(|leaf| leaf.kind == LeafKind::Request);
        let ids = Rows::new()
            .uuids("id", requests.map(|leaf| leaf.id))
            .every_uuid("tx_id", transaction);
        tx.query_rows(BY_ID, &ids).await?
    };
    let read = found.iter().map(|row| {
        let request = RequestId::from_uuid(row.try_get("", "request_id")?);
        Ok((request, amount(row, "amount")?))
    });
    read.collect()
}
