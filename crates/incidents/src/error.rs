//! Why something about an incident was not done.

use store::StoreError;

/// What a caller can do about it is in each variant.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// There is no such incident: check the id.
    #[error("there is no such incident")]
    NotFound,
    /// It is resolved: open another one.
    #[error("the incident is resolved: open another one")]
    Resolved,
    /// A text or a number is not acceptable.
    #[error("`{field}`: {problem}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What to write.
        problem: &'static str,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sea_orm::DbErr> for IncidentError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}
