//! After a restore from backup: what the database lacks of the log is put back from the copies, so that what was published
//! stays true. Where that cannot be done a new log begins, which everybody sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use store::{Database, StoreError, Tx};
use uuid::Uuid;

use crate::{
    copies::{self, Boot, CopiedRound, Location},
    draft::{self, StoredBatch},
    error::LogError,
    lookup,
    round::{self, begin_log, insert_log, last_head},
    rows::{self, LogRow},
};

/// What a restore found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// The database has everything that was copied.
    Nothing,
    /// What it lacked was put back.
    PutBack {
        /// How many batches.
        batches: u64,
        /// How many heads.
        heads: u64,
    },
    /// Something that had been published cannot be put back: another log has begun.
    NewLog {
        /// What it was.
        reason: String,
    },
}

/// A round in a file, without its batches.
struct Known {
    log: LogRow,
    first: u64,
    size: u64,
    at: Location,
}

/// Compares the copies in some folders with the database, and makes good what it lacks. No node may extend the log
/// meanwhile whose database is the same.
///
/// # Errors
/// What the database or the disk says: nothing was changed then.
pub async fn restore(database: &Database, folders: &[PathBuf]) -> Result<Restored, LogError> {
    let boots = ends_of_boots(folders).await?;
    let tx = database.begin().await?;
    round::lock(&tx, true).await?;
    let mut lacks = false;
    let mut contradiction = None;
    for copied in boots.iter().filter_map(|boot| boot.newest.as_ref()) {
        match says_the_same(&tx, copied).await? {
            Some(true) => {}
            None => lacks = true,
            Some(false) => contradiction = Some(contradiction_at(copied)),
        }
    }
    if !lacks && contradiction.is_none() {
        contradiction = unknown_end(&tx, &boots).await?;
    }
    if !lacks && contradiction.is_none() {
        tx.rollback().await?;
        return Ok(Restored::Nothing);
    }
    let rounds = all_rounds(folders).await?;
    let mut work = Restoring {
        database,
        tx,
        batches: 0,
        heads: 0,
    };
    let outcome = match contradiction {
        Some(reason) => Err(reason),
        None => work.put_back(&rounds, &boots).await?,
    };
    let restored = match outcome {
        Ok(()) => Restored::PutBack {
            batches: work.batches,
            heads: work.heads,
        },
        Err(reason) => {
            work.begin_anew(&rounds, &reason).await?;
            Restored::NewLog { reason }
        }
    };
    work.tx.commit().await?;
    tell(&restored);
    Ok(restored)
}

/// A batch that has no leaves any more was published within moments, or never: further from the last head that is known,
/// it must be taken for published.
const MOMENTS_MS: i64 = 30_000;

/// Begins another log if batches that got new leaves may have been published with those that are lost. They are given by
/// the earliest and the latest instant.
///
/// # Errors
/// What the database says.
pub async fn begin_anew_after(database: &Database, (from_ms, to_ms): (i64, i64)) -> Result<Option<String>, StoreError> {
    let tx = database.begin().await?;
    round::lock(&tx, true).await?;
    let Some(log) = rows::logs(tx.connection()).await?.pop() else {
        tx.rollback().await?;
        return Ok(None);
    };
    let last_ms = last_head(&tx, log.no)
        .await?
        .map_or(log.created_at_ms, |last| last.head.at_ms);
    if from_ms >= last_ms - MOMENTS_MS && to_ms <= last_ms + MOMENTS_MS {
        tx.rollback().await?;
        return Ok(None);
    }
    let reason = format!(
        "no copy is left of what was published between {from_ms} and {to_ms} ms; the last head that is known is of {last_ms} ms"
    );
    begin_log(&tx, log.no + 1, tx.now().await?.0, &reason).await?;
    tx.commit().await?;
    tell(&Restored::NewLog { reason: reason.clone() });
    Ok(Some(reason))
}

fn tell(restored: &Restored) {
    match restored {
        Restored::Nothing => {}
        Restored::PutBack { batches, heads } => {
            tracing::warn!(batches, heads, "the transparency log was put back from its copies");
        }
        Restored::NewLog { reason } => {
            metrics::counter!("truerelay_log_begun_anew_total").increment(1);
            tracing::error!(
                reason,
                "A NEW TRANSPARENCY LOG BEGINS: what was published of the old one cannot be continued. Tell your customers"
            );
        }
    }
}

