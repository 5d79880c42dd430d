//! The request log: what happened to every request that had a hold. Owns the table `request`.
//!
//! Rows are written in the transaction that closes the request, so the log and the ledger never disagree. It keeps
//! no prompt, no completion and no secret.

mod margins;
mod reading;
mod signals;
mod window;
mod writing;

pub use margins::{GroupBy, Margin, MarginFilter, operator_margins};
pub use reading::{Filter, RequestPage, find, find_text, operator_find, operator_list};
pub use signals::{operator_count_won, operator_failed, operator_substituted};
pub use window::{Window, operator_scan};
pub use writing::stored_records;
