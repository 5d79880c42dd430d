//! The time that money rules go by: the database's clock as of the last batch, plus monotonic time since.
//!
//! Nodes whose wall clocks differ agree on prices and periods, and a jump of the wall clock changes nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use domain::clock::UnixMs;
use tokio::time::Instant;

/// The ledger's clock on this node.
#[derive(Debug)]
pub struct LedgerClock {
    started: Instant,
    /// The database's time at `started`, in milliseconds.
    base_ms: AtomicI64,
}

impl LedgerClock {
    /// A clock that was just set by the database.
    pub fn new(database_now: UnixMs) -> Self {
        Self {
            started: Instant::now(),
            base_ms: AtomicI64::new(database_now.0),
        }
    }

    /// Now, as the database would say.
    pub fn now(&self) -> UnixMs {
        UnixMs(self.base_ms.load(Ordering::Relaxed).saturating_add(self.elapsed_ms()))
    }

    /// Sets the clock by a reading of the database's.
    pub fn set(&self, database_now: UnixMs) {
        let base = database_now.0.saturating_sub(self.elapsed_ms());
        self.base_ms.store(base, Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
