//! The handle to a node's archive. What a commit changed is handed over and written by a thread of its own: a disk that
//! is slow or full costs the archive, never the ledger.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use parking_lot::Mutex;

use super::{
    draft::Draft,
    record::{Part, Record},
    segments::{ArchiveSettings, Segments},
};
use crate::ledger_store::NodeIdentity;

/// Batches and movements that may wait.
const MAX_WAITING: usize = 1_024;
/// Rows that may wait: about 100 MiB with their request-log records.
const MAX_WAITING_ROWS: usize = 50_000;

/// What a movement outside the writer changed, to be handed to [`Archive::keep`] after its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "hand it to the archive after the commit"]
pub struct Movement(pub(crate) Box<Part>);

enum Kept {
    Batch(Box<Draft>),
    Movement(Movement),
}

/// A node's archive. Cheap to clone.
#[derive(Clone, Default)]
pub struct Archive {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    sender: Mutex<Option<SyncSender<Kept>>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    waiting_rows: Arc<AtomicUsize>,
    is_losing: AtomicBool,
}

impl Archive {
    /// An archive that keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Begins the archive of a boot, in the line of history that the database is in.
    ///
    /// # Errors
    /// When its folder cannot be made or the thread cannot be started.
    pub fn start(settings: ArchiveSettings, node: NodeIdentity, line: i64) -> io::Result<Self> {
        let segments = Segments::new(settings, node.id.as_uuid(), node.boot, line)?;
        let (sender, received) = sync_channel(MAX_WAITING);
        let waiting_rows = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&waiting_rows);
        let thread = std::thread::Builder::new().name("archive".to_owned());
        let writing = thread.spawn(move || write_all(segments, &received, &waiting))?;
        Ok(Self {
            inner: Some(Arc::new(Inner {
                sender: Mutex::new(Some(sender)),
                writing: Mutex::new(Some(writing)),
                waiting_rows,
                is_losing: AtomicBool::new(false),
            })),
        })
    }

    /// Whether anything is kept.
    pub const fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Keeps what a movement changed. Call it after the commit, never before; it does not wait.
    pub fn keep(&self, movement: Movement) {
        self.hand_over(1, Kept::Movement(movement));
    }

    /// Keeps what a batch changed, which has been committed. Does not wait.
    pub(crate) fn keep_batch(&self, draft: Draft) {
        self.hand_over(draft.weight(), Kept::Batch(Box::new(draft)));
    }

    fn hand_over(&self, rows: usize, kept: Kept) {
        let Some(inner) = &self.inner else { return };
        let has_room = inner.waiting_rows.fetch_add(rows, Ordering::Relaxed) <= MAX_WAITING_ROWS;
        let sent = has_room
            && inner
                .sender
                .lock()
                .as_ref()
                .is_some_and(|sender| sender.try_send(kept).is_ok());
        if !sent {
            inner.waiting_rows.fetch_sub(rows, Ordering::Relaxed);
            note_loss("it does not keep up with the ledger", &inner.is_losing);
        } else if inner.is_losing.load(Ordering::Relaxed) {
            inner.is_losing.store(false, Ordering::Relaxed);
        }
    }

    /// Writes what has been handed over, and ends. What comes later is lost. Blocks.
    pub fn close(&self) {
        let Some(inner) = &self.inner else { return };
        drop(inner.sender.lock().take());
        let writing = inner.writing.lock().take();
        if writing.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's archive has panicked");
        }
    }
}

fn write_all(mut segments: Segments, received: &Receiver<Kept>, waiting_rows: &AtomicUsize) {
    let is_losing = AtomicBool::new(false);
    while let Ok(kept) = received.recv() {
        let (rows, records) = match kept {
            Kept::Batch(draft) => (draft.weight(), draft.into_records()),
            Kept::Movement(Movement(part)) => (1, vec![Record::Part(part)]),
        };
        waiting_rows.fetch_sub(rows, Ordering::Relaxed);
        match segments.append(&records) {
            Ok(()) => is_losing.store(false, Ordering::Relaxed),
            Err(error) => note_loss(&error.to_string(), &is_losing),
        }
    }
}

/// A gap in the archive: a restore from backup will name it as a loss. Said once until the archive works again.
fn note_loss(why: &str, is_losing: &AtomicBool) {
    metrics::counter!("truerelay_ledger_archive_lost_total").increment(1);
    if !is_losing.swap(true, Ordering::Relaxed) {
        tracing::error!(
            why,
            "the ledger's archive has lost a commit: take a backup of the database soon"
        );
    }
}
