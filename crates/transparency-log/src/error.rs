//! What can go wrong with the log.

use std::io;

use store::StoreError;

/// Why the log could not be read or extended. Nothing was published then.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of copies: nothing is published before it is there.
    #[error("the log's copies cannot be written or read: {0}")]
    Copies(#[source] io::Error),
    /// The key has been replaced.
    #[error(
        "the log's signing key {0} was retired: give every node the key that replaced it, and start this one again"
    )]
    KeyRetired(String),
}

impl From<sea_orm::DbErr> for LogError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}
