//! What incidents are about, and whether they last.

use crate::IncidentError;
use store::StoreError;

/// What an incident is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An upstream answered as another model than the one that was sold. The subject is the offer.
    Substitution,
    /// A provider fails. The subject is its slug.
    Outage,
    /// A provider billed something else than was booked. The subject is the statement.
    BillingDrift,
    /// The transparency log could not be gone on with, and another one has begun. The subject is the new one's id.
    LogRestarted,
    /// Whatever an operator says. The subject is the incident itself.
    Operator,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Substitution,
        Self::Outage,
        Self::BillingDrift,
        Self::LogRestarted,
        Self::Operator,
    ];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Substitution => "substitution",
            Self::Outage => "outage",
            Self::BillingDrift => "billing_drift",
            Self::LogRestarted => "log_restarted",
            Self::Operator => "operator",
        }
    }

    pub(crate) fn read(text: &str) -> Result<Self, IncidentError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        Ok(found.ok_or_else(|| StoreError::damaged("incident"))?)
    }
}

/// Whether an incident lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It lasts.
    Open,
    /// It is over.
    Resolved,
}

impl State {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Open, Self::Resolved];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
        }
    }

    pub(crate) fn read(text: &str) -> Result<Self, IncidentError> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        Ok(found.ok_or_else(|| StoreError::damaged("incident"))?)
    }
}
