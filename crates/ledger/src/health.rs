//! Whether the database keeps up: how long the batch in flight has been pending.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The longest that a batch may be pending before the database is taken for away and new holds are refused at once.
pub const STALLED_AFTER: Duration = Duration::from_secs(3);
const IDLE: u64 = u64::MAX;

/// The writer's state, for admission and for readiness.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// When the batch in flight was begun, in milliseconds since `started`; [`IDLE`] when there is none.
    pending_since_ms: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            pending_since_ms: AtomicU64::new(IDLE),
        }
    }
}

impl Health {
    pub(crate) fn batch_started(&self) {
        self.pending_since_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    pub(crate) fn batch_ended(&self) {
        self.pending_since_ms.store(IDLE, Ordering::Relaxed);
    }

    /// Whether a batch has been pending for so long that the database must be taken for away.
    pub fn is_stalled(&self) -> bool {
        let since = self.pending_since_ms.load(Ordering::Relaxed);
        since != IDLE && u128::from(self.elapsed_ms().saturating_sub(since)) >= STALLED_AFTER.as_millis()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
