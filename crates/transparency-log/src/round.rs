//! The database's side of a round: committed batches get dense indices, and the tree its new subtrees and head, in one
//! transaction under a lock that one node at a time holds.

use sea_orm::QueryResult;
use store::{Backend, Database, StoreError, Tx, bulk::Rows};
use transparency::{Frontier, Hash, Head, LogKey, Node};
use uuid::Uuid;

use crate::{
    draft::{self, StoredBatch},
    error::LogError,
    keys, lookup,
    rows::{self, HeadRow, LogRow, signed},
};

/// The most batches of one round.
pub const MOST_BATCHES: usize = 400;
/// A head without a signature is its maker's to finish for so long.
const LEFT_TO_ITS_MAKER_MS: i64 = 2_000;
/// The advisory lock of whoever extends the log.
const LOCK: i64 = 0x0074_726c_6f67;

const PENDING: &str = "SELECT b.id, b.at_ms, b.root, b.ids, b.salts, b.leaf_values FROM log_pending p \
     JOIN log_batch b ON b.id = p.batch_id LIMIT $1";
const ENTRIES: &str = "INSERT INTO log_entry (log_no, idx, batch_id) SELECT r.log_no, r.idx, r.batch_id FROM {rows}";
const NODES: &str =
    "INSERT INTO log_node (log_no, level, idx, hash) SELECT r.log_no, r.level, r.idx, r.hash FROM {rows}";
const DONE: &str = "DELETE FROM log_pending WHERE batch_id IN (SELECT r.batch_id FROM {rows})";
const HEAD: &str = "INSERT INTO log_head (log_no, size, root, at_ms) VALUES ($1, $2, $3, $4)";

/// What a round added: to be copied, then signed.
#[derive(Debug, Clone)]
pub struct Added {
    /// To which log.
    pub log: LogRow,
    /// The index of the first batch.
    pub first: u64,
    /// The batches, in order.
    pub batches: Vec<StoredBatch>,
    /// The head over them.
    pub head: Head,
}

/// What a look under the lock found.
pub enum Turn {
    /// Another node is at it.
    NotOurs,
    /// Heads that were made and not signed, oldest first, with what they added.
    Unsigned(Vec<Added>),
    /// A new head was made and committed.
    Made(Box<Added>, Frontier),
    /// There is nothing to do.
    Idle,
}

/// One look at the log, and the next head if there is something for it. `known` is the tree as this node left it last;
/// `own` the head that this node is to finish.
///
/// # Errors
/// [`LogError::KeyRetired`]; what the database says.
pub async fn take_turn(
    database: &Database,
    key: &LogKey,
    known: Option<&(i64, Frontier)>,
    own: Option<u64>,
) -> Result<Turn, LogError> {
    let tx = database.begin().await?;
    if !lock(&tx, false).await? {
        tx.rollback().await?;
        return Ok(Turn::NotOurs);
    }
    let turn = turn_in(database, &tx, key, known, own).await;
    if turn.is_ok() {
        // an idle turn too: the log and the key may be new
        tx.commit().await?;
    } else {
        // told at once, the database gives the lock to whoever asks next
        drop(tx.rollback().await);
    }
    turn
}

/// What the turn is, in the transaction that has the lock.
async fn turn_in(
    database: &Database,
    tx: &Tx,
    key: &LogKey,
    known: Option<&(i64, Frontier)>,
    own: Option<u64>,
) -> Result<Turn, LogError> {
    let now_ms = tx.now().await?.0;
    let log = active_log(tx, now_ms).await?;
    let last = last_head(tx, log.no).await?;
    keys::use_key(tx, key, now_ms, last.as_ref().map_or(0, |last| last.head.at_ms)).await?;
    let unsigned = unsigned_heads(tx, log.no).await?;
    if !unsigned.is_empty() {
        let is_ours = |head: &HeadRow| own == Some(head.head.size) || head.head.at_ms + LEFT_TO_ITS_MAKER_MS < now_ms;
        return if unsigned.first().is_some_and(is_ours) {
            Ok(Turn::Unsigned(what_they_added(database, tx, &log, unsigned).await?))
        } else {
            Ok(Turn::NotOurs)
        };
    }
    let batches = pending(tx).await?;
    if batches.is_empty() {
        return Ok(Turn::Idle);
    }
    let size = last.as_ref().map_or(0, |last| last.head.size);
    let tree = match known {
        Some((no, tree)) if *no == log.no && tree.size() == size => tree.clone(),
        _ => lookup::frontier(database, tx.connection(), log.no, size).await?,
    };
    let at_ms = last.map_or(now_ms, |last| last.head.at_ms.max(now_ms));
    let (added, tree) = append(tx, log, tree, batches, at_ms).await?;
    Ok(Turn::Made(Box::new(added), tree))
}

