//! Connections, transactions and what every owner of tables shares: audit rows, idempotency records, change
//! notices, sealed secrets. Knows no table of a business crate.

pub mod audit;
pub mod bulk;
pub mod changes;
mod connect;
mod direct;
mod error;
pub mod idempotency;
pub mod keyring;
mod migrate;
pub mod sealed;
mod transaction;

pub use connect::{Backend, Database, DatabaseSettings};
pub use error::StoreError;
pub use migrate::{apply_migrations, refuse_unknown_schema};
pub use transaction::Tx;