fn contradiction_at(copied: &CopiedRound) -> String {
    let head = copied.head();
    format!(
        "the database says otherwise than the copies about the head of size {} of log {}",
        head.size, head.log
    )
}

/// How the copies of each boot end. What is damaged there is told.
async fn ends_of_boots(folders: &[PathBuf]) -> Result<Vec<Boot>, LogError> {
    let folders = folders.to_vec();
    let boots = on_disk(move || {
        let found = folders.iter().map(|folder| copies::newest_of_boots(folder));
        Ok(found.collect::<std::io::Result<Vec<_>>>()?.concat())
    })
    .await?;
    for what in boots.iter().flat_map(|boot| &boot.damage_behind) {
        tracing::warn!(what, "a copy of the log is damaged");
    }
    Ok(boots)
}

/// Why the log in use cannot be gone on with, although the database has every round that can be read: it ends where a copy is
/// damaged, and what the damage hides may have been published.
async fn unknown_end(tx: &Tx, boots: &[Boot]) -> Result<Option<String>, StoreError> {
    let Some(log) = rows::logs(tx.connection()).await?.pop() else {
        return Ok(None);
    };
    let size = last_head(tx, log.no).await?.map_or(0, |last| last.head.size);
    let damaged = boots.iter().filter(|boot| !boot.damage_behind.is_empty());
    let hides = |copied: &&CopiedRound| copied.head().log == log.id && copied.head().size >= size;
    Ok(damaged
        .filter_map(|boot| boot.newest.as_ref())
        .find(hides)
        .map(|copied| {
            format!(
                "a copy is damaged behind the head of size {} of log {}, and what it held may have been published",
                copied.head().size,
                log.id
            )
        }))
}

/// Every round that was copied, by log, place and size.
async fn all_rounds(folders: &[PathBuf]) -> Result<Vec<Known>, LogError> {
    let folders = folders.to_vec();
    let mut rounds = on_disk(move || {
        let mut rounds = Vec::new();
        for folder in &folders {
            let damage = copies::read_all(folder, |at, round| {
                rounds.push(Known {
                    log: round.log(),
                    first: round.first,
                    size: round.head().size,
                    at,
                });
                Ok(())
            })?;
            for what in damage {
                tracing::warn!(what, "a copy of the log is damaged");
            }
        }
        Ok(rounds)
    })
    .await?;
    rounds.sort_by_key(|round: &Known| (round.log.no, round.first, round.size));
    Ok(rounds)
}

async fn on_disk<T: Send + 'static>(read: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, LogError> {
    let done = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other);
    done.flatten().map_err(LogError::Copies)
}

/// Whether the database has the same head; `None` when it has none of that size and log. What belongs to a log that is not
/// in use any more was dealt with when that ended.
async fn says_the_same(tx: &Tx, copied: &CopiedRound) -> Result<Option<bool>, StoreError> {
    let (log, head) = (copied.log(), copied.head());
    let logs = rows::logs(tx.connection()).await?;
    if logs.last().is_some_and(|last| last.no > log.no) {
        return Ok(Some(true));
    }
    match logs.iter().find(|known| known.no == log.no) {
        None => return Ok(None),
        Some(known) if known.id != log.id => return Ok(Some(false)),
        Some(_) => {}
    }
    let rest = "WHERE h.log_no = $1 AND h.size = $2";
    let values = vec![log.no.into(), rows::signed(head.size)?.into()];
    if let Some(found) = rows::heads(tx.connection(), rest, values).await?.pop() {
        return Ok(Some(found.head == head));
    }
    // a log that has gone on beyond, without this head, is another one
    let last = last_head(tx, log.no).await?;
    Ok(last.is_some_and(|last| last.head.size > head.size).then_some(false))
}

struct Restoring<'a> {
    database: &'a Database,
    tx: Tx,
    batches: u64,
    heads: u64,
}

