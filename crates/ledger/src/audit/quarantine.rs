//! Items that could not be written. Until its request is closed all the same, by age, each is money that waits for
//! somebody. A hold that was put aside was refused, and promised nothing.

use domain::RequestId;
use store::StoreError;
use uuid::Uuid;

use super::{Check, reader::Reader};

const OPEN: &str = "FROM quarantine q WHERE q.kind <> 'hold' \
     AND NOT EXISTS (SELECT 1 FROM charge c WHERE c.request_id = q.request_id)";

/// Whether every request is closed of which something was put aside.
pub async fn none_is_open(reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I5",
        "no request waits to be closed because its end could not be written",
    );
    let count = reader.number("SELECT COUNT(*) AS n FROM quarantine", vec![]).await?;
    check.rows = u64::try_from(count).unwrap_or(0);
    let sql = format!("SELECT q.request_id, q.kind, q.error {OPEN} ORDER BY q.seq LIMIT 1");
    if let Some(row) = reader.rows(&sql, vec![]).await?.first() {
        let request: Uuid = row.try_get("", "request_id")?;
        let (kind, error): (String, String) = (row.try_get("", "kind")?, row.try_get("", "error")?);
        let request = RequestId::from_uuid(request);
        check.offend(|| format!("in the table quarantine: the {kind} of {request}: {error}"));
    }
    Ok(check)
}
