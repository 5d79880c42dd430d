//! What requests brought in and what they cost, summed by the database.
//!
//! The one place where this crate reads a table that it does not own: the sums need the ledger's charges beside the
//! models and pools of the log, and millions of rows are joined where they are.

use domain::{RequestId, TenantId};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value};
use store::StoreError;

use crate::Window;

/// What the sums are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The catalog's model.
    Model,
    /// The pool of the winning attempt.
    Pool,
    /// The tenant.
    Tenant,
    /// Every request by itself.
    Request,
}

/// Which charges are summed.
#[derive(Debug, Clone)]
pub struct MarginFilter {
    /// When the requests were admitted.
    pub window: Window,
    /// What the sums are of.
    pub group_by: GroupBy,
    /// The key after which the page begins, as [`Margin::key`] wrote it.
    pub after: Option<String>,
}

/// The sums of one group, in nano-USD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Margin {
    /// The model, the pool's id, the tenant's id or the request's id; empty where the log does not know.
    pub key: String,
    /// How many requests ended.
    pub requests: i64,
    /// What customers paid, less what was given back of it since.
    pub revenue: i128,
    /// What was given as goodwill.
    pub goodwill: i128,
    /// What is owed to providers for them: for winning attempts, and what the operator bears beside them, whenever it
    /// became known.
    pub cost: i128,
}

/// Sums in the order of their keys. Every request that has a charge row counts, also those that cost nothing.
///
/// # Errors
/// What the database says; [`StoreError::Damaged`] for a key that is none.
pub async fn operator_margins(
    connection: &DatabaseConnection,
    filter: &MarginFilter,
    limit: u32,
) -> Result<Vec<Margin>, StoreError> {
    let backend = connection.get_database_backend();
    let key = key_of(filter.group_by, backend);
    let (first, end) = filter.window.ids();
    let mut values: Vec<Value> = vec![
        first.as_uuid().into(),
        end.as_uuid().into(),
        first.to_string().into(),
        end.to_string().into(),
    ];
    let mut after = String::new();
    if let Some(cursor) = &filter.after {
        values.push(cursor_value(filter.group_by, cursor)?);
        after = format!("AND {key} > $5");
    }
    let reference = reference_of(backend);
    let sql = format!(
        "SELECT {key} AS group_key, COUNT(*) AS requests, \
         CAST(SUM(c.amount - COALESCE(g.given_back, 0)) AS TEXT) AS revenue, \
         CAST(SUM(COALESCE(g.goodwill, 0)) AS TEXT) AS goodwill, \
         CAST(SUM(c.provider_cost + c.unbilled + COALESCE(a.amount, 0)) AS TEXT) AS cost \
         FROM charge AS c LEFT JOIN request AS r ON r.id = c.request_id \
         LEFT JOIN ({COSTS_APART}) AS a ON a.reference = {reference} \
         LEFT JOIN ({GIVEN}) AS g ON g.reference = {reference} \
         WHERE c.request_id >= $1 AND c.request_id < $2 {after} GROUP BY {key} ORDER BY {key} LIMIT {limit}"
    );
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(|row| margin(row, filter.group_by)).collect()
}

/// What a request cost beside its charge row: after it was charged, or sent before its hold was refused. The debits; their
/// credits are what is owed to providers.
const COSTS_APART: &str = "SELECT t.reference, CAST(SUM(e.amount) AS BIGINT) AS amount \
     FROM tx AS t JOIN entry AS e ON e.tx_id = t.id \
     WHERE t.kind IN ('late_cost', 'refused_cost') AND t.reference >= $3 AND t.reference < $4 AND e.amount > 0 \
     GROUP BY t.reference";

/// What corrections gave: their debits.
const GIVEN: &str = "SELECT t.reference, \
     CAST(SUM(CASE WHEN t.kind = 'request_goodwill' THEN 0 ELSE e.amount END) AS BIGINT) AS given_back, \
     CAST(SUM(CASE WHEN t.kind = 'request_goodwill' THEN e.amount ELSE 0 END) AS BIGINT) AS goodwill \
     FROM tx AS t JOIN entry AS e ON e.tx_id = t.id \
     WHERE t.kind IN ('true_up', 'request_refund', 'request_goodwill') AND t.reference >= $3 AND t.reference < $4 \
     AND e.amount > 0 GROUP BY t.reference";

/// A charge's request as transactions name it.
const fn reference_of(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "'req_' || REPLACE(c.request_id::text, '-', '')",
        _ => "'req_' || LOWER(HEX(c.request_id))",
    }
}

const fn key_of(group_by: GroupBy, backend: DbBackend) -> &'static str {
    match (group_by, backend) {
        (GroupBy::Model, _) => "COALESCE(r.model, '')",
        // what an upstream said is in the record too, and PostgreSQL takes no NUL out of JSON, wherever it is
        (GroupBy::Pool, DbBackend::Postgres) => {
            r"COALESCE(REPLACE(r.record_json, '\u0000', '\u0001')::json ->> 'pool', '')"
        }
        (GroupBy::Pool, _) => "COALESCE(json_extract(r.record_json, '$.pool'), '')",
        (GroupBy::Tenant, _) => "c.tenant_id",
        (GroupBy::Request, _) => "c.request_id",
    }
}

fn cursor_value(group_by: GroupBy, cursor: &str) -> Result<Value, StoreError> {
    let damaged = || StoreError::damaged("margin cursor");
    Ok(match group_by {
        GroupBy::Model | GroupBy::Pool => cursor.to_owned().into(),
        GroupBy::Tenant => cursor.parse::<TenantId>().map_err(|_| damaged())?.as_uuid().into(),
        GroupBy::Request => cursor.parse::<RequestId>().map_err(|_| damaged())?.as_uuid().into(),
    })
}

fn margin(row: &QueryResult, group_by: GroupBy) -> Result<Margin, StoreError> {
    let sum = |name: &str| -> Result<i128, StoreError> {
        let text: String = row.try_get("", name)?;
        text.parse().map_err(|_| StoreError::damaged("sum of charges"))
    };
    let key = match group_by {
        GroupBy::Model | GroupBy::Pool => row.try_get("", "group_key")?,
        GroupBy::Tenant => TenantId::from_uuid(row.try_get("", "group_key")?).to_string(),
        GroupBy::Request => RequestId::from_uuid(row.try_get("", "group_key")?).to_string(),
    };
    Ok(Margin {
        key,
        requests: row.try_get("", "requests")?,
        revenue: sum("revenue")?,
        goodwill: sum("goodwill")?,
        cost: sum("cost")?,
    })
}
