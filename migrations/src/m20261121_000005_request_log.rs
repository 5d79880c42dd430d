//! The request log: one row per request that had a hold, without prompt or completion.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE request (
         id {uuid} NOT NULL PRIMARY KEY,
         tenant_id {uuid} NOT NULL,
         key_id {uuid} NOT NULL,
         model TEXT NOT NULL,
         provider TEXT,
         status BIGINT NOT NULL,
         reason TEXT NOT NULL,
         started_at_ms BIGINT NOT NULL,
         duration_ms BIGINT NOT NULL,
         record_json TEXT NOT NULL
     )",
    "CREATE INDEX request_by_tenant ON request (tenant_id, id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        schema::run(manager, STATEMENTS).await?;
        Ok(())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        schema::refuse_down()
    }
}
