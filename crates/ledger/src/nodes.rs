//! Nodes, as operators see them, and their retirement: an operator's word that a machine is gone for good, so that
//! what it had reserved need not wait until it is too old.
//!
//! A retirement is an instant on the rows of the node's boots. Recovery closes the holds that were placed up to it, on
//! whichever node runs. It stops nobody: a node that comes back goes on with new holds, and of a request that both
//! close the first end counts.

use domain::{Amount, NodeId, clock::UnixMs};
use sea_orm::{ConnectionTrait, QueryResult};
use serde::Serialize;
use store::{Backend, StoreError, Tx};
use uuid::Uuid;

use crate::reading::{amount, rows};

/// A node with all its boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// The node.
    pub id: NodeId,
    /// How often it has started.
    pub boots: i64,
    /// Its newest boot.
    pub newest_boot: Uuid,
    /// When that boot began, by the node's own clock.
    pub booted_at: Option<UnixMs>,
    /// When any of its boots last wrote to the ledger, by the database's clock. An idle node writes nothing.
    pub last_commit_at: UnixMs,
    /// Requests whose credit it has reserved.
    pub open_holds: i64,
    /// How much that is.
    pub held: Amount,
    /// When its newest boot was retired; `None` also for a node that has started again since.
    pub retired_at: Option<UnixMs>,
}

/// What a retirement did, and what it leaves to recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retirement {
    /// When the newest boot had been retired before, if it had.
    pub retired_before: Option<UnixMs>,
    /// Whether anything changed: not, where the node has written nothing since it was retired.
    pub is_new: bool,
    /// The node afterwards.
    pub node: NodeView,
    /// Holds that recovery will close.
    pub holds_to_close: i64,
    /// How much they reserve.
    pub held_to_close: Amount,
}

/// Nodes, newest first, older than `before` when given.
///
/// # Errors
/// What the database says.
pub async fn list(
    connection: &impl ConnectionTrait,
    before: Option<NodeId>,
    limit: u32,
) -> Result<Vec<NodeView>, StoreError> {
    let before = before.map_or(Uuid::max(), |node| node.as_uuid());
    let values = vec![before.into(), i64::from(limit).into()];
    let found = rows(connection, view_of("id < $1", "LIMIT $2"), values).await?;
    found.iter().map(read_node).collect()
}

/// Retires a node: every boot of it that has not been retired, or has written since. Doing it again changes nothing.
/// `None` when there is no such node.
///
/// # Errors
/// What the database says.
pub async fn retire(tx: &Tx, node: NodeId) -> Result<Option<Retirement>, StoreError> {
    // a batch that this node is about to commit comes before the instant or after it, with all of its holds
    let boots = lock_boots(tx, node).await?;
    let Some(newest) = boots.first() else {
        return Ok(None);
    };
    let retired_before: Option<i64> = newest.try_get("", "retired_at_ms")?;
    let now = tx.now().await?;
    let changed = tx
        .execute(
            "UPDATE node SET retired_at_ms = $2 \
             WHERE id = $1 AND (retired_at_ms IS NULL OR last_commit_at_ms > retired_at_ms)",
            vec![node.as_uuid().into(), now.0.into()],
        )
        .await?;
    let found = rows(tx.connection(), view_of("id = $1", ""), vec![node.as_uuid().into()]).await?;
    let view = found.first().ok_or_else(|| StoreError::damaged("node"))?;
    let (holds_to_close, held_to_close) = left_to_recovery(tx, node).await?;
    Ok(Some(Retirement {
        retired_before: retired_before.map(UnixMs),
        is_new: changed > 0,
        node: read_node(view)?,
        holds_to_close,
        held_to_close,
    }))
}

async fn lock_boots(tx: &Tx, node: NodeId) -> Result<Vec<QueryResult>, StoreError> {
    let sql = match tx.backend() {
        Backend::Postgres => "SELECT boot, retired_at_ms FROM node WHERE id = $1 ORDER BY boot DESC FOR UPDATE",
        Backend::Sqlite => "SELECT boot, retired_at_ms FROM node WHERE id = $1 ORDER BY boot DESC",
    };
    tx.query(sql, vec![node.as_uuid().into()]).await
}

/// The open holds that the node placed up to its retirement: how many, and how much they reserve.
async fn left_to_recovery(tx: &Tx, node: NodeId) -> Result<(i64, Amount), StoreError> {
    let sql = "SELECT COUNT(*) AS open_holds, CAST(COALESCE(SUM(h.amount), 0) AS BIGINT) AS held \
               FROM hold h JOIN node n ON n.id = h.node_id AND n.boot = h.boot \
               WHERE h.node_id = $1 AND h.created_at_ms <= n.retired_at_ms";
    let found = tx.query(sql, vec![node.as_uuid().into()]).await?;
    let row = found.first().ok_or_else(|| StoreError::damaged("hold"))?;
    Ok((row.try_get("", "open_holds")?, amount(row, "held")?))
}

/// One row for each node that `which` chooses: its newest boot, and the sums over all of them.
fn view_of(which: &str, page: &str) -> String {
    format!(
        "SELECT n.id, n.boot, n.boots, n.last_commit_at_ms, n.retired_at_ms, \
         (SELECT COUNT(*) FROM hold h WHERE h.node_id = n.id) AS open_holds, \
         (SELECT CAST(COALESCE(SUM(h.amount), 0) AS BIGINT) FROM hold h WHERE h.node_id = n.id) AS held \
         FROM (SELECT id, boot, retired_at_ms, ROW_NUMBER() OVER (PARTITION BY id ORDER BY boot DESC) AS place, \
               COUNT(*) OVER (PARTITION BY id) AS boots, \
               MAX(last_commit_at_ms) OVER (PARTITION BY id) AS last_commit_at_ms \
               FROM node WHERE {which}) n \
         WHERE n.place = 1 ORDER BY n.id DESC {page}"
    )
}

fn read_node(row: &QueryResult) -> Result<NodeView, StoreError> {
    let boot: Uuid = row.try_get("", "boot")?;
    let retired_at: Option<i64> = row.try_get("", "retired_at_ms")?;
    Ok(NodeView {
        id: NodeId::from_uuid(row.try_get("", "id")?),
        boots: row.try_get("", "boots")?,
        newest_boot: boot,
        booted_at: instant_in(boot),
        last_commit_at: UnixMs(row.try_get("", "last_commit_at_ms")?),
        open_holds: row.try_get("", "open_holds")?,
        held: amount(row, "held")?,
        retired_at: retired_at.map(UnixMs),
    })
}

/// Boots are named by UUIDs of version 7 (RFC 9562), which begin with their instant.
fn instant_in(boot: Uuid) -> Option<UnixMs> {
    let (seconds, nanos) = boot.get_timestamp()?.to_unix();
    let ms = i64::try_from(seconds).ok()?.checked_mul(1_000)?;
    Some(UnixMs(ms.checked_add(i64::from(nanos / 1_000_000))?))
}
