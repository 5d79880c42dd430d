//! Reading the log: one request of a tenant, or pages for an operator.

use domain::{KeyId, RequestId, TenantId, request::RequestRecord, scope::TenantScope};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement, Value};
use store::StoreError;

/// Which requests an operator wants to see.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// With one key.
    pub key: Option<KeyId>,
    /// Of one model.
    pub model: Option<String>,
    /// That ended for one reason.
    pub reason: Option<domain::request::Reason>,
    /// Older than this one: the paging cursor.
    pub before: Option<RequestId>,
}

/// A page of requests, newest first.
pub type RequestPage = Vec<RequestRecord>;

/// One request of the tenant; `None` when it is unknown, still open or somebody else's.
///
/// # Errors
/// What the database says.
pub async fn find(
    connection: &DatabaseConnection,
    scope: TenantScope,
    id: RequestId,
) -> Result<Option<RequestRecord>, StoreError> {
    let sql = "SELECT record_json FROM request WHERE id = $1 AND tenant_id = $2";
    let values = vec![id.as_uuid().into(), scope.tenant().as_uuid().into()];
    rows(connection, sql, values).await?.first().map(read).transpose()
}

/// The record of one request of the tenant as it is stored, which is what the transparency log states; `None` as with
/// [`find`].
///
/// # Errors
/// What the database says.
pub async fn find_text(
    connection: &DatabaseConnection,
    scope: TenantScope,
    id: RequestId,
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT record_json FROM request WHERE id = $1 AND tenant_id = $2";
    let values = vec![id.as_uuid().into(), scope.tenant().as_uuid().into()];
    let found = rows(connection, sql, values).await?;
    Ok(found.first().map(|row| row.try_get("", "record_json")).transpose()?)
}

/// One request of any tenant.
///
/// # Errors
/// What the database says.
pub async fn operator_find(
    connection: &DatabaseConnection,
    id: RequestId,
) -> Result<Option<RequestRecord>, StoreError> {
    let sql = "SELECT record_json FROM request WHERE id = $1";
    rows(connection, sql, vec![id.as_uuid().into()])
        .await?
        .first()
        .map(read)
        .transpose()
}

/// A page of requests, newest first.
///
/// # Errors
/// What the database says.
pub async fn operator_list(
    connection: &DatabaseConnection,
    filter: &Filter,
    limit: u32,
) -> Result<RequestPage, StoreError> {
    let mut conditions = vec!["TRUE".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut condition = |column: &str, comparison: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{column} {comparison} ${}", values.len()));
    };
    if let Some(tenant) = filter.tenant {
        condition("tenant_id", "=", tenant.as_uuid().into());
    }
    if let Some(key) = filter.key {
        condition("key_id", "=", key.as_uuid().into());
    }
    if let Some(model) = &filter.model {
        condition("model", "=", model.clone().into());
    }
    if let Some(reason) = filter.reason {
        condition("reason", "=", reason.as_str().into());
    }
    if let Some(before) = filter.before {
        condition("id", "<", before.as_uuid().into());
    }
    let sql = format!(
        "SELECT record_json FROM request WHERE {} ORDER BY id DESC LIMIT {limit}",
        conditions.join(" AND ")
    );
    rows(connection, &sql, values).await?.iter().map(read).collect()
}

async fn rows(connection: &DatabaseConnection, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, StoreError> {
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    Ok(connection.query_all_raw(statement).await?)
}

pub(crate) fn read(row: &QueryResult) -> Result<RequestRecord, StoreError> {
    let text: String = row.try_get("", "record_json")?;
    serde_json::from_str(&text).map_err(|_| StoreError::damaged("request record"))
}
