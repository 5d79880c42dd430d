//! The ledger: credit is granted, held, spent and given back here and nowhere else.
//!
//! Owns the tables `acct`, `lot`, `claim`, `budget`, `hold`, `node`, `charge`, `tx` and `entry`. Holds and charges go through
//! the writer ([`Ledger`]); grants, withdrawals and corrections run in their caller's transaction ([`movements`]). What money means is in
//! [`rules`], free of IO. It knows nothing of HTTP, models or prices.

mod admission;
mod answer;
pub mod archive;
pub mod audit;
pub mod batch;
mod charge_rows;
pub mod chart;
pub mod claims;
mod clock;
pub mod corrections;
mod error;
mod health;
mod hold;
pub mod items;
mod ledger_store;
pub mod movements;
pub mod nodes;
mod outage;
mod posting;
mod queue;
pub mod reading;
mod recovery;
mod replay;
mod resend;
pub mod rules;
mod service;
pub mod spool;
mod spool_survey;
mod spooled;
mod spools;
mod sql_store;
#[cfg(test)]
mod tests;
mod urgency;
mod waiting;
mod writer;

pub use admission::Pace;
pub use clock::LedgerClock;
pub use error::LedgerError;
pub use hold::{Ending, Hold};
pub use items::{BudgetClaim, BudgetKey, HoldRequest, ProviderCost, Refusal};
pub use ledger_store::{Abandoned, LedgerStore, NodeIdentity};
pub use service::{Foundation, Ledger, LedgerSettings, RefusedCost, Reservation};
pub use spool_survey::{SpoolSurvey, survey_spools};
pub use spools::{NodeSpools, SpoolRecords, Spools};
pub use sql_store::{BatchRider, SqlBatchStore, StoredRecords};
pub use urgency::Urgency;
pub use writer::WriterEnd;
