//! The request log: what happened to every request that had a hold. Owns the table `request`.
//!
//! Rows are written in the transaction that closes the request, so the log and the ledger never disagree. It keeps
//! no prompt, no completion and no secret.

mod reading;
mod writing;

pub use reading::{Filter, RequestPage, find, operator_find, operator_list};
pub use writing::write_records;
