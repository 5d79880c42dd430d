//! The snapshot that this node works with, and what it has learnt about credentials.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use arc_swap::{ArcSwap, Guard};
use domain::clock::UnixMs;
use store::{Database, keyring::ServerKey};

use crate::{CatalogError, health::CredentialHealth, snapshot, snapshot::Snapshot};

/// Holds the current [`Snapshot`]. Whoever polls change notices calls [`refresh`](Self::refresh) when the catalog's
/// has moved.
pub struct CatalogCache {
    database: Database,
    key: ServerKey,
    current: ArcSwap<Snapshot>,
    health: CredentialHealth,
    /// The instant up to which the current snapshot is known to hold every change.
    confirmed_at: AtomicI64,
    /// One refresh at a time, or a slow old one could replace a new one.
    refreshing: tokio::sync::Mutex<()>,
}

impl CatalogCache {
    /// Reads the catalog. `key` is the one that seals credentials.
    ///
    /// # Errors
    /// What the database says; [`CatalogError::Store`] for stored data that makes no sense.
    pub async fn load(database: &Database, key: &ServerKey) -> Result<Self, CatalogError> {
        let first = snapshot::load(database, key).await?;
        Ok(Self {
            database: database.clone(),
            key: key.clone(),
            confirmed_at: AtomicI64::new(first.read_at().0),
            current: ArcSwap::from_pointee(first),
            health: CredentialHealth::default(),
            refreshing: tokio::sync::Mutex::new(()),
        })
    }

    /// The current snapshot, for a lookup. Do not hold it over an `await`: take [`snapshot`](Self::snapshot) then.
    pub fn current(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current snapshot, to keep for the length of a request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Notes that there was no change at an instant (by the database's clock) that the current snapshot does not hold:
    /// whoever polls change notices reads the clock first, then the notices.
    pub fn confirm(&self, instant: UnixMs) {
        self.confirmed_at.fetch_max(instant.0, Ordering::AcqRel);
    }

    /// The current snapshot, for a request that is admitted now; `None` if a version that would count could have been
    /// published or cancelled since this node has last heard of changes.
    pub fn confirmed_snapshot(&self, admitted_at: UnixMs) -> Option<Arc<Snapshot>> {
        // in this order: a snapshot is swapped in before it is confirmed, so this one is not older than that
        let confirmed_at = UnixMs(self.confirmed_at.load(Ordering::Acquire));
        let snapshot = self.snapshot();
        (confirmed_at >= snapshot::must_be_confirmed_since(admitted_at)).then_some(snapshot)
    }

    /// What this node knows about the credentials' health.
    pub const fn health(&self) -> &CredentialHealth {
        &self.health
    }

    /// Reads the catalog anew and swaps it in. On an error the old one stays.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let next = Arc::new(snapshot::load(&self.database, &self.key).await?);
        let previous = self.current.swap(Arc::clone(&next));
        self.health.follow(&previous, &next);
        self.confirm(next.read_at());
        Ok(())
    }
}
