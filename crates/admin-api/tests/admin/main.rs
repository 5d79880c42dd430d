//! The admin API over its own routes, against a real database.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod accounts;
mod catalog;
mod document;
mod grants;
mod input;
mod nodes;
mod prices;
mod requests;
mod secrets;
mod support;
mod withdrawals;
