//! The audit of the log itself: order, tree, heads, signatures and copies agree with each other, and nothing that is in the
//! database or in a copy says otherwise. What the leaves state is checked by whoever owns the rows.

use std::{collections::BTreeMap, io, path::Path};

use sea_orm::{ConnectionTrait, QueryResult};
use store::{Database, StoreError};
use transparency::{Frontier, Hash, Head, KeyList, Node};
use uuid::Uuid;

use crate::{
    copies::{self, CopiedRound},
    draft::{self, StoredBatch},
    error::LogError,
    keys,
    rows::{self, HeadRow, LogRow, hash, query, signed, unsigned},
    signing,
};

/// Entries in a page.
const PAGE: u64 = 1_000;

/// Something that was checked, and the first thing that offends.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What must hold.
    pub statement: &'static str,
    /// How many were looked at.
    pub rows: u64,
    /// The first that offends.
    pub offender: Option<String>,
}

impl Finding {
    const fn new(statement: &'static str) -> Self {
        Self {
            statement,
            rows: 0,
            offender: None,
        }
    }

    fn offend(&mut self, offender: impl FnOnce() -> String) {
        if self.offender.is_none() {
            self.offender = Some(offender());
        }
    }
}

/// What is found wrong with a log, check by check.
pub struct LogAudit<'a, C> {
    database: &'a Database,
    connection: &'a C,
    keys: KeyList,
    entries: Finding,
    batches: Finding,
    nodes: Finding,
    heads: Finding,
    signatures: Finding,
    pending: Finding,
    copies: Finding,
}

impl<'a, C: ConnectionTrait> LogAudit<'a, C> {
    /// Checks every log there is, and the copies in a folder.
    ///
    /// # Errors
    /// What the database or the disk says; an offence is no error.
    pub async fn run(database: &'a Database, connection: &'a C, copies: &Path) -> Result<Vec<Finding>, LogError> {
        let mut audit = Self {
            database,
            connection,
            keys: keys::all(connection).await?,
            entries: Finding::new("batches have their places in the log without a gap, each one place"),
            batches: Finding::new("leaves of a batch lead to its root"),
            nodes: Finding::new("stored subtrees are those of the entries"),
            heads: Finding::new("heads are the roots of the entries, and never go back in time"),
            signatures: Finding::new("heads are signed in their order, by a key that was in use"),
            pending: Finding::new("a batch has a place in the log, or waits for one"),
            copies: Finding::new("copies say what the database says"),
        };
        let logs = rows::logs(connection).await?;
        let mut last_no = 0;
        for log in &logs {
            if log.no != last_no + 1 {
                audit
                    .entries
                    .offend(|| format!("log {}: the one before it is missing", log.no));
            }
            last_no = log.no;
            audit.check_log(log).await?;
        }
        if let Some(what) = signing::not_retired(connection, &audit.keys).await? {
            audit.signatures.offend(|| what);
        }
        audit.check_pending().await?;
        audit.check_copies(copies).await?;
        Ok(vec![
            audit.entries,
            audit.batches,
            audit.nodes,
            audit.heads,
            audit.signatures,
            audit.pending,
            audit.copies,
        ])
    }

    /// Grows the tree of a log again, from its entries.
    async fn check_log(&mut self, log: &LogRow) -> Result<(), StoreError> {
        let heads = self.heads_of(log).await?;
        if let Some(what) = signing::skipped(&heads) {
            self.signatures.offend(|| what);
        }
        let mut heads = heads.into_iter().peekable();
        let mut tree = Frontier::new();
        let (mut last_size, mut last_ms) = (0, i64::MIN);
        loop {
            let entries = self.entries_from(log.no, tree.size()).await?;
            if entries.is_empty() {
                break;
            }
            let batches = draft::batches(self.database, self.connection, entries.iter().map(|(_, id)| *id)).await?;
            let batches: BTreeMap<Uuid, StoredBatch> = batches.into_iter().map(|batch| (batch.id, batch)).collect();
            let from = tree.size();
            let mut grown = BTreeMap::new();
            for (index, id) in entries {
                self.entries.rows += 1;
                if index != tree.size() {
                    let expected = tree.size();
                    self.entries
                        .offend(|| format!("log {}: entry {expected} is missing, {index} follows", log.no));
                    return Ok(());
                }
                let Some(batch) = batches.get(&id) else {
                    self.entries
                        .offend(|| format!("log {}, entry {index}: the batch {id} is missing", log.no));
                    return Ok(());
                };
                self.check_batch(batch);
                grown.extend(tree.push(batch.entry_hash()));
                while let Some(head) = heads.next_if(|head| head.head.size == tree.size()) {
                    self.check_head(&head, &tree.root(), &mut last_ms);
                    last_size = head.head.size;
                }
            }
            self.check_nodes(log.no, (from, tree.size()), &grown).await?;
        }
        if let Some(beyond) = heads.next() {
            let size = tree.size();
            self.heads.offend(|| {
                format!(
                    "log {}: the head of size {} has no entries behind it, which end at {size}",
                    log.no, beyond.head.size
                )
            });
        }
        if last_size != tree.size() {
            self.heads
                .offend(|| format!("log {}: no head covers the entries from {last_size} on", log.no));
        }
        self.check_count(log.no, tree.size()).await
    }

