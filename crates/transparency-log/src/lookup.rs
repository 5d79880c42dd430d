//! Stored subtrees, looked up for proofs and to go on with a tree.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;
use store::{Database, StoreError, bulk::Rows};
use transparency::{Frontier, Hash, Node};

use crate::rows::{hash, unsigned};

const NODES: &str = "SELECT n.level, n.idx, n.hash FROM {rows} \
     JOIN log_node n ON n.log_no = r.log_no AND n.level = r.level AND n.idx = r.idx";

/// The hashes of these subtrees; those that are not stored are left out.
pub async fn nodes(
    database: &Database,
    connection: &impl ConnectionTrait,
    log_no: i64,
    wanted: &[Node],
) -> Result<BTreeMap<Node, Hash>, StoreError> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let index = |node: &Node| i64::try_from(node.index).unwrap_or(i64::MAX);
    let rows = Rows::new()
        .numbers("level", wanted.iter().map(|node| i64::from(node.level)))
        .numbers("idx", wanted.iter().map(index))
        .every_number("log_no", log_no);
    let found = connection.query_all_raw(database.statement(NODES, &rows)).await?;
    found
        .iter()
        .map(|row| {
            let level: i64 = row.try_get("", "level")?;
            let node = Node {
                level: u8::try_from(level).map_err(|_| StoreError::damaged("log_node.level"))?,
                index: unsigned(row.try_get("", "idx")?)?,
            };
            Ok((node, hash(row, "hash")?))
        })
        .collect()
}

/// The tree of a log at a size, to be gone on with.
pub async fn frontier(
    database: &Database,
    connection: &impl ConnectionTrait,
    log_no: i64,
    size: u64,
) -> Result<Frontier, StoreError> {
    let wanted = Frontier::nodes(size);
    let found = nodes(database, connection, log_no, &wanted).await?;
    let hashes = wanted.iter().filter_map(|node| found.get(node).copied()).collect();
    Frontier::resume(size, hashes).ok_or_else(|| StoreError::damaged("log_node: a subtree is missing"))
}
