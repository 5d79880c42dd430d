//! One file per route group. A handler names its dialect, finds the caller, and calls one function.

mod cacheable;
pub mod chat;
pub mod incidents;
pub mod key;
pub mod log;
pub mod models;
pub mod pricing;
mod pricing_csv;
pub mod receipt;
pub mod refund_policy;
pub mod requests;
