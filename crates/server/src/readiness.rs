//! Whether this node wants requests. The rule is pure; the state is a flag and an instant.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;

/// How long the database may have been silent. It is asked twice a second.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// Why a node does not want requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unready {
    /// It is stopping.
    Draining,
    /// The database has not answered for a while.
    DatabaseUnreachable,
    /// The database answers, but what has changed in the catalog could not be read for a while.
    CatalogStale,
    /// The database answers, but does not confirm what the ledger writes.
    LedgerStalled,
}

/// What is known of the node's state.
#[derive(Debug)]
pub struct Readiness {
    started: Instant,
    draining: AtomicBool,
    /// Milliseconds from `started` to the database's last answer.
    database_answered_ms: AtomicU64,
    /// Milliseconds from `started` to the last time that the catalog was known to be current.
    catalog_followed_ms: AtomicU64,
}

impl Readiness {
    /// Of a node whose database has just answered.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            draining: AtomicBool::new(false),
            database_answered_ms: AtomicU64::new(0),
            catalog_followed_ms: AtomicU64::new(0),
        }
    }

    /// From now on the node wants no new requests.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// The database has answered just now.
    pub fn note_database_answer(&self) {
        self.database_answered_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// This node's catalog is current just now.
    pub fn note_catalog_followed(&self) {
        self.catalog_followed_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Why the node does not want requests; nothing when it does.
    pub fn reasons(&self, ledger_stalled: bool) -> Vec<Unready> {
        let since = |noted: &AtomicU64| {
            let noted = Duration::from_millis(noted.load(Ordering::Relaxed));
            self.started.elapsed().saturating_sub(noted)
        };
        let silence = Silence {
            database: since(&self.database_answered_ms),
            catalog: since(&self.catalog_followed_ms),
        };
        reasons(self.draining.load(Ordering::SeqCst), silence, ledger_stalled)
    }
}

/// For how long nothing was heard.
#[derive(Debug, Clone, Copy, Default)]
struct Silence {
    database: Duration,
    catalog: Duration,
}

fn reasons(draining: bool, silence: Silence, ledger_stalled: bool) -> Vec<Unready> {
    let is_silent = silence.database > LONGEST_SILENCE;
    let all = [
        (draining, Unready::Draining),
        (is_silent, Unready::DatabaseUnreachable),
        (!is_silent && silence.catalog > LONGEST_SILENCE, Unready::CatalogStale),
        (ledger_stalled, Unready::LedgerStalled),
    ];
    all.into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, reason)| reason)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told() {
        let limit = Silence {
            database: LONGEST_SILENCE,
            catalog: LONGEST_SILENCE,
        };
        assert_eq!(reasons(false, limit, false), []);
        let catalog = LONGEST_SILENCE + Duration::from_millis(1);
        let unread = Silence { catalog, ..limit };
        assert_eq!(reasons(false, unread, false), [Unready::CatalogStale]);
        let beyond = Silence {
            database: catalog,
            catalog,
        };
        assert_eq!(reasons(false, beyond, false), [Unready::DatabaseUnreachable]);
        assert_eq!(
            reasons(true, beyond, true),
            [Unready::Draining, Unready::DatabaseUnreachable, Unready::LedgerStalled]
        );
        assert_eq!(
            serde_json::to_string(&Unready::LedgerStalled).expect("a name"),
            "\"ledger_stalled\""
        );
    }

    #[test]
    fn a_node_that_drains_stays_so() {
        let readiness = Readiness::new();
        assert_eq!(readiness.reasons(false), []);
        readiness.start_draining();
        readiness.note_database_answer();
        assert_eq!(readiness.reasons(false), [Unready::Draining]);
    }
}
