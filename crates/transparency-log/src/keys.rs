//! The keys that sign heads: one is in use, and the ones before it are retired from an instant on.

use sea_orm::ConnectionTrait;
use store::{StoreError, Tx};
use transparency::{KeyList, LogKey, PublishedKey};

use crate::{error::LogError, rows::query};

/// Makes sure that this is the key in use. One that is not known yet takes the place of the one before it.
///
/// # Errors
/// [`LogError::KeyRetired`] when another key has taken its place; what the database says.
pub async fn use_key(tx: &Tx, key: &LogKey, now_ms: i64, last_head_ms: i64) -> Result<(), LogError> {
    let known = all(tx.connection()).await?;
    match known.keys.iter().find(|known| known.id == key.id()) {
        Some(known) if known.retired_at_ms.is_some() => return Err(LogError::KeyRetired(known.id.clone())),
        Some(_) => return Ok(()),
        None => {}
    }
    let sql = "INSERT INTO log_key (id, public_key, not_before_ms) VALUES ($1, $2, $3)";
    let values = vec![key.id().into(), key.public().to_vec().into(), now_ms.into()];
    tx.execute(sql, values).await?;
    // what it has signed stands; the new key signs from here on
    let retired_at_ms = now_ms.max(last_head_ms) + 1;
    for old in known.keys.iter().filter(|known| known.retired_at_ms.is_none()) {
        let sql = "INSERT INTO log_key_retirement (key_id, retired_at_ms) VALUES ($1, $2)";
        tx.execute(sql, vec![old.id.clone().into(), retired_at_ms.into()])
            .await?;
        tracing::warn!(
            old = old.id,
            new = key.id(),
            retired_at_ms,
            "the log's signing key was replaced"
        );
    }
    Ok(())
}

/// All keys, the newest first.
pub async fn all(connection: &impl ConnectionTrait) -> Result<KeyList, StoreError> {
    let sql = "SELECT k.id, k.public_key, k.not_before_ms, r.retired_at_ms FROM log_key k \
               LEFT JOIN log_key_retirement r ON r.key_id = k.id ORDER BY k.not_before_ms DESC, k.id";
    let rows = query(connection, sql, vec![]).await?;
    let keys = rows.iter().map(|row| {
        let public: Vec<u8> = row.try_get("", "public_key")?;
        Ok(PublishedKey {
            id: row.try_get("", "id")?,
            algorithm: "Ed25519".to_owned(),
            public_key: hex::encode(public),
            not_before_ms: row.try_get("", "not_before_ms")?,
            retired_at_ms: row.try_get("", "retired_at_ms")?,
        })
    });
    Ok(KeyList {
        keys: keys.collect::<Result<_, StoreError>>()?,
    })
}
