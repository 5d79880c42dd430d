//! The sequencer: a task of each node that extends the log several times a second. For each head: the database first, then
//! the copy on disk, then the signature, which publishes it. A crash between them is made good in the next round, by
//! whichever node comes first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;
use sea_orm::ConnectionTrait;
use store::{Database, StoreError};
use tokio::{runtime::Handle, sync::watch};
use transparency::{Frontier, LogKey};
use uuid::Uuid;

use crate::{
    copies::{CopiedRound, Copies, CopySettings},
    error::LogError,
    round::{self, Added, MOST_BATCHES, Turn},
    rows::query,
};

/// How often there is a new head, while there is something for it.
const EVERY: Duration = Duration::from_millis(200);
/// How often a failure is told.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How often the gauges are set.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// What a sequencer works with.
pub struct SequencerSettings {
    /// Signs heads.
    pub key: LogKey,
    /// Where heads and leaves go before they are published.
    pub copies: CopySettings,
    /// This boot of the node: names its files.
    pub boot: Uuid,
}

/// Extends the log.
pub struct Sequencer {
    database: Database,
    key: LogKey,
    copies: Arc<Mutex<Copies>>,
    /// The tree as it was left last, with its log's number.
    tree: Option<(i64, Frontier)>,
    /// The head that was made here and is not signed yet.
    unfinished: Option<u64>,
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequenced {
    /// Batches that are covered by a published head now.
    pub batches: usize,
    /// Heads that were published.
    pub heads: usize,
}

impl Sequencer {
    /// A sequencer that has not begun.
    ///
    /// # Errors
    /// [`LogError::Copies`] when the folder cannot be made.
    pub fn new(database: Database, settings: SequencerSettings) -> Result<Self, LogError> {
        let copies = Copies::new(settings.copies, settings.boot).map_err(LogError::Copies)?;
        Ok(Self {
            database,
            key: settings.key,
            copies: Arc::new(Mutex::new(copies)),
            tree: None,
            unfinished: None,
        })
    }

    /// Runs until it is told to stop; what was committed until then is published first, if that can be done.
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut told: Option<Instant> = None;
        let mut measured: Option<Instant> = None;
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            match self.catch_up().await {
                Ok(_) => told = None,
                Err(error) => {
                    counter!("truerelay_log_failures_total").increment(1);
                    if told.is_none_or(|at| at.elapsed() > TELL_EVERY) {
                        tracing::error!(%error, "the transparency log cannot be extended: receipts wait");
                        told = Some(Instant::now());
                    }
                }
            }
            if is_last {
                return;
            }
            if measured.is_none_or(|at| at.elapsed() > MEASURE_EVERY) {
                measured = Some(Instant::now());
                if let Err(error) = self.measure().await {
                    tracing::debug!(%error, "the log cannot be measured");
                }
            }
        }
    }

    /// Publishes heads until no batch waits any more, or another node is at it.
    ///
    /// # Errors
    /// [`LogError`]; what was published stays.
    pub async fn catch_up(&mut self) -> Result<Sequenced, LogError> {
        let mut done = Sequenced::default();
        if self.tree.is_some() && self.unfinished.is_none() && !self.something_waits().await? {
            return Ok(done);
        }
        loop {
            let since = Instant::now();
            let known = self.tree.as_ref();
            match round::take_turn(&self.database, &self.key, known, self.unfinished).await? {
                Turn::NotOurs => return Ok(done),
                Turn::Idle => {
                    self.tree.get_or_insert_with(|| (0, Frontier::new()));
                    return Ok(done);
                }
                Turn::Unsigned(heads) => {
                    for added in heads {
                        done.batches += added.batches.len();
                        done.heads += 1;
                        self.publish(added).await?;
                    }
                }
                Turn::Made(added, tree) => {
                    self.tree = Some((added.log.no, tree));
                    self.unfinished = Some(added.head.size);
                    let count = added.batches.len();
                    done.batches += count;
                    done.heads += 1;
                    self.publish(*added).await?;
                    histogram!("truerelay_log_round_seconds").record(since.elapsed().as_secs_f64());
                    if count < MOST_BATCHES {
                        return Ok(done);
                    }
                }
            }
        }
    }

    async fn publish(&mut self, added: Added) -> Result<(), LogError> {
        let copy = CopiedRound::of(&added.log, added.first, &added.batches, &added.head);
        let copies = Arc::clone(&self.copies);
        let written = tokio::task::spawn_blocking(move || copies.lock().append(&copy)).await;
        written
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(LogError::Copies)?;
        round::write_signature(&self.database, added.log.no, &added.head, &self.key).await?;
        self.unfinished = None;
        Ok(())
    }

    /// Whether a turn is worth its lock.
    async fn something_waits(&self) -> Result<bool, StoreError> {
        let sql = "SELECT CASE WHEN EXISTS (SELECT 1 FROM log_pending) \
                   OR COALESCE((SELECT MAX(size) FROM log_head WHERE log_no = (SELECT MAX(no) FROM log)), 0) > \
                   COALESCE((SELECT MAX(size) FROM log_signature WHERE log_no = (SELECT MAX(no) FROM log)), 0) \
                   THEN 1 ELSE 0 END AS waits";
        let rows = query(self.database.readers(), sql, vec![]).await?;
        let waits: i32 = rows.first().map_or(Ok(0), |row| row.try_get("", "waits"))?;
        Ok(waits == 1)
    }

    async fn measure(&self) -> Result<(), StoreError> {
        let sql = "SELECT COALESCE(MAX(h.size), 0) AS size FROM log_head h JOIN log_signature s \
                   ON s.log_no = h.log_no AND s.size = h.size WHERE h.log_no = (SELECT MAX(no) FROM log)";
        gauge!("truerelay_log_size").set(whole(first_number(self.database.readers(), sql, "size").await?));
        let sql = "SELECT COALESCE(MIN(b.at_ms), -1) AS at_ms FROM log_pending p JOIN log_batch b ON b.id = p.batch_id";
        let oldest = first_number(self.database.readers(), sql, "at_ms").await?;
        let age_ms = if oldest < 0 {
            0
        } else {
            self.database.now().await?.0 - oldest
        };
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        gauge!("truerelay_log_oldest_waiting_seconds").set(age.as_secs_f64());
        Ok(())
    }
}

async fn first_number(connection: &impl ConnectionTrait, sql: &str, column: &str) -> Result<i64, StoreError> {
    let rows = query(connection, sql, vec![]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.try_get("", column))?)
}

/// Exact up to 2^53, which no log reaches.
#[allow(clippy::cast_precision_loss)]
const fn whole(count: i64) -> f64 {
    count as f64
}

/// A sequencer that runs. Cheap to clone.
#[derive(Clone)]
pub struct SequencerTask {
    stop: Arc<watch::Sender<bool>>,
    ended: watch::Receiver<bool>,
}

impl SequencerTask {
    /// Starts it.
    pub fn start(sequencer: Sequencer, runtime: &Handle) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        runtime.spawn(async move {
            sequencer.run(stopped).await;
            end.send_replace(true);
        });
        Self {
            stop: Arc::new(stop),
            ended,
        }
    }

    /// Publishes what was committed until now, if that can be done, and ends it.
    pub async fn finish(&self) {
        self.stop.send_replace(true);
        // an error says that it has ended
        drop(self.ended.clone().wait_for(|ended| *ended).await);
    }
}
