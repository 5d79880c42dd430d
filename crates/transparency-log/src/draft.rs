//! The row that a transaction inserts for everything that it puts into the log.

use sea_orm::{ConnectionTrait, QueryResult};
use store::{Database, StoreError, Tx, bulk::Rows};
use transparency::{BatchContents, Hash, LeafKind, Logged, entry_hash, leaf_hash};
use uuid::{Builder, Uuid};

/// A statement and its rows, to be sent together with others of the same transaction.
pub type ChangeOfLog = (&'static str, Rows);

const BATCH: &str = "INSERT INTO log_batch (id, at_ms, root, ids, salts, leaf_values) \
     SELECT r.id, r.at_ms, r.root, r.ids, r.salts, r.leaf_values FROM {rows}";
const PENDING: &str = "INSERT INTO log_pending (batch_id) SELECT r.id FROM {rows}";

/// The batch of the log that a batch of a ledger writer makes: the same name always has the same id.
pub fn writer_batch(node: Uuid, boot: Uuid, number: i64) -> Uuid {
    derived(&[b"writer", node.as_bytes(), boot.as_bytes(), &number.to_be_bytes()])
}

/// The batch of the log that a transaction outside a writer makes.
pub fn movement_batch(transaction: Uuid) -> Uuid {
    derived(&[b"movement", transaction.as_bytes()])
}

/// UUIDv8 over a hash; each part of a name has the same length wherever it is used.
fn derived(parts: &[&[u8]]) -> Uuid {
    let named = [b"truerelay-log-batch".as_slice()]
        .into_iter()
        .chain(parts.iter().copied());
    let Hash(digest) = leaf_hash(&named.collect::<Vec<_>>().concat());
    Builder::from_custom_bytes(*digest.first_chunk().unwrap_or(&[0; 16])).into_uuid()
}

/// Leaves of one transaction, being put together.
#[derive(Debug)]
pub struct BatchDraft {
    id: Uuid,
    contents: BatchContents,
}

impl BatchDraft {
    /// A batch without leaves, and room for so many.
    pub fn new(id: Uuid, leaves: usize) -> Self {
        Self {
            id,
            contents: BatchContents::with_capacity(leaves),
        }
    }

    /// The batch's id, which its rows name.
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// Adds a leaf with a new salt.
    pub fn push(&mut self, kind: LeafKind, id: Uuid, statement: &str) {
        self.contents.push(kind, id, rand::random(), statement);
    }

    /// The batch with what it will be stored as.
    pub fn stored(self, at_ms: i64) -> StoredBatch {
        StoredBatch {
            id: self.id,
            at_ms,
            root: self.contents.root(),
            contents: self.contents,
        }
    }
}

/// A batch as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its id.
    pub id: Uuid,
    /// When it was committed.
    pub at_ms: i64,
    /// The root over its leaves.
    pub root: Hash,
    /// The leaves.
    pub contents: BatchContents,
}

impl StoredBatch {
    /// The log's leaf for it.
    pub fn entry_hash(&self) -> Hash {
        let leaves = u64::try_from(self.contents.len()).unwrap_or(u64::MAX);
        entry_hash(self.id, leaves, &self.root)
    }

    /// What has to be sent in the transaction whose leaves they are: nothing without leaves.
    pub fn changes(&self) -> [ChangeOfLog; 2] {
        let batches = if self.contents.is_empty() {
            &[][..]
        } else {
            std::slice::from_ref(self)
        };
        changes(batches)
    }
}

pub(crate) fn changes(batches: &[StoredBatch]) -> [ChangeOfLog; 2] {
    let ids = || batches.iter().map(|batch| batch.id);
    let rows = Rows::new()
        .uuids("id", ids())
        .numbers("at_ms", batches.iter().map(|batch| batch.at_ms))
        .bytes("root", batches.iter().map(|batch| batch.root.0))
        .bytes("ids", batches.iter().map(|batch| &batch.contents.ids))
        .bytes("salts", batches.iter().map(|batch| &batch.contents.salts))
        .bytes("leaf_values", batches.iter().map(|batch| &batch.contents.values));
    [(BATCH, rows), (PENDING, Rows::new().uuids("id", ids()))]
}

pub(crate) fn read(row: &QueryResult) -> Result<StoredBatch, StoreError> {
    let root: Vec<u8> = row.try_get("", "root")?;
    Ok(StoredBatch {
        id: row.try_get("", "id")?,
        at_ms: row.try_get("", "at_ms")?,
        root: Hash::from_slice(&root).ok_or_else(|| StoreError::damaged("log_batch.root"))?,
        contents: BatchContents {
            ids: row.try_get("", "ids")?,
            salts: row.try_get("", "salts")?,
            values: row.try_get("", "leaf_values")?,
        },
    })
}

/// Batches by their ids, in no order; those that there are not are left out.
///
/// # Errors
/// What the database says.
pub async fn batches(
    database: &Database,
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<StoredBatch>, StoreError> {
    const SELECT: &str = "SELECT b.id, b.at_ms, b.root, b.ids, b.salts, b.leaf_values FROM {rows} \
         JOIN log_batch b ON b.id = r.id";
    let rows = Rows::new().uuids("id", ids);
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let found = connection.query_all_raw(database.statement(SELECT, &rows)).await?;
    found.iter().map(read).collect()
}

/// The leaves of one batch, for who has a transaction open; none if there is no such batch.
///
/// # Errors
/// What the database says; [`StoreError::Damaged`] for a batch that cannot be read.
pub async fn leaves_of(tx: &Tx, batch: Uuid) -> Result<Vec<Logged>, StoreError> {
    const SELECT: &str = "SELECT id, at_ms, root, ids, salts, leaf_values FROM log_batch WHERE id = $1";
    let found = tx.query(SELECT, vec![batch.into()]).await?;
    let Some(row) = found.first() else {
        return Ok(Vec::new());
    };
    read(row)?
        .contents
        .leaves()
        .ok_or_else(|| StoreError::damaged("log_batch.ids"))
}
