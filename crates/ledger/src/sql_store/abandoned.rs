//! Reading holds that nobody will end any more, page by page.

use domain::RequestId;
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use store::{Backend, Database, StoreError};

use super::rows::read_hold;
use crate::{
    items::{AbandonedHold, Progress},
    ledger_store::Abandoned,
};

const COLUMNS: &str = "SELECT h.request_id, h.tenant_id, h.key_id, h.amount, h.budgets_json, h.price_version, h.provider, \
     h.provider_estimate, h.progress_json FROM hold h";

/// One page, in order of request ids, after the given one.
pub async fn read_page(
    database: &Database,
    which: Abandoned,
    after: RequestId,
    limit: u32,
) -> Result<Vec<AbandonedHold>, StoreError> {
    let (condition, mut values) = condition(database.backend(), which);
    let (after_no, limit_no) = (values.len() + 1, values.len() + 2);
    values.extend([after.as_uuid().into(), i64::from(limit).into()]);
    let sql = format!("{COLUMNS} {condition} AND h.request_id > ${after_no} ORDER BY h.request_id LIMIT ${limit_no}");
    let connection = database.readers();
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(read_abandoned).collect()
}

fn condition(backend: Backend, which: Abandoned) -> (&'static str, Vec<Value>) {
    match (which, backend) {
        (Abandoned::EarlierBoots(node), _) => (
            "WHERE h.node_id = $1 AND h.boot <> $2",
            vec![node.id.as_uuid().into(), node.boot.into()],
        ),
        (Abandoned::OlderThan(age), backend) => {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            let condition = match backend {
                Backend::Postgres => {
                    "WHERE h.created_at_ms < (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT - $1"
                }
                Backend::Sqlite => "WHERE h.created_at_ms < CAST(unixepoch('subsec') * 1000 AS INTEGER) - $1",
            };
            (condition, vec![age_ms.into()])
        }
        (Abandoned::Retired, _) => (
            "JOIN node n ON n.id = h.node_id AND n.boot = h.boot WHERE n.retired_at_ms >= h.created_at_ms",
            Vec::new(),
        ),
    }
}

fn read_abandoned(row: &QueryResult) -> Result<AbandonedHold, StoreError> {
    let text: String = row.try_get("", "progress_json")?;
    let progress: Option<Progress> = if text.is_empty() {
        None
    } else {
        // progress that cannot be read is none: the customer then pays nothing
        serde_json::from_str(&text)
            .inspect_err(|error| tracing::error!(%error, "the progress of a hold cannot be read"))
            .ok()
    };
    Ok(AbandonedHold {
        hold: read_hold(row)?,
        progress,
    })
}
