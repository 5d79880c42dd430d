//! Which names an upstream may report for an offer (a JSON list; empty for the default), and requests that another model
//! answered: few, so an index of their own finds them at no cost to all others.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "ALTER TABLE offer ADD COLUMN served_names TEXT NOT NULL DEFAULT '[]'",
    "CREATE INDEX request_substituted ON request (id) WHERE reason = 'model_substituted'",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        schema::run(manager, STATEMENTS).await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        schema::refuse_down()
    }
}
