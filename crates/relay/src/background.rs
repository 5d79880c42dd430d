//! Work that outlives its request: reading an answer to its end for a client that has left, estimating usage.
//!
//! It runs on a runtime that the server owns, because tasks of a web worker die with the worker, and the drain waits
//! for it.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::Semaphore, task::AbortHandle};
use tokio_util::task::TaskTracker;

/// How many answers are read to their end for clients that have left.
const MAX_DRAINS: usize = 256;

/// Where background work is put. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Background {
    runtime: Handle,
    tracker: TaskTracker,
    drains: Arc<Semaphore>,
}

impl Background {
    /// Background work on the given runtime.
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            tracker: TaskTracker::new(),
            drains: Arc::new(Semaphore::new(MAX_DRAINS)),
        }
    }

    /// Starts a task that the drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.runtime);
    }

    /// Starts work that keeps a core busy for a moment, away from the event loops.
    pub fn compute(&self, work: impl FnOnce() + Send + 'static) {
        self.tracker.spawn_blocking_on(work, &self.runtime);
    }

    /// Starts a task that only watches another one: nobody waits for it.
    pub fn watch(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(task).abort_handle()
    }

    /// A place to read an answer to its end; `None` when too many are being read.
    pub fn drain_place(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.drains).try_acquire_owned().ok()
    }

    /// Waits until all work is done. New work may still be started; it is waited for as well.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
