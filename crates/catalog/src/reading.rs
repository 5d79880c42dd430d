//! Reads of several statements: in one consistent view, and what is computed of them away from the event loop.

use sea_orm::{AccessMode, DatabaseTransaction, IsolationLevel, TransactionTrait};
use store::{Backend, Database, StoreError};

use crate::CatalogError;

/// Begins a read that sees the database as of one instant. End it with a rollback.
pub(crate) async fn begin(database: &Database) -> Result<DatabaseTransaction, CatalogError> {
    let (isolation, access) = match database.backend() {
        Backend::Postgres => (Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly)),
        // a read transaction of SQLite is a consistent view by itself
        Backend::Sqlite => (None, None),
    };
    Ok(database.readers().begin_with_config(isolation, access).await?)
}

/// Computes what may take long: the event loop relays meanwhile.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, CatalogError> {
    let done = tokio::task::spawn_blocking(work).await;
    // it is cut short only when the node stops
    done.map_err(|_| CatalogError::Store(StoreError::Busy))?
}
