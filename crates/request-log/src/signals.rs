//! What incidents are found by: requests that another model answered, requests that an upstream has failed. Both are few and
//! have an index of their own.

use domain::{RequestId, clock::UnixMs, request::RequestRecord};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use store::StoreError;
use uuid::Uuid;

use crate::reading::read;

/// Requests that another model answered, admitted since, in the order of their ids.
///
/// # Errors
/// What the database says.
pub async fn operator_substituted(
    connection: &DatabaseConnection,
    since: UnixMs,
    after: Option<RequestId>,
    limit: u32,
) -> Result<Vec<RequestRecord>, StoreError> {
    let sql = format!(
        "SELECT id, record_json FROM request WHERE reason = 'model_substituted' AND id >= $1 AND id > $2 ORDER BY id LIMIT {limit}"
    );
    let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
    readable(connection, &sql, since, after).await
}

/// Requests that an upstream has failed, if only in one of their attempts, admitted since, the newest first.
///
/// # Errors
/// What the database says.
pub async fn operator_failed(
    connection: &DatabaseConnection,
    since: UnixMs,
    before: Option<RequestId>,
    limit: u32,
) -> Result<Vec<RequestRecord>, StoreError> {
    let sql = format!(
        "SELECT id, record_json FROM request WHERE upstream_failures > 0 AND id >= $1 AND id < $2 ORDER BY id DESC LIMIT {limit}"
    );
    let before = before.map_or(Uuid::max(), |id| id.as_uuid());
    readable(connection, &sql, since, before).await
}

/// How many requests a provider's answer won that were admitted since one instant and ended since another; it stops to count
/// at a number.
///
/// # Errors
/// What the database says.
pub async fn operator_count_won(
    connection: &DatabaseConnection,
    provider: &str,
    admitted: UnixMs,
    ended: UnixMs,
    at_most: u64,
) -> Result<u64, StoreError> {
    let sql = format!(
        "SELECT COUNT(*) AS n FROM (SELECT 1 FROM request WHERE id >= $1 AND provider = $2 \
         AND started_at_ms + duration_ms >= $3 LIMIT {at_most}) AS won"
    );
    let values = vec![
        RequestId::first_at(admitted).as_uuid().into(),
        provider.into(),
        ended.0.into(),
    ];
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    let row = connection.query_one_raw(statement).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get("", "n"))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// A page of what can be read; an empty one is the end. A row that cannot be read is passed over, so that it does not keep
/// the others from being seen.
async fn readable(
    connection: &DatabaseConnection,
    sql: &str,
    since: UnixMs,
    mut cursor: Uuid,
) -> Result<Vec<RequestRecord>, StoreError> {
    loop {
        let values = vec![RequestId::first_at(since).as_uuid().into(), cursor.into()];
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        let rows = connection.query_all_raw(statement).await?;
        let Some(last) = rows.last() else {
            return Ok(Vec::new());
        };
        cursor = last.try_get("", "id")?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            match read(row) {
                Ok(record) => found.push(record),
                Err(error) => {
                    let id: Uuid = row.try_get("", "id")?;
                    tracing::error!(request_id = %RequestId::from_uuid(id), %error, "a request's record cannot be read");
                }
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
}
