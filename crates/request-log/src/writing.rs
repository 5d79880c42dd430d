//! Writing records, many in one statement.

use domain::{request::RequestRecord, upstream_failure::failed_attempts};
use store::{StoreError, Tx, bulk::Rows};

const INSERT: &str = "INSERT INTO request (id, tenant_id, key_id, model, provider, status, reason, started_at_ms, \
     duration_ms, record_json, upstream_failures) \
     SELECT r.id, r.tenant_id, r.key_id, r.model, r.provider, r.status, r.reason, r.started_at_ms, r.duration_ms, \
     r.record_json, r.upstream_failures FROM {rows} WHERE TRUE ON CONFLICT (id) DO NOTHING";

/// Writes records in the transaction that closes their requests, and answers their texts as stored. A request that is
/// there already stays as it is.
///
/// # Errors
/// What the database says.
pub async fn write_records(tx: &Tx, records: &[&RequestRecord]) -> Result<Vec<String>, StoreError> {
    let texts = records
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| StoreError::damaged("request record"))?;
    let rows = Rows::new()
        .uuids("id", records.iter().map(|record| record.id.as_uuid()))
        .uuids("tenant_id", records.iter().map(|record| record.tenant.as_uuid()))
        .uuids("key_id", records.iter().map(|record| record.key.as_uuid()))
        .texts("model", records.iter().map(|record| record.model.clone()))
        .optional_texts("provider", records.iter().map(|record| record.provider.clone()))
        .numbers("status", records.iter().map(|record| i64::from(record.status)))
        .texts("reason", records.iter().map(|record| record.reason.as_str().to_owned()))
        .numbers("started_at_ms", records.iter().map(|record| record.started_at.0))
        .numbers(
            "duration_ms",
            records.iter().map(|record| i64::from(record.duration_ms)),
        )
        .texts("record_json", &texts)
        .numbers("upstream_failures", records.iter().map(|record| failures_of(record)));
    tx.execute_rows(INSERT, &rows).await?;
    Ok(texts)
}

fn failures_of(record: &RequestRecord) -> i64 {
    i64::try_from(failed_attempts(record).count()).unwrap_or(i64::MAX)
}
