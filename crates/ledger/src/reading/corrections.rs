//! Corrections of charges, as they were posted.

use domain::{Amount, RequestId, TenantId, clock::UnixMs, scope::TenantScope};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Value};
use store::StoreError;
use uuid::Uuid;

use super::{amount, rows};
use crate::corrections::{CorrectionKind, TRANSACTION_KINDS};

/// A correction that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectionView {
    /// Its transaction.
    pub transaction: Uuid,
    /// Of which request.
    pub request: RequestId,
    /// Whose request.
    pub tenant: TenantId,
    /// Why.
    pub kind: CorrectionKind,
    /// How much was given.
    pub amount: Amount,
    /// Who made it.
    pub actor: String,
    /// When.
    pub at: UnixMs,
}

impl CorrectionView {
    /// What is left of a charge after these corrections of its request.
    pub fn net_charge(charged: Amount, corrections: &[Self]) -> Amount {
        let lowering = corrections.iter().filter(|correction| correction.kind.lowers_charge());
        lowering.fold(charged, |left, correction| left.less(correction.amount))
    }
}

/// The corrections of one of the tenant's own requests, in the order in which they were made.
///
/// # Errors
/// What the database says.
pub async fn corrections(
    connection: &DatabaseConnection,
    scope: TenantScope,
    request: RequestId,
) -> Result<Vec<CorrectionView>, StoreError> {
    let mut found = operator_corrections(connection, &[request]).await?;
    found.retain(|correction| correction.tenant == scope.tenant());
    Ok(found)
}

/// The corrections of some requests of any tenant, for an operator, in the order in which they were made.
///
/// # Errors
/// What the database says.
pub async fn operator_corrections(
    connection: &impl ConnectionTrait,
    requests: &[RequestId],
) -> Result<Vec<CorrectionView>, StoreError> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (1..=requests.len()).map(|place| format!("${place}")).collect();
    // its one debit is what was given
    let sql = format!(
        "SELECT t.id, t.kind, t.tenant_id, t.reference, t.actor, t.at_ms, e.amount FROM tx t \
         JOIN entry e ON e.tx_id = t.id AND e.amount > 0 \
         WHERE t.kind IN {TRANSACTION_KINDS} AND t.reference IN ({}) ORDER BY t.seq",
        places.join(", ")
    );
    let values: Vec<Value> = requests.iter().map(|request| request.to_string().into()).collect();
    rows(connection, sql, values).await?.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<CorrectionView, StoreError> {
    let (kind, reference): (String, String) = (row.try_get("", "kind")?, row.try_get("", "reference")?);
    let request = reference.parse().map_err(|_| StoreError::damaged("tx.reference"))?;
    Ok(CorrectionView {
        transaction: row.try_get("", "id")?,
        request,
        tenant: TenantId::from_uuid(row.try_get("", "tenant_id")?),
        kind: CorrectionKind::parse(&kind).ok_or_else(|| StoreError::damaged("tx.kind"))?,
        amount: amount(row, "amount")?,
        actor: row.try_get("", "actor")?,
        at: UnixMs(row.try_get("", "at_ms")?),
    })
}
