//! What makes a batch of the ledger's writer cheap when it touches many tenants.
//!
//! A row that changes without touching a column of an index stays on its page and costs no index anything (PostgreSQL's
//! heap-only tuples), if its page has room. What is left of a lot changes with every charge, so no index may ask for it: they
//! ask whether the lot is spent, which changes once.

use sea_orm_migration::{prelude::*, sea_orm::DatabaseBackend};

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "DROP INDEX lot_unspent",
    "DROP INDEX lot_by_expiry",
    "ALTER TABLE lot ADD COLUMN spent BOOLEAN GENERATED ALWAYS AS (remaining = 0) {kept}",
    "CREATE INDEX lot_unspent ON lot (tenant_id, id) WHERE NOT spent",
    "CREATE INDEX lot_by_expiry ON lot (expires_at_ms) WHERE NOT spent AND expires_at_ms IS NOT NULL",
    // only the audit read by it, and every hold paid for it twice
    "DROP INDEX hold_by_tenant",
];

/// SQLite can do neither, and needs neither.
const POSTGRES_ONLY: &[&str] = &[
    // entries are written by the statement that writes their transactions, and the audit (I1) looks for either without the
    // other: a look-up and a lock for each line say nothing more
    "ALTER TABLE entry DROP CONSTRAINT entry_tx_id_fkey",
    "ALTER TABLE acct SET (fillfactor = 50)",
    "ALTER TABLE lot SET (fillfactor = 50)",
    "ALTER TABLE hold SET (fillfactor = 70)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        schema::run(manager, STATEMENTS).await?;
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            schema::run(manager, POSTGRES_ONLY).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        schema::refuse_down()
    }
}
