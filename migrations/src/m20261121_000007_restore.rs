//! The gate after a restore from backup: a row for each time that a database was found to be older than what was
//! archived, until the archives are replayed or the rest is declared lost.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &["CREATE TABLE restore_gate (
         seq {serial},
         detail TEXT NOT NULL,
         closed_at_ms BIGINT NOT NULL,
         opened_at_ms BIGINT,
         outcome TEXT CHECK (outcome IN ('replayed', 'declared_lost')),
         reason TEXT,
         line BIGINT NOT NULL DEFAULT 0
     )"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        schema::run(manager, STATEMENTS).await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        schema::refuse_down()
    }
}
