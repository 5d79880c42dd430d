//! Batches in the database. The statements follow the order in which everybody who moves money takes locks:
//! node, account, budget, lot, hold, each sorted by key.

mod abandoned;
mod leaves;
mod load;
mod node;
mod read_back;
mod rows;
mod save;

pub use leaves::{PostedRow, log_batch, request_statement};
#[cfg(test)]
pub use load::LOOKUPS;
pub use rows::{NO_BUDGETS, read_charge, read_claim};
pub use save::{WRITER, write_transaction};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use domain::{Amount, RequestId, TenantId, clock::UnixMs, request::RequestRecord};
use parking_lot::Mutex;
use store::{Backend, Database, StoreError, Tx, bulk::Rows};

use crate::{
    archive::{Archive, Beside, Draft},
    batch::{Batch, Committed, Item, ItemOutcome, Locking},
    items::AbandonedHold,
    ledger_store::{Abandoned, LedgerStore, NodeIdentity},
    reading,
    rules::{BatchName, Book, BrokenBook},
};

/// Rows of another crate that belong in the same transaction as the end of their request.
pub trait BatchRider: Send + Sync {
    /// What stores the records of the requests that this batch closed; one that is there already has to stay as it is.
    /// It is sent with everything else that the batch changes.
    ///
    /// # Errors
    /// [`StoreError`] for a record that cannot be stored; the batch is then taken back.
    fn stored(&self, records: &[&RequestRecord]) -> Result<StoredRecords, StoreError>;
}

/// Records as they are stored.
pub struct StoredRecords {
    /// Their texts, in order, for the transparency log and the archive.
    pub texts: Vec<String>,
    /// The statement that stores them, and its rows.
    pub change: (&'static str, Rows),
}

/// Writes records that were archived.
///
/// # Errors
/// What the database says; [`StoreError::Damaged`] for a text that is no record.
pub async fn restore_records(rider: &dyn BatchRider, tx: &Tx, texts: &[String]) -> Result<(), StoreError> {
    let records: Vec<RequestRecord> = texts
        .iter()
        .map(|text| serde_json::from_str(text))
        .collect::<Result<_, _>>()
        .map_err(|_| StoreError::damaged("archived request record"))?;
    let (sql, rows) = rider.stored(&records.iter().collect::<Vec<_>>())?.change;
    tx.execute_rows(sql, &rows).await.map(drop)
}

/// The ledger's tables.
pub struct SqlBatchStore {
    database: Database,
    rider: Arc<dyn BatchRider>,
    archive: Archive,
    /// The batch whose commit was begun last, until it is known that it was made.
    unconfirmed: Mutex<Option<Draft>>,
}

impl SqlBatchStore {
    /// A store over an open database; `rider` writes the request log.
    pub fn new(database: Database, rider: Arc<dyn BatchRider>) -> Self {
        Self {
            database,
            rider,
            archive: Archive::off(),
            unconfirmed: Mutex::new(None),
        }
    }

    /// The same, with an archive that every committed batch is handed to.
    #[must_use]
    pub fn with_archive(self, archive: Archive) -> Self {
        Self { archive, ..self }
    }

    async fn apply_in(&self, tx: &Tx, batch: &Batch, locking: Locking) -> Result<Option<Committed>, StoreError> {
        let Some(now) = claim_number(tx, &batch.name).await? else {
            return Ok(None);
        };
        let (mut book, locked) = load::load_book(tx, batch, locking).await?;
        let outcomes = apply_items(&mut book, batch, &locked).map_err(broken)?;
        let records = records_of(&book, batch);
        let StoredRecords { texts, change } = self.rider.stored(&records)?;
        // the log states the records as they are stored
        let stated = records.iter().map(|record| record.id);
        let stated = stated.zip(texts.iter().map(String::as_str)).collect();
        let saved = save::save_changes(tx, &batch.name, &book, (&stated, change), now).await?;
        if self.archive.is_on() {
            let tenants = records.iter().map(|record| record.tenant);
            let beside = Beside {
                late: &saved.late,
                progress: &saved.progress,
                records: tenants.zip(texts.iter().map(String::as_str)).collect(),
            };
            *self.unconfirmed.lock() = Some(Draft::of(batch.name, now, &book, &beside));
        }
        Ok(Some(Committed {
            outcomes,
            available: available_of(&book, batch),
            now,
            orphans: book.changes.orphans,
        }))
    }

    /// The batch is in the database. If that is learnt after its acknowledgement was lost, what it did is still known
    /// from the attempt that was committed: a later one would not have come so far.
    fn archive(&self, batch: &Batch) {
        let draft = self.unconfirmed.lock().take();
        if let Some(draft) = draft.filter(|draft| draft.name == batch.name) {
            self.archive.keep_batch(draft);
        }
    }
}

#[async_trait]
impl LedgerStore for SqlBatchStore {
    async fn register_boot(&self, node: &NodeIdentity) -> Result<UnixMs, StoreError> {
        node::register_boot(&self.database, node).await
    }

