//! What can go wrong with the database, by what a caller can do.

use sea_orm::{DbErr, RuntimeErr, SqlErr};

/// A failure of the database or of what is kept in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A row with that identity exists already: change the identity, or treat it as done.
    #[error("it exists already")]
    Conflict,
    /// A row that the change refers to does not exist.
    #[error("it refers to something that does not exist")]
    MissingReference,
    /// A lock was not to be had in time: try again.
    #[error("the database is busy: try again")]
    Busy,
    /// The database cannot be reached: try again later.
    #[error("the database cannot be reached")]
    Unavailable(#[source] DbErr),
    /// The schema is not one that this binary knows.
    #[error("{0}")]
    Schema(String),
    /// What was read from the database makes no sense.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// The change contradicts what is stored: it will never be possible.
    #[error("the change contradicts the books: {0}")]
    Contradiction(String),
    /// Somebody else writes under this process's name, or the database went back in time: the process must end.
    #[error("{0}")]
    Fenced(&'static str),
    /// The settings do not work.
    #[error("{0}")]
    Settings(String),
    /// Anything else that the database said.
    #[error("database error: {0}")]
    Database(#[source] DbErr),
}

impl StoreError {
    /// Stored data that cannot be understood; `what` names the place, never the content.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Whether the failure says something about the data itself (SQLSTATE classes 22 and 23), so that the same
    /// statement will fail again however often it is tried.
    pub fn is_data_error(&self) -> bool {
        match self {
            Self::Conflict | Self::MissingReference | Self::Contradiction(_) | Self::Damaged(_) => true,
            Self::Database(error) => sql_state(error).is_some_and(|state| {
                state.starts_with("22") || state.starts_with("23") || is_sqlite_constraint(&state)
            }),
            _ => false,
        }
    }
}

impl StoreError {
    /// Whether the disk failed under SQLite (SQLITE_IOERR and its extended codes). What was confirmed may be lost:
    /// the process must end and start again from what is on disk.
    pub fn is_io_failure(&self) -> bool {
        match self {
            Self::Database(error) | Self::Unavailable(error) => sql_state(error)
                .and_then(|state| state.parse::<u32>().ok())
                .is_some_and(|code| code & 0xff == 10),
            _ => false,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => return Self::Conflict,
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => return Self::MissingReference,
            _ => {}
        }
        match sql_state(&error).as_deref() {
            // PostgreSQL: lock_not_available, deadlock_detected, serialization_failure; SQLite: BUSY, LOCKED, BUSY_SNAPSHOT
            Some("55P03" | "40P01" | "40001" | "5" | "6" | "517") => return Self::Busy,
            // PostgreSQL: shutting down, starting up, too many connections
            Some("57P01" | "57P02" | "57P03" | "53300") => return Self::Unavailable(error),
            _ => {}
        }
        if let Some(place) = undecodable(&error) {
            return Self::damaged(place);
        }
        if is_connection_loss(&error) {
            Self::Unavailable(error)
        } else {
            Self::Database(error)
        }
    }
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(inner))
        | DbErr::Query(RuntimeErr::SqlxError(inner))
        | DbErr::Conn(RuntimeErr::SqlxError(inner)) => Some(inner),
        _ => None,
    }
}

/// What was read is not of the type that the schema says. Names the column, never the content.
fn undecodable(error: &DbErr) -> Option<String> {
    match error {
        DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } => return Some("a column's type".to_owned()),
        _ => {}
    }
    match sqlx_error(error)? {
        sqlx::Error::ColumnDecode { index, .. } => Some(format!("column {index}")),
        sqlx::Error::Decode(_) => Some("a column's value".to_owned()),
        _ => None,
    }
}

fn sql_state(error: &DbErr) -> Option<String> {
    sqlx_error(error)?
        .as_database_error()?
        .code()
        .map(std::borrow::Cow::into_owned)
}

/// SQLITE_CONSTRAINT and its extended codes: the low byte is 19.
fn is_sqlite_constraint(state: &str) -> bool {
    state.parse::<u32>().is_ok_and(|code| code & 0xff == 19)
}

fn is_connection_loss(error: &DbErr) -> bool {
    if matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_)) {
        return true;
    }
    matches!(
        sqlx_error(error),
        Some(
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        )
    )
}
