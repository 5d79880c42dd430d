//! What every owner of tables relies on, against the real databases: SQLite always, PostgreSQL as well when
//! `TRUERELAY_TEST_POSTGRES_URL` names a server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bulk;
mod databases;
mod direct;
mod idempotency;
mod keys;
mod schema;
mod writing;