/// Takes the lock until the end of the transaction. On SQLite whoever is in a transaction that writes has it.
pub async fn lock(tx: &Tx, waits: bool) -> Result<bool, StoreError> {
    if tx.backend() == Backend::Sqlite {
        return Ok(true);
    }
    if waits {
        tx.query("SELECT 1 FROM pg_advisory_xact_lock($1)", vec![LOCK.into()])
            .await?;
        return Ok(true);
    }
    let rows = tx
        .query("SELECT pg_try_advisory_xact_lock($1) AS taken", vec![LOCK.into()])
        .await?;
    Ok(rows.first().map_or(Ok(false), |row| row.try_get("", "taken"))?)
}

/// The log in use; the first one begins here.
async fn active_log(tx: &Tx, now_ms: i64) -> Result<LogRow, StoreError> {
    match rows::logs(tx.connection()).await?.pop() {
        Some(log) => Ok(log),
        None => begin_log(tx, 1, now_ms, "the log began").await,
    }
}

/// Begins a log.
pub async fn begin_log(tx: &Tx, no: i64, now_ms: i64, reason: &str) -> Result<LogRow, StoreError> {
    let log = LogRow {
        no,
        id: Uuid::new_v4(),
        created_at_ms: now_ms,
        reason: reason.to_owned(),
    };
    insert_log(tx, &log).await?;
    tracing::info!(log = %log.id, reason, "a transparency log begins");
    Ok(log)
}

/// Writes the row of a log.
pub async fn insert_log(tx: &Tx, log: &LogRow) -> Result<(), StoreError> {
    let values = vec![
        log.no.into(),
        log.id.into(),
        log.created_at_ms.into(),
        log.reason.clone().into(),
    ];
    let sql = "INSERT INTO log (no, id, created_at_ms, reason) VALUES ($1, $2, $3, $4)";
    tx.execute(sql, values).await?;
    Ok(())
}

/// The newest head of a log, signed or not.
pub async fn last_head(tx: &Tx, log_no: i64) -> Result<Option<HeadRow>, StoreError> {
    let rest = "WHERE h.log_no = $1 ORDER BY h.size DESC LIMIT 1";
    Ok(rows::heads(tx.connection(), rest, vec![log_no.into()]).await?.pop())
}

async fn unsigned_heads(tx: &Tx, log_no: i64) -> Result<Vec<HeadRow>, StoreError> {
    let rest = "WHERE h.log_no = $1 AND h.size > \
        COALESCE((SELECT MAX(d.size) FROM log_signature d WHERE d.log_no = $1), 0) ORDER BY h.size LIMIT 50";
    rows::heads(tx.connection(), rest, vec![log_no.into()]).await
}

async fn pending(tx: &Tx) -> Result<Vec<StoredBatch>, StoreError> {
    let limit = i64::try_from(MOST_BATCHES).unwrap_or(i64::MAX);
    let rows = tx.query(PENDING, vec![limit.into()]).await?;
    let mut batches: Vec<StoredBatch> = rows.iter().map(draft::read).collect::<Result<_, _>>()?;
    // for the eye only: what counts is that each gets one place
    batches.sort_by_key(|batch| (batch.at_ms, batch.id));
    Ok(batches)
}