impl Restoring<'_> {
    /// Puts back what follows without a gap. The inner error says why that is not everything.
    async fn put_back(&mut self, rounds: &[Known], boots: &[Boot]) -> Result<Result<(), String>, LogError> {
        for of_log in rounds.chunk_by(|one, next| one.log.no == next.log.no) {
            let Some(log) = of_log.first().map(|round| round.log.clone()) else {
                continue;
            };
            if of_log.iter().any(|round| round.log.id != log.id) {
                return Ok(Err(format!("there are copies of two logs with the number {}", log.no)));
            }
            let logs = rows::logs(self.tx.connection()).await?;
            match logs.last() {
                Some(last) if last.no > log.no => continue,
                Some(last) if last.no == log.no => {}
                // the log before it ends where the database's does: that was so when this one began
                _ => insert_log(&self.tx, &log).await?,
            }
            if let Err(reason) = self.put_back_log(&log, of_log).await? {
                return Ok(Err(reason));
            }
        }
        Ok(unknown_end(&self.tx, boots).await?.map_or(Ok(()), Err))
    }

    async fn put_back_log(&mut self, log: &LogRow, rounds: &[Known]) -> Result<Result<(), String>, LogError> {
        let last = last_head(&self.tx, log.no).await?;
        let mut size = last.map_or(0, |last| last.head.size);
        let mut tree = lookup::frontier(self.database, self.tx.connection(), log.no, size).await?;
        for known in rounds.iter().filter(|round| round.size > size).collect::<Vec<_>>() {
            if known.size <= size {
                // copied by two nodes
                continue;
            }
            if known.first != size {
                let (first, log) = (known.first, log.id);
                return Ok(Err(format!(
                    "nothing is left of the batches {size} to {first} of log {log}, which had been published"
                )));
            }
            let at = known.at.clone();
            let copied = on_disk(move || copies::read_at(&at)).await?;
            let (batches, head) = (copied.batches(), copied.head());
            if !self.insert_batches(&batches, false).await? {
                return Ok(Err(contradiction_at(&copied)));
            }
            self.batches += rows_of(&batches);
            self.heads += 1;
            let (added, grown) = round::append(&self.tx, log.clone(), tree, batches, head.at_ms).await?;
            if added.head != head {
                return Ok(Err(format!(
                    "the copy of the head of size {} of log {} is not whole",
                    head.size, head.log
                )));
            }
            tree = grown;
            size = head.size;
        }
        Ok(Ok(()))
    }

    /// Inserts the batches that are not there; `false` when one is there with other leaves.
    async fn insert_batches(&self, batches: &[StoredBatch], waiting: bool) -> Result<bool, StoreError> {
        let ids = batches.iter().map(|batch| batch.id);
        let found = draft::batches(self.database, self.tx.connection(), ids).await?;
        let found: BTreeMap<Uuid, StoredBatch> = found.into_iter().map(|batch| (batch.id, batch)).collect();
        let differs = |batch: &&StoredBatch| found.get(&batch.id).is_some_and(|stored| stored != *batch);
        if batches.iter().any(|batch| differs(&batch)) {
            return Ok(false);
        }
        let missing: Vec<StoredBatch> = batches
            .iter()
            .filter(|batch| !found.contains_key(&batch.id))
            .cloned()
            .collect();
        let [stored, pending] = draft::changes(&missing);
        if waiting {
            self.tx.execute_together(&[stored, pending]).await?;
        } else {
            self.tx.execute_together(&[stored]).await?;
        }
        Ok(true)
    }

    /// Begins another log. What was in the old one and has no place any more waits for one in the new.
    async fn begin_anew(&mut self, rounds: &[Known], reason: &str) -> Result<(), LogError> {
        let logs = rows::logs(self.tx.connection()).await?;
        let mut known: BTreeSet<i64> = logs.iter().map(|log| log.no).collect();
        // logs that only the copies know keep their numbers
        for round in rounds {
            if known.insert(round.log.no) {
                insert_log(&self.tx, &round.log).await?;
            }
        }
        let next = known.last().map_or(1, |no| no + 1);
        let now = self.tx.now().await?.0;
        begin_log(&self.tx, next, now, reason).await?;
        for known in rounds {
            let at = known.at.clone();
            let copied = on_disk(move || copies::read_at(&at)).await?;
            for batch in copied.batches() {
                // one that is there with other leaves has been logged again
                self.insert_batches(&[batch], true).await?;
            }
        }
        Ok(())
    }
}

fn rows_of(batches: &[StoredBatch]) -> u64 {
    u64::try_from(batches.len()).unwrap_or(u64::MAX)
}