    async fn heads_of(&self, log: &LogRow) -> Result<Vec<HeadRow>, StoreError> {
        rows::heads(
            self.connection,
            "WHERE h.log_no = $1 ORDER BY h.size",
            vec![log.no.into()],
        )
        .await
    }

    async fn entries_from(&self, log_no: i64, from: u64) -> Result<Vec<(u64, Uuid)>, StoreError> {
        let sql = "SELECT idx, batch_id FROM log_entry WHERE log_no = $1 AND idx >= $2 ORDER BY idx LIMIT $3";
        let values = vec![log_no.into(), signed(from)?.into(), signed(PAGE)?.into()];
        let found = query(self.connection, sql, values).await?;
        let read = |row: &QueryResult| Ok((unsigned(row.try_get("", "idx")?)?, row.try_get("", "batch_id")?));
        found.iter().map(read).collect()
    }

    fn check_batch(&mut self, batch: &StoredBatch) {
        self.batches.rows += 1;
        let id = batch.id;
        let Some(leaves) = batch.contents.leaves() else {
            self.batches.offend(|| format!("batch {id}: its leaves cannot be read"));
            return;
        };
        if leaves.is_empty() || batch.contents.root() != batch.root {
            self.batches
                .offend(|| format!("batch {id}: its root is not that of its {} leaves", leaves.len()));
        }
        let mut seen: Vec<_> = leaves.iter().map(|leaf| (leaf.kind, leaf.id)).collect();
        seen.sort_unstable();
        if let Some([(_, twice), _]) = seen.array_windows().find(|[one, next]| one == next) {
            self.batches
                .offend(|| format!("batch {id}: two leaves are about {twice}"));
        }
    }

    fn check_head(&mut self, row: &HeadRow, root: &Hash, last_ms: &mut i64) {
        let (no, Head { size, at_ms, .. }) = (row.log_no, row.head);
        self.heads.rows += 1;
        if row.head.root != *root {
            self.heads
                .offend(|| format!("log {no}, head of size {size}: its root is not that of the entries"));
        }
        if at_ms < *last_ms {
            self.heads.offend(|| {
                format!("log {no}, head of size {size}: it is of an earlier instant than the one before it")
            });
        }
        *last_ms = at_ms;
        if let Some(published) = row.published() {
            self.signatures.rows += 1;
            if let Err(fault) = self.keys.check(&published) {
                self.signatures
                    .offend(|| format!("log {no}, head of size {size}: {fault}"));
            }
        }
    }

    /// The stored subtrees that end within a page of entries are those that the entries make.
    async fn check_nodes(
        &mut self,
        log_no: i64,
        (from, to): (u64, u64),
        grown: &BTreeMap<Node, Hash>,
    ) -> Result<(), StoreError> {
        let nodes: Vec<Node> = grown.keys().copied().collect();
        let stored = crate::lookup::nodes(self.database, self.connection, log_no, &nodes).await?;
        self.nodes.rows += to - from;
        for (node, hash) in grown {
            if stored.get(node) != Some(hash) {
                let Node { level, index } = node;
                self.nodes.offend(|| {
                    format!("log {log_no}: the subtree {index} of level {level} is not that of its entries")
                });
            }
        }
        Ok(())
    }