/// Appends batches to a tree and writes everything that follows from them but the batches themselves.
pub async fn append(
    tx: &Tx,
    log: LogRow,
    mut tree: Frontier,
    batches: Vec<StoredBatch>,
    at_ms: i64,
) -> Result<(Added, Frontier), StoreError> {
    let first = tree.size();
    let mut nodes: Vec<(Node, Hash)> = Vec::with_capacity(batches.len() * 2);
    for batch in &batches {
        nodes.extend(tree.push(batch.entry_hash()));
    }
    let first_index = signed(first)?;
    let entries = Rows::new()
        .uuids("batch_id", batches.iter().map(|batch| batch.id))
        .numbers("idx", (first_index..).take(batches.len()))
        .every_number("log_no", log.no);
    let index = |(node, _): &(Node, Hash)| i64::try_from(node.index).unwrap_or(i64::MAX);
    let nodes = Rows::new()
        .numbers("level", nodes.iter().map(|(node, _)| i64::from(node.level)))
        .numbers("idx", nodes.iter().map(index))
        .bytes("hash", nodes.iter().map(|(_, hash)| hash.0))
        .every_number("log_no", log.no);
    let done = Rows::new().uuids("batch_id", batches.iter().map(|batch| batch.id));
    tx.execute_together(&[(ENTRIES, entries), (NODES, nodes), (DONE, done)])
        .await?;
    let head = Head {
        log: log.id,
        size: tree.size(),
        root: tree.root(),
        at_ms,
    };
    let values = vec![
        log.no.into(),
        signed(head.size)?.into(),
        head.root.0.to_vec().into(),
        at_ms.into(),
    ];
    tx.execute(HEAD, values).await?;
    let added = Added {
        log,
        first,
        batches,
        head,
    };
    Ok((added, tree))
}

/// The batches that heads added which nobody finished.
async fn what_they_added(
    database: &Database,
    tx: &Tx,
    log: &LogRow,
    heads: Vec<HeadRow>,
) -> Result<Vec<Added>, StoreError> {
    let mut added = Vec::with_capacity(heads.len());
    for HeadRow { head, .. } in heads {
        let before = "WHERE h.log_no = $1 AND h.size < $2 ORDER BY h.size DESC LIMIT 1";
        let values = vec![log.no.into(), signed(head.size)?.into()];
        let before = rows::heads(tx.connection(), before, values).await?.pop();
        let first = before.map_or(0, |before| before.head.size);
        added.push(Added {
            log: log.clone(),
            first,
            batches: entries_between(database, tx, log.no, (first, head.size)).await?,
            head,
        });
    }
    Ok(added)
}

/// The batches of a log from one index up to before another, in order.
async fn entries_between(
    database: &Database,
    tx: &Tx,
    log_no: i64,
    (from, to): (u64, u64),
) -> Result<Vec<StoredBatch>, StoreError> {
    let sql = "SELECT batch_id FROM log_entry WHERE log_no = $1 AND idx >= $2 AND idx < $3 ORDER BY idx";
    let found = tx
        .query(sql, vec![log_no.into(), signed(from)?.into(), signed(to)?.into()])
        .await?;
    let ids: Vec<Uuid> = found
        .iter()
        .map(|row: &QueryResult| row.try_get("", "batch_id"))
        .collect::<Result<_, _>>()?;
    let mut read = draft::batches(database, tx.connection(), ids.iter().copied()).await?;
    let places: std::collections::BTreeMap<Uuid, usize> = ids.iter().copied().zip(0..).collect();
    read.sort_by_key(|batch| places.get(&batch.id).copied());
    if read.len() == ids.len() {
        Ok(read)
    } else {
        Err(StoreError::damaged("log_entry: a batch is missing"))
    }
}

/// Writes a signature. Whoever comes second has made the same one.
pub async fn write_signature(database: &Database, log_no: i64, head: &Head, key: &LogKey) -> Result<(), StoreError> {
    let sql = "INSERT INTO log_signature (log_no, size, key_id, signature) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (log_no, size) DO NOTHING";
    let tx = database.begin().await?;
    let values = vec![
        log_no.into(),
        signed(head.size)?.into(),
        key.id().into(),
        key.sign(head).to_vec().into(),
    ];
    tx.execute(sql, values).await?;
    tx.commit().await
}
