//! The snapshot that this node works with, and what it has learnt about credentials.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use store::{Database, keyring::ServerKey};

use crate::{CatalogError, health::CredentialHealth, snapshot, snapshot::Snapshot};

/// Holds the current [`Snapshot`]. Whoever polls change notices calls [`refresh`](Self::refresh) when the catalog's
/// has moved.
pub struct CatalogCache {
    database: Database,
    key: ServerKey,
    current: ArcSwap<Snapshot>,
    health: CredentialHealth,
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
        Ok(())
    }
}
