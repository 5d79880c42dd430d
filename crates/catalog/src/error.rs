//! What can go wrong in the catalog, by what a caller can do.

use domain::{clock::UnixMs, pricing::PricingError};
use sea_orm::DbErr;
use store::StoreError;

/// A catalog operation that was not done.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The object does not exist: check the id.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// The kind of object.
        what: &'static str,
        /// The id that was given.
        id: String,
    },
    /// The input does not fit: correct the field.
    #[error("`{field}`: {problem}")]
    Invalid {
        /// The field, as inputs name it.
        field: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// The name is taken: choose another.
    #[error("{0}")]
    Taken(String),
    /// The state of other objects forbids it: change those first.
    #[error("{0}")]
    Refused(String),
    /// A price cannot take effect that early: give a later instant, or none.
    #[error("a price change may take effect from {} on: give that instant or a later one, or none at all", earliest.to_rfc3339())]
    TooEarly {
        /// The earliest instant that would be accepted now.
        earliest: UnixMs,
    },
    /// Prices rise before the notice period is over: give a later instant, or publish what falls by itself.
    #[error("{} rise and need {days} days of notice, so they may take effect from {} on: {}. Give that instant or a later one; \
        what does not rise may be published at once, in a version of its own", count_prices(rises.len()), earliest.to_rfc3339(),
        list_rises(rises))]
    NoticeNeeded {
        /// The first instant that is allowed.
        earliest: UnixMs,
        /// The notice period.
        days: u32,
        /// What rises, in words.
        rises: Vec<String>,
    },
    /// The price itself does not work.
    #[error(transparent)]
    Pricing(#[from] PricingError),
    /// The database refused or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CatalogError {
    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound {
            what,
            id: id.to_string(),
        }
    }

    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
        }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Store(StoreError::damaged(what))
    }
}

fn count_prices(count: usize) -> String {
    if count == 1 {
        "1 price would".to_owned()
    } else {
        format!("{count} prices would")
    }
}

/// The first of them; a message that names thousands helps nobody.
fn list_rises(rises: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = rises.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = rises.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

impl From<DbErr> for CatalogError {
    fn from(error: DbErr) -> Self {
        Self::Store(error.into())
    }
}
