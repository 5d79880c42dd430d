//! What incidents are found by: requests that another model answered, requests that an upstream has failed. Both are few and
//! have an index of their own.

use domain::{RequestId, clock::UnixMs, request::RequestRecord};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, Value};
use store::StoreError;

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
        "SELECT record_json FROM request WHERE reason = 'model_substituted' AND id >= $1 AND id > $2 ORDER BY id LIMIT {limit}"
    );
    let after = after.unwrap_or_else(|| RequestId::first_at(UnixMs(0)));
    let values = vec![RequestId::first_at(since).as_uuid().into(), after.as_uuid().into()];
    records(connection, &sql, values).await
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
    let mut values: Vec<Value> = vec![RequestId::first_at(since).as_uuid().into()];
    let mut condition = "";
    if let Some(before) = before {
        values.push(before.as_uuid().into());
        condition = "AND id < $2";
    }
    let sql = format!(
        "SELECT record_json FROM request WHERE upstream_failures > 0 AND id >= $1 {condition} ORDER BY id DESC LIMIT {limit}"
    );
    records(connection, &sql, values).await
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

async fn records(
    connection: &DatabaseConnection,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<RequestRecord>, StoreError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    connection.query_all_raw(statement).await?.iter().map(read).collect()
}
