//! The catalog against a real SQLite file with all migrations applied.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod confirmation;
mod health;
mod history;
mod notice;
mod objects;
mod prices;
mod seed;
mod shown;
mod snapshot;
mod support;
