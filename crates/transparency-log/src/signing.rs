//! Signatures and retirements that are missing: what somebody who deletes rows takes away leaves a gap.

use sea_orm::ConnectionTrait;
use store::StoreError;
use transparency::KeyList;

use crate::rows::{HeadRow, query};

/// Heads of one log are signed in their order, so only the newest may wait for a signature. Answers the first that was passed
/// over.
pub fn skipped(heads: &[HeadRow]) -> Option<String> {
    let is_signed = |head: &&HeadRow| head.signature.is_some();
    let unsigned = heads.iter().find(|head| !is_signed(head))?;
    let last_signed = heads.iter().rfind(is_signed)?.head.size;
    let (no, size) = (unsigned.log_no, unsigned.head.size);
    (size < last_signed).then(|| {
        format!("log {no}, head of size {size}: it has no signature, and the later one of size {last_signed} has one")
    })
}

/// A key is retired by the next one: the moment after that begins, or after the last head of then if that is later
/// ([`crate::keys::use_key`]). Answers what is otherwise.
pub async fn not_retired(connection: &impl ConnectionTrait, keys: &KeyList) -> Result<Option<String>, StoreError> {
    for [newer, older] in keys.keys.array_windows() {
        let (id, next, began) = (&older.id, &newer.id, newer.not_before_ms);
        let Some(retired_at_ms) = older.retired_at_ms else {
            return Ok(Some(format!(
                "the key {id} is not retired, although the key {next} took its place"
            )));
        };
        let last_ms = retired_at_ms.saturating_sub(1);
        if last_ms > began && !has_head_of(connection, last_ms).await? {
            return Ok(Some(format!(
                "the key {id} is retired at {retired_at_ms} ms only, although the key {next} took its place at {began} ms"
            )));
        }
    }
    Ok(None)
}

async fn has_head_of(connection: &impl ConnectionTrait, at_ms: i64) -> Result<bool, StoreError> {
    let sql = "SELECT size FROM log_head WHERE at_ms = $1 LIMIT 1";
    Ok(!query(connection, sql, vec![at_ms.into()]).await?.is_empty())
}
