//! Items that could not be written: each is money that somebody has to put right by hand.

use domain::RequestId;
use store::StoreError;
use uuid::Uuid;

use super::{Check, reader::Reader};

/// Whether nothing was put aside.
pub async fn is_empty(reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "I5",
        "nothing that could not be written was put aside for somebody to look at",
    );
    let count = reader.number("SELECT COUNT(*) AS n FROM quarantine", vec![]).await?;
    check.rows = u64::try_from(count).unwrap_or(0);
    let sql = "SELECT request_id, kind, error FROM quarantine ORDER BY seq LIMIT 1";
    if let Some(row) = reader.rows(sql, vec![]).await?.first() {
        let request: Uuid = row.try_get("", "request_id")?;
        let (kind, error): (String, String) = (row.try_get("", "kind")?, row.try_get("", "error")?);
        let request = RequestId::from_uuid(request);
        check.offend(|| format!("{count} in the table quarantine, the first is the {kind} of {request}: {error}"));
    }
    Ok(check)
}
