//! The audit log, for reading: who did what to which object.

use actix_web::{get, web::Json};
use domain::clock::UnixMs;
use serde::Serialize;
use serde_json::Value;
use store::audit::{self, AuditRow};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::ReadOperator,
    error::Answer,
    input::Params,
    page::{Page, PageParams},
    wire::Instant,
};

/// One change that was made.
#[derive(Serialize, ToSchema)]
struct AuditEntry {
    /// Counts up.
    seq: i64,
    recorded_at: Instant,
    /// Who: `operator:<token id>` or `system:<job>`.
    actor: String,
    /// What, as `object.verb`.
    #[schema(example = "tenant.update")]
    action: String,
    /// The object's id.
    subject: String,
    /// The object before; `null` when it was created.
    #[schema(value_type = Option<Object>, required)]
    before: Option<Value>,
    /// The object after; `null` when it was removed.
    #[schema(value_type = Option<Object>, required)]
    after: Option<Value>,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            seq: row.seq,
            recorded_at: Instant(row.at),
            actor: row.actor,
            action: row.action,
            subject: row.subject,
            before: row.before.map(with_readable_instants),
            after: row.after.map(with_readable_instants),
        }
    }
}

/// Rows keep instants as milliseconds in fields named `*_at`; they are shown as everywhere else in this API.
fn with_readable_instants(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let value = match value.as_i64() {
                        Some(ms) if name.ends_with("_at") => Value::from(UnixMs(ms).to_rfc3339()),
                        _ => with_readable_instants(value),
                    };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(with_readable_instants).collect()),
        other => other,
    }
}

/// Changes, newest first.
#[utoipa::path(tag = "audit", params(PageParams), responses((status = 200, body = Page<AuditEntry>)))]
#[get("/audit")]
async fn list_audit_entries(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<AuditEntry>>> {
    let bounds = page.0.bounds::<i64>()?;
    let database = &operator.parts().database;
    let limit = bounds.rows_to_read().into();
    let rows = audit::list(database.readers(), database.backend(), bounds.cursor, limit).await?;
    Ok(Json(bounds.page(rows, |row| row.seq.to_string(), AuditEntry::from)))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_audit_entries);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_instants_change() {
        let stored = json!({"created_at": 0, "revoked_at": null, "seq": 7, "items": [{"effective_at": 1000, "at": 5}]});
        let shown = json!({
            "created_at": "1970-01-01T00:00:00Z", "revoked_at": null, "seq": 7,
            "items": [{"effective_at": "1970-01-01T00:00:01Z", "at": 5}]
        });
        assert_eq!(with_readable_instants(stored), shown);
    }
}
