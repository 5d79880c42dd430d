//! Accounts against a real SQLite database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod callers;
mod operators;
mod records;
mod trail;
mod world;
