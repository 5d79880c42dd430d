//! What everybody may read of the log, and what the owner of a request may: only heads that are signed, and what they cover.

use sea_orm::ConnectionTrait;
use serde::Serialize;
use store::{Database, StoreError};
use transparency::{
    BatchProof, Hash, KeyList, LeafKind, LogProof, SignedHead, consistency_nodes, consistency_path, inclusion_nodes,
    inclusion_path,
};
use uuid::Uuid;

use crate::{
    draft, keys, lookup,
    rows::{self, HeadRow, LogRow, hash, query, signed, unsigned},
};

const SIGNED: &str = "s.key_id IS NOT NULL";

/// All logs, the one in use last.
///
/// # Errors
/// What the database says.
pub async fn logs(database: &Database) -> Result<Vec<LogRow>, StoreError> {
    rows::logs(database.readers()).await
}

/// The newest published head of the log in use.
///
/// # Errors
/// What the database says.
pub async fn newest_head(database: &Database) -> Result<Option<HeadRow>, StoreError> {
    // the one before it is of no interest: a head is signed within moments, in order
    let rest = "JOIN (SELECT MAX(no) AS no FROM log) newest ON newest.no = h.log_no WHERE s.key_id IS NOT NULL \
                ORDER BY h.size DESC LIMIT 1";
    Ok(rows::heads(database.readers(), rest, vec![]).await?.pop())
}

/// The published head of the log in use at a size.
///
/// # Errors
/// What the database says.
pub async fn head_at(database: &Database, size: u64) -> Result<Option<HeadRow>, StoreError> {
    let Ok(size) = i64::try_from(size) else { return Ok(None) };
    let rest = format!("WHERE h.log_no = (SELECT MAX(no) FROM log) AND h.size = $1 AND {SIGNED}");
    Ok(rows::heads(database.readers(), &rest, vec![size.into()]).await?.pop())
}

/// The first published head at or after an instant and before another: the head of a day.
///
/// # Errors
/// What the database says.
pub async fn day_head(database: &Database, (from_ms, to_ms): (i64, i64)) -> Result<Option<HeadRow>, StoreError> {
    let rest = format!("WHERE h.at_ms >= $1 AND h.at_ms < $2 AND {SIGNED} ORDER BY h.at_ms, h.log_no, h.size LIMIT 1");
    let values = vec![from_ms.into(), to_ms.into()];
    Ok(rows::heads(database.readers(), &rest, values).await?.pop())
}

/// The keys that sign and signed.
///
/// # Errors
/// What the database says.
pub async fn key_list(database: &Database) -> Result<KeyList, StoreError> {
    keys::all(database.readers()).await
}

/// A batch in the log, as everybody may see it.
#[derive(Debug, Clone, Serialize)]
pub struct EntryView {
    /// Its place.
    pub index: u64,
    /// Its id.
    pub batch: Uuid,
    /// How many leaves it has.
    pub leaves: u64,
    /// The root over them.
    pub root: Hash,
}

/// Batches of the log in use from an index on, as far as they are covered by a published head of this size.
///
/// # Errors
/// What the database says.
pub async fn entries(database: &Database, head: &HeadRow, from: u64, limit: u64) -> Result<Vec<EntryView>, StoreError> {
    let to = from.saturating_add(limit).min(head.head.size);
    if from >= to {
        return Ok(Vec::new());
    }
    let sql = "SELECT e.idx, e.batch_id, b.root, CAST(LENGTH(b.leaf_values) / 32 AS BIGINT) AS leaves FROM log_entry e JOIN log_batch b ON b.id = e.batch_id \
               WHERE e.log_no = $1 AND e.idx >= $2 AND e.idx < $3 ORDER BY e.idx";
    let values = vec![head.log_no.into(), signed(from)?.into(), signed(to)?.into()];
    let found = query(database.readers(), sql, values).await?;
    found
        .iter()
        .map(|row| {
            Ok(EntryView {
                index: unsigned(row.try_get("", "idx")?)?,
                batch: row.try_get("", "batch_id")?,
                leaves: unsigned(row.try_get("", "leaves")?)?,
                root: hash(row, "root")?,
            })
        })
        .collect()
}

