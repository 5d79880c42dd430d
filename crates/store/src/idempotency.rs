//! Idempotency records: the answer to a write is kept with the write itself, in one transaction, so that a
//! repeated request gets the same answer and changes nothing.

use crate::{StoreError, Tx};

/// What is known about an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// First use: do the work, then [`remember`] its answer in the same transaction.
    New,
    /// The same request was done before; this was its answer.
    Repeated(serde_json::Value),
    /// The key was used for a different request: refuse.
    Mismatch,
}

/// Looks a key up and, when it is new, claims it until the transaction ends.
///
/// `fingerprint` identifies the request's content. A second request with the same key waits for the first.
///
/// # Errors
/// What the database says.
pub async fn claim(tx: &Tx, scope: &str, key: &str, fingerprint: &str) -> Result<Known, StoreError> {
    let now = tx.now().await?;
    let claimed = tx
        .execute(
            "INSERT INTO idempotency (scope, key, fingerprint, response_json, created_at_ms) \
             VALUES ($1, $2, $3, 'null', $4) ON CONFLICT (scope, key) DO NOTHING",
            vec![scope.into(), key.into(), fingerprint.into(), now.0.into()],
        )
        .await?;
    if claimed == 1 {
        return Ok(Known::New);
    }
    let rows = tx
        .query(
            "SELECT fingerprint, response_json FROM idempotency WHERE scope = $1 AND key = $2",
            vec![scope.into(), key.into()],
        )
        .await?;
    let row = rows.first().ok_or(StoreError::Busy)?;
    if row.try_get::<String>("", "fingerprint")? != fingerprint {
        return Ok(Known::Mismatch);
    }
    let response: String = row.try_get("", "response_json")?;
    serde_json::from_str(&response)
        .map(Known::Repeated)
        .map_err(|_| StoreError::damaged("idempotency record"))
}

/// Keeps the answer for repetitions.
///
/// # Errors
/// What the database says.
pub async fn remember(tx: &Tx, scope: &str, key: &str, response: &serde_json::Value) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE idempotency SET response_json = $3 WHERE scope = $1 AND key = $2",
        vec![scope.into(), key.into(), response.to_string().into()],
    )
    .await?;
    Ok(())
}
