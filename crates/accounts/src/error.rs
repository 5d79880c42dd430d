//! What can go wrong with accounts, by what a caller can do.

use std::sync::Arc;

use store::StoreError;

/// A failure of an account function.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// There is no such object, or it belongs to somebody else.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// A field does not have an acceptable value: change it.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field's name, as the API spells it.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The key or token was revoked, which is final: create another one.
    #[error("it has been revoked, which is final: create another one")]
    Revoked,
    /// The key or token could not be looked up: try again later. Shared by all who waited for the same lookup.
    #[error("the key cannot be checked now: {0}")]
    Lookup(#[source] Arc<StoreError>),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AccountsError {
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
        }
    }
}

impl From<sea_orm::DbErr> for AccountsError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}
