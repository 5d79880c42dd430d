//! What every part shares: change notices, audit rows, idempotency records, the check values of the keys.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE change_topic (
         topic TEXT NOT NULL PRIMARY KEY,
         version BIGINT NOT NULL
     )",
    "CREATE TABLE audit (
         seq {serial},
         at_ms BIGINT NOT NULL,
         actor TEXT NOT NULL,
         action TEXT NOT NULL,
         subject TEXT NOT NULL,
         before_json TEXT,
         after_json TEXT
     )",
    "CREATE INDEX audit_by_subject ON audit (subject, seq)",
    "CREATE TABLE idempotency (
         scope TEXT NOT NULL,
         key TEXT NOT NULL,
         fingerprint TEXT NOT NULL,
         response_json TEXT NOT NULL,
         created_at_ms BIGINT NOT NULL,
         PRIMARY KEY (scope, key)
     )",
    "CREATE TABLE key_check (
         purpose TEXT NOT NULL,
         key_id TEXT NOT NULL,
         check_value TEXT NOT NULL,
         PRIMARY KEY (purpose, key_id)
     )",
];

const INSERT_ONLY: &[&str] = &["audit"];

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