    /// A complete tree of so many leaves has `2n - ones(n)` complete subtrees: there is none beside them.
    async fn check_count(&mut self, log_no: i64, size: u64) -> Result<(), StoreError> {
        let sql = "SELECT COUNT(*) AS n FROM log_node WHERE log_no = $1";
        let found = query(self.connection, sql, vec![log_no.into()]).await?;
        let stored: i64 = found.first().map_or(Ok(0), |row| row.try_get("", "n"))?;
        let expected = 2 * size - u64::from(size.count_ones());
        if unsigned(stored)? != expected {
            self.nodes
                .offend(|| format!("log {log_no}: {stored} subtrees are stored, and {size} entries make {expected}"));
        }
        Ok(())
    }

    async fn check_pending(&mut self) -> Result<(), StoreError> {
        let sql = "SELECT b.id FROM log_batch b WHERE b.id > $1 ORDER BY b.id LIMIT 1000";
        let lost = "SELECT b.id FROM log_batch b WHERE b.id > $1 AND b.id <= $2 \
             AND NOT EXISTS (SELECT 1 FROM log_entry e WHERE e.batch_id = b.id) \
             AND NOT EXISTS (SELECT 1 FROM log_pending p WHERE p.batch_id = b.id) LIMIT 1";
        let mut above = Uuid::nil();
        loop {
            let page = query(self.connection, sql, vec![above.into()]).await?;
            let Some(last) = page.last() else { return Ok(()) };
            let last: Uuid = last.try_get("", "id")?;
            self.pending.rows += u64::try_from(page.len()).unwrap_or(u64::MAX);
            if let Some(row) = query(self.connection, lost, vec![above.into(), last.into()])
                .await?
                .first()
            {
                let id: Uuid = row.try_get("", "id")?;
                self.pending
                    .offend(|| format!("batch {id}: it has no place in the log and waits for none"));
            }
            above = last;
        }
    }

    /// Copies are made after the commit: what they say is compared with what is committed by now, and not with what this
    /// reading began with.
    async fn check_copies(&mut self, folder: &Path) -> Result<(), LogError> {
        let connection = self.database.readers();
        let logs = rows::logs(connection).await?;
        let folder = folder.to_path_buf();
        let (sender, mut rounds) = tokio::sync::mpsc::channel::<CopiedRound>(4);
        let reading = tokio::task::spawn_blocking(move || {
            copies::read_all(&folder, |_, round| {
                sender.blocking_send(round).map_err(io::Error::other)
            })
        });
        while let Some(round) = rounds.recv().await {
            self.copies.rows += 1;
            if let Some(what) = difference(self.database, &logs, &round).await? {
                let head = round.head();
                self.copies
                    .offend(|| format!("copy of the head of size {} of log {}: {what}", head.size, head.log));
            }
        }
        let damage = reading
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(LogError::Copies)?;
        if let Some(what) = damage.into_iter().next() {
            self.copies.offend(|| what);
        }
        Ok(())
    }
}

/// What the database says otherwise than a copy.
async fn difference(database: &Database, logs: &[LogRow], round: &CopiedRound) -> Result<Option<String>, StoreError> {
    let connection = database.readers();
    let head = round.head();
    let Some(log) = logs.iter().find(|log| log.id == head.log) else {
        return Ok(Some("the database does not know this log".to_owned()));
    };
    if logs.last().is_some_and(|last| last.no > log.no) {
        // another log began because of what its copies say
        return Ok(None);
    }
    let values = vec![log.no.into(), signed(head.size)?.into()];
    let sql = "SELECT root, at_ms FROM log_head WHERE log_no = $1 AND size = $2";
    let Some(row) = query(connection, sql, values).await?.pop() else {
        return Ok(Some("the database has no such head".to_owned()));
    };
    let at_ms: i64 = row.try_get("", "at_ms")?;
    if (hash(&row, "root")?, at_ms) != (head.root, head.at_ms) {
        return Ok(Some("the database has another root or instant".to_owned()));
    }
    let copied = round.batches();
    let stored = draft::batches(database, connection, copied.iter().map(|batch| batch.id)).await?;
    let stored: BTreeMap<Uuid, StoredBatch> = stored.into_iter().map(|batch| (batch.id, batch)).collect();
    let differs = copied.iter().find(|batch| stored.get(&batch.id) != Some(*batch));
    Ok(differs.map(|batch| format!("the database has other leaves in batch {}, or none", batch.id)))
}