/// The proof that the log at one size is how the log at a later size began; `None` when `from` is the larger.
///
/// # Errors
/// What the database says.
pub async fn consistency(
    database: &Database,
    log_no: i64,
    from: u64,
    to: u64,
) -> Result<Option<Vec<Hash>>, StoreError> {
    let wanted = consistency_nodes(from, to);
    let nodes = lookup::nodes(database, database.readers(), log_no, &wanted).await?;
    if from > to {
        return Ok(None);
    }
    consistency_path(from, to, &|node| nodes.get(&node).copied())
        .map(Some)
        .ok_or_else(|| StoreError::damaged("log_node: a subtree is missing"))
}

/// The proof of one leaf, without what it states.
#[derive(Debug, Clone)]
pub struct LeafProof {
    /// The leaf's salt.
    pub salt: [u8; 16],
    /// The leaf's value.
    pub value: Hash,
    /// Where it is in its batch.
    pub batch: BatchProof,
    /// Where that is in the log.
    pub log: LogProof,
    /// The first published head that covers it.
    pub head: SignedHead,
}

/// The proof of a leaf of a batch; `None` while no published head covers it.
///
/// # Errors
/// [`StoreError::Damaged`] when the batch has no such leaf; what the database says.
pub async fn leaf_proof(
    database: &Database,
    batch: Uuid,
    kind: LeafKind,
    id: Uuid,
) -> Result<Option<LeafProof>, StoreError> {
    let connection = database.readers();
    let Some((log_no, index)) = place_of(connection, batch).await? else {
        return Ok(None);
    };
    let rest = format!("WHERE h.log_no = $1 AND h.size > $2 AND {SIGNED} ORDER BY h.size LIMIT 1");
    let values = vec![log_no.into(), signed(index)?.into()];
    let head = rows::heads(connection, &rest, values).await?.pop();
    let Some((head, published)) = head.and_then(|head| Some((head.head, head.published()?))) else {
        return Ok(None);
    };
    let stored = draft::batches(database, connection, [batch]).await?.pop();
    let stored = stored.ok_or_else(|| StoreError::damaged("log_entry: its batch is missing"))?;
    let damaged = || StoreError::damaged("log_batch: its leaves");
    let leaves = stored.contents.leaves().ok_or_else(damaged)?;
    let found = leaves.iter().position(|leaf| leaf.kind == kind && leaf.id == id);
    let place = found.ok_or_else(damaged)?;
    let leaf = leaves.get(place).ok_or_else(damaged)?;
    let wanted = inclusion_nodes(index, head.size);
    let nodes = lookup::nodes(database, connection, log_no, &wanted).await?;
    let path = inclusion_path(index, head.size, &|node| nodes.get(&node).copied());
    Ok(Some(LeafProof {
        salt: leaf.salt,
        value: leaf.value,
        batch: BatchProof {
            id: batch,
            index: u64::try_from(place).unwrap_or(u64::MAX),
            size: u64::try_from(leaves.len()).unwrap_or(u64::MAX),
            root: stored.root,
            path: stored.contents.path(place).ok_or_else(damaged)?,
        },
        log: LogProof {
            index,
            path: path.ok_or_else(|| StoreError::damaged("log_node: a subtree is missing"))?,
        },
        head: published,
    }))
}

async fn place_of(connection: &impl ConnectionTrait, batch: Uuid) -> Result<Option<(i64, u64)>, StoreError> {
    let sql = "SELECT log_no, idx FROM log_entry WHERE batch_id = $1";
    let found = query(connection, sql, vec![batch.into()]).await?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some((row.try_get("", "log_no")?, unsigned(row.try_get("", "idx")?)?)))
}
