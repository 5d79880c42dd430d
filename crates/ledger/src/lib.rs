//! The ledger: credit is granted, held, spent and given back here and nowhere else.
//!
//! Owns the tables `acct`, `lot`, `budget`, `hold`, `node`, `charge`, `tx` and `entry`. Holds and charges go through
//! the writer ([`Ledger`]); grants run in their caller's transaction ([`movements`]). What money means is in
//! [`rules`], free of IO. It knows nothing of HTTP, models or prices.

mod admission;
pub mod batch;
mod charge_rows;
pub mod chart;
mod clock;
mod error;
mod health;
mod hold;
pub mod items;
pub mod movements;
mod posting;
mod queue;
pub mod reading;
mod recovery;
pub mod rules;
mod service;
pub mod spool;
mod sql_store;
#[cfg(test)]
mod tests;
pub mod verify;
mod writer;

pub use admission::Pace;
pub use clock::LedgerClock;
pub use error::LedgerError;
pub use hold::{Ending, Hold};
pub use items::{BudgetClaim, BudgetKey, HoldRequest, ProviderCost, Refusal};
pub use service::{Ledger, LedgerSettings, NodeIdentity, Reservation};
pub use sql_store::BatchRider;
pub use writer::WriterEnd;
