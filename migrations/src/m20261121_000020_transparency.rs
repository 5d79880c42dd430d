//! The transparency log: the leaves of each transaction, their order, the tree over them, its heads and their signatures.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    // absent in rows that are older than the log
    "ALTER TABLE charge ADD COLUMN log_batch {uuid}",
    "ALTER TABLE tx ADD COLUMN log_batch {uuid}",
    "CREATE TABLE log_batch (
         id {uuid} NOT NULL PRIMARY KEY,
         at_ms BIGINT NOT NULL,
         root {bytes} NOT NULL,
         ids {bytes} NOT NULL,
         salts {bytes} NOT NULL,
         leaf_values {bytes} NOT NULL
     )",
    // batches without an entry: the one table of the log from which rows go
    "CREATE TABLE log_pending (
         batch_id {uuid} NOT NULL PRIMARY KEY
     )",
    "CREATE TABLE log (
         no BIGINT NOT NULL PRIMARY KEY,
         id {uuid} NOT NULL UNIQUE,
         created_at_ms BIGINT NOT NULL,
         reason TEXT NOT NULL
     )",
    "CREATE TABLE log_entry (
         log_no BIGINT NOT NULL REFERENCES log (no),
         idx BIGINT NOT NULL,
         batch_id {uuid} NOT NULL UNIQUE,
         PRIMARY KEY (log_no, idx)
     )",
    "CREATE TABLE log_node (
         log_no BIGINT NOT NULL,
         level BIGINT NOT NULL,
         idx BIGINT NOT NULL,
         hash {bytes} NOT NULL,
         PRIMARY KEY (log_no, level, idx)
     )",
    "CREATE TABLE log_head (
         log_no BIGINT NOT NULL REFERENCES log (no),
         size BIGINT NOT NULL,
         root {bytes} NOT NULL,
         at_ms BIGINT NOT NULL,
         PRIMARY KEY (log_no, size)
     )",
    "CREATE INDEX log_head_by_time ON log_head (at_ms)",
    "CREATE TABLE log_signature (
         log_no BIGINT NOT NULL,
         size BIGINT NOT NULL,
         key_id TEXT NOT NULL,
         signature {bytes} NOT NULL,
         PRIMARY KEY (log_no, size),
         FOREIGN KEY (log_no, size) REFERENCES log_head (log_no, size)
     )",
    "CREATE TABLE log_key (
         id TEXT NOT NULL PRIMARY KEY,
         public_key {bytes} NOT NULL,
         not_before_ms BIGINT NOT NULL
     )",
    "CREATE TABLE log_key_retirement (
         key_id TEXT NOT NULL PRIMARY KEY REFERENCES log_key (id),
         retired_at_ms BIGINT NOT NULL
     )",
];

const INSERT_ONLY: &[&str] = &[
    "log",
    "log_batch",
    "log_entry",
    "log_head",
    "log_key",
    "log_key_retirement",
    "log_node",
    "log_signature",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        schema::run(manager, STATEMENTS).await?;
        for table in INSERT_ONLY {
            schema::make_insert_only(manager, table).await?;
        }
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        schema::refuse_down()
    }
}
