//! Writing records, many in one statement.

use domain::{request::RequestRecord, upstream_failure::failed_attempts};
use store::{StoreError, bulk::Rows};

const INSERT: &str = "INSERT INTO request (id, tenant_id, key_id, model, provider, status, reason, started_at_ms, \
     duration_ms, record_json, upstream_failures) \
     SELECT r.id, r.tenant_id, r.key_id, r.model, r.provider, r.status, r.reason, r.started_at_ms, r.duration_ms, \
     r.record_json, r.upstream_failures FROM {rows} WHERE TRUE ON CONFLICT (id) DO NOTHING";

/// Records as texts, and the statement with its rows that stores them in the transaction which closes their requests. A
/// request that is there already stays as it is.
///
/// # Errors
/// [`StoreError::Damaged`] for a record that cannot be written down.
pub fn stored_records(records: &[&RequestRecord]) -> Result<(Vec<String>, (&'static str, Rows)), StoreError> {
    let texts = records
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| StoreError::damaged("request record"))?;
    let rows = Rows::new()
        .uuids("id", records.iter().map(|record| record.id.as_uuid()))
        .uuids("tenant_id", records.iter().map(|record| record.tenant.as_uuid()))
        .uuids("key_id", records.iter().map(|record| record.key.as_uuid()))
        .texts("model", records.iter().map(|record| record.model.as_str()))
        .optional_texts("provider", records.iter().map(|record| record.provider.as_deref()))
        .numbers("status", records.iter().map(|record| i64::from(record.status)))
        .texts("reason", records.iter().map(|record| record.reason.as_str()))
        .numbers("started_at_ms", records.iter().map(|record| record.started_at.0))
        .numbers(
            "duration_ms",
            records.iter().map(|record| i64::from(record.duration_ms)),
        )
        .texts("record_json", &texts)
        .numbers("upstream_failures", records.iter().map(|record| failures_of(record)));
    Ok((texts, (INSERT, rows)))
}

fn failures_of(record: &RequestRecord) -> i64 {
    i64::try_from(failed_attempts(record).count()).unwrap_or(i64::MAX)
}
