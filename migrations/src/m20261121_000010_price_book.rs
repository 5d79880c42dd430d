//! The price book: scheduled changes that were cancelled. The version itself stays as it was published.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &["CREATE TABLE price_cancellation (
         version BIGINT NOT NULL PRIMARY KEY REFERENCES price_version (version),
         cancelled_at_ms BIGINT NOT NULL,
         actor TEXT NOT NULL,
         reason TEXT NOT NULL
     )"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        schema::run(manager, STATEMENTS).await?;
        schema::make_insert_only(manager, "price_cancellation").await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        schema::refuse_down()
    }
}