    async fn apply(&self, batch: &Batch, locking: Locking) -> Result<Committed, StoreError> {
        let tx = self.database.begin_money().await?;
        match self.apply_in(&tx, batch, locking).await {
            Ok(Some(committed)) => {
                tx.commit().await?;
                self.archive(batch);
                Ok(committed)
            }
            Ok(None) => {
                let committed = read_back::read_back(&tx, batch).await?;
                tx.rollback().await?;
                self.archive(batch);
                Ok(committed)
            }
            Err(error) => {
                // told at once, the database gives the locks free and keeps the connection for the next try
                drop(tx.rollback().await);
                Err(error)
            }
        }
    }

    async fn quarantine(&self, node: &NodeIdentity, item: &Item, error: &StoreError) -> Result<(), StoreError> {
        node::quarantine(&self.database, node, item, error).await
    }

    async fn abandoned(
        &self,
        which: Abandoned,
        after: RequestId,
        limit: u32,
    ) -> Result<Vec<AbandonedHold>, StoreError> {
        abandoned::read_page(&self.database, which, after, limit).await
    }

    async fn available(&self, tenant: TenantId) -> Result<Amount, StoreError> {
        let balance = reading::balance(self.database.readers(), tenant).await?;
        Ok(balance.unwrap_or_default().available)
    }

    async fn now(&self) -> Result<UnixMs, StoreError> {
        self.database.now().await
    }
}

/// Takes the batch's number: `None` when the batch had been applied already (its acknowledgement was lost).
async fn claim_number(tx: &Tx, name: &BatchName) -> Result<Option<UnixMs>, StoreError> {
    let sql = match tx.backend() {
        Backend::Postgres => {
            "UPDATE node SET batch_no = $3, last_commit_at_ms = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT \
             WHERE id = $1 AND boot = $2 AND batch_no = $3 - 1 RETURNING last_commit_at_ms"
        }
        Backend::Sqlite => {
            "UPDATE node SET batch_no = $3, last_commit_at_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) \
             WHERE id = $1 AND boot = $2 AND batch_no = $3 - 1 RETURNING last_commit_at_ms"
        }
    };
    let rows = tx
        .query(sql, vec![name.node.into(), name.boot.into(), name.number.into()])
        .await?;
    if let Some(row) = rows.first() {
        return Ok(Some(UnixMs(row.try_get("", "last_commit_at_ms")?)));
    }
    let stored = tx
        .query(
            "SELECT batch_no FROM node WHERE id = $1 AND boot = $2",
            vec![name.node.into(), name.boot.into()],
        )
        .await?;
    let stored: Option<i64> = stored.first().map(|row| row.try_get("", "batch_no")).transpose()?;
    if stored == Some(name.number) {
        return Ok(None);
    }
    Err(StoreError::Fenced(
        "the node's batch number is neither before nor at this batch",
    ))
}

fn apply_items(book: &mut Book, batch: &Batch, locked: &BTreeSet<TenantId>) -> Result<Vec<ItemOutcome>, BrokenBook> {
    batch
        .items
        .iter()
        .map(|item| {
            if locked.contains(&item.tenant()) {
                return Ok(ItemOutcome::Deferred);
            }
            match item {
                Item::Hold(hold) => book.place_hold(hold).map(ItemOutcome::Hold),
                Item::Progress(progress) => book.note_progress(progress).map(|()| ItemOutcome::Noted),
                Item::Close(closing) => book.close(&batch.name, closing).map(|()| ItemOutcome::Closed),
            }
        })
        .collect()
}

/// The records of the requests that end in this batch: of each the first closing's, which is the one that counts.
fn records_of<'a>(book: &Book, batch: &'a Batch) -> Vec<&'a RequestRecord> {
    let mut seen: BTreeSet<RequestId> = BTreeSet::new();
    batch
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Close(closing) => Some(closing),
            Item::Hold(_) | Item::Progress(_) => None,
        })
        .filter(|closing| book.changes.charged.contains(&closing.request) && seen.insert(closing.request))
        .filter_map(|closing| closing.record.as_deref())
        .collect()
}

fn available_of(book: &Book, batch: &Batch) -> BTreeMap<TenantId, Amount> {
    batch
        .items
        .iter()
        .filter_map(|item| Some((item.tenant(), book.balances.get(&item.tenant())?.available)))
        .collect()
}

fn broken(error: BrokenBook) -> StoreError {
    StoreError::Contradiction(error.to_string())
}
