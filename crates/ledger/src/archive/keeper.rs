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

use domain::{TenantId, clock::UnixMs};
use parking_lot::Mutex;

use super::{
    draft::Draft,
    frame,
    record::{Part, Record},
    segments::{ArchiveSettings, Segments},
};
use crate::ledger_store::NodeIdentity;

/// Batches and movements that may wait.
const MAX_WAITING: usize = 8_192;
/// Bytes that may wait, and one batch more.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// What a movement outside the writer changed, to be handed to [`Archive::keep`] after its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "hand it to the archive after the commit"]
pub struct Movement(pub(crate) Box<Part<'static>>);

impl Movement {
    /// A change of a tenant's balance to a version, still without its rows.
    pub(crate) fn step(tenant: TenantId, version: i64, now: UnixMs) -> Self {
        Self(Box::new(Part {
            tenant: tenant.as_uuid(),
            version,
            is_step: true,
            at_ms: now.0,
            ..Part::default()
        }))
    }
}

/// A node's archive. Cheap to clone.
#[derive(Clone, Default)]
pub struct Archive {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    sender: Mutex<Option<SyncSender<Vec<u8>>>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    waiting_bytes: Arc<AtomicUsize>,
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
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&waiting_bytes);
        let thread = std::thread::Builder::new().name("archive".to_owned());
        let writing = thread.spawn(move || write_all(segments, &received, &waiting))?;
        Ok(Self {
            inner: Some(Arc::new(Inner {
                sender: Mutex::new(Some(sender)),
                writing: Mutex::new(Some(writing)),
                waiting_bytes,
                is_losing: AtomicBool::new(false),
            })),
        })
    }

    /// Whether anything is kept.
    pub const fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Keeps what a movement changed. Call it after the commit, never before; it does not wait.
    pub fn keep(&self, Movement(part): Movement) {
        if self.is_on() {
            let mut frames = Vec::new();
            let fits = frame::append(&mut frames, &Record::Part(part));
            self.hand_over(fits.then_some(frames));
        }
    }

    /// Keeps what a batch changed, which has been committed. Does not wait.
    pub(crate) fn keep_batch(&self, draft: Draft) {
        self.hand_over(draft.frames);
    }

    fn hand_over(&self, frames: Option<Vec<u8>>) {
        let Some(inner) = &self.inner else { return };
        let Some(frames) = frames else {
            note_loss("it is too long for a record", &inner.is_losing);
            return;
        };
        let bytes = frames.len();
        let has_room = inner.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) <= MAX_WAITING_BYTES;
        let send = |sender: &SyncSender<Vec<u8>>| sender.try_send(frames).is_ok();
        let sent = has_room && inner.sender.lock().as_ref().is_some_and(send);
        if sent {
            inner.is_losing.store(false, Ordering::Relaxed);
        } else {
            inner.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            note_loss("it does not keep up with the ledger", &inner.is_losing);
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

fn write_all(mut segments: Segments, received: &Receiver<Vec<u8>>, waiting_bytes: &AtomicUsize) {
    let is_losing = AtomicBool::new(false);
    while let Ok(frames) = received.recv() {
        waiting_bytes.fetch_sub(frames.len(), Ordering::Relaxed);
        match segments.append(&frames) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::{NodeId, TenantId, clock::UnixMs};
    use uuid::Uuid;

    use super::*;

    fn movement() -> Movement {
        Movement::step(TenantId::generate(), 0, UnixMs(1))
    }

    /// An archive whose disk takes nothing until it is read from.
    fn stalled(waiting: usize) -> (Archive, Receiver<Vec<u8>>, Arc<Inner>) {
        let (sender, received) = sync_channel(waiting);
        let inner = Arc::new(Inner {
            sender: Mutex::new(Some(sender)),
            writing: Mutex::new(None),
            waiting_bytes: Arc::default(),
            is_losing: AtomicBool::new(false),
        });
        let archive = Archive {
            inner: Some(Arc::clone(&inner)),
        };
        (archive, received, inner)
    }

    #[test]
    fn a_disk_that_hangs_costs_the_archive_and_stops_nobody() {
        let (archive, received, inner) = stalled(2);
        for _ in 0..5 {
            archive.keep(movement());
        }
        assert!(inner.is_losing.load(Ordering::Relaxed));
        let waiting: usize = received.try_iter().map(|frames| frames.len()).sum();
        assert_eq!(
            inner.waiting_bytes.swap(0, Ordering::Relaxed),
            waiting,
            "what was lost is not counted"
        );
        archive.keep(movement());
        assert!(!inner.is_losing.load(Ordering::Relaxed));
        assert_eq!(received.try_iter().count(), 1);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_too() {
        let (archive, received, inner) = stalled(100);
        inner.waiting_bytes.store(MAX_WAITING_BYTES + 1, Ordering::Relaxed);
        archive.keep(movement());
        assert_eq!(received.try_iter().count(), 0);
        assert_eq!(inner.waiting_bytes.load(Ordering::Relaxed), MAX_WAITING_BYTES + 1);
    }

    #[test]
    fn a_disk_that_fails_loses_what_it_fails_on_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let settings = ArchiveSettings {
            folder: folder.path().join("archive"),
            keep: Duration::from_secs(60),
            max_bytes: 1 << 20,
            segment_bytes: 1,
        };
        let node = NodeIdentity {
            id: NodeId::generate(),
            boot: Uuid::now_v7(),
        };
        let archive = Archive::start(settings.clone(), node, 0).unwrap();
        std::fs::remove_dir(&settings.folder).unwrap();
        archive.keep(movement());
        let inner = archive.inner.as_ref().unwrap();
        while inner.waiting_bytes.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        // it may be a moment until the first has failed: each is written or lost, and the last is written
        std::fs::create_dir(&settings.folder).unwrap();
        archive.keep(movement());
        archive.close();
        archive.keep(movement());
        let kept = std::fs::read_dir(&settings.folder).unwrap().count();
        assert!((1..=2).contains(&kept), "{kept}");
    }
}
