//! A node's own rows: its boots, and what it could not write.

use store::{Backend, Database, StoreError};

use crate::{batch::Item, ledger_store::NodeIdentity, spooled};
use domain::clock::UnixMs;

/// The rows of the latest boots. A batch locks its boot's row before anything else and until it has committed.
const LATEST_BOOTS: &str = "SELECT boot FROM node WHERE id = $1 ORDER BY boot DESC LIMIT 100 FOR SHARE";

/// Registers a boot, whose first batch has number 1.
pub async fn register_boot(database: &Database, node: &NodeIdentity) -> Result<UnixMs, StoreError> {
    if database.backend() == Backend::Postgres {
        wait_for_earlier_boots(database, node).await?;
    }
    let tx = database.begin().await?;
    let now = tx.now().await?;
    tx.execute(
        "INSERT INTO node (id, boot, batch_no, last_commit_at_ms) VALUES ($1, $2, 0, $3)",
        vec![node.id.as_uuid().into(), node.boot.into(), now.0.into()],
    )
    .await?;
    tx.commit().await?;
    Ok(now)
}

/// A batch of a boot that is dead may still be under way in the database, and what it commits must be seen by recovery:
/// waits until there is none.
async fn wait_for_earlier_boots(database: &Database, node: &NodeIdentity) -> Result<(), StoreError> {
    loop {
        let tx = database.begin().await?;
        match tx.query(LATEST_BOOTS, vec![node.id.as_uuid().into()]).await {
            Err(StoreError::Busy) => {
                tracing::warn!("the database is still writing a batch of an earlier boot of this node: waiting for it");
            }
            result => return result.map(|_| ()),
        }
    }
}

/// Keeps an item that can never be written. What was wrong with it may be its request-log record, so that is left out.
pub async fn quarantine(
    database: &Database,
    node: &NodeIdentity,
    item: &Item,
    error: &StoreError,
) -> Result<(), StoreError> {
    let kind = match item {
        Item::Hold(_) => "hold",
        Item::Progress(_) => "progress",
        Item::Close(_) => "end",
    };
    let kept = spooled::encode(item, false).unwrap_or_default();
    let tx = database.begin().await?;
    let now = tx.now().await?;
    tx.execute(
        "INSERT INTO quarantine (request_id, tenant_id, node_id, boot, kind, item_json, error, at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        vec![
            item.request().as_uuid().into(),
            item.tenant().as_uuid().into(),
            node.id.as_uuid().into(),
            node.boot.into(),
            kind.into(),
            String::from_utf8_lossy(&kept).into_owned().into(),
            error.to_string().into(),
            now.0.into(),
        ],
    )
    .await?;
    tx.commit().await
}
