//! The price book: by which notice period a version was checked, which offers were ever for sale; and where the ledger's
//! costs that were booked apart from a charge are found.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "ALTER TABLE price_version ADD COLUMN notice_days BIGINT",
    "CREATE TABLE offer_first_sale (
         offer_id {uuid} NOT NULL PRIMARY KEY REFERENCES offer (id),
         at_ms BIGINT NOT NULL
     )",
    // until now every price was shown to everybody
    "INSERT INTO offer_first_sale (offer_id, at_ms) SELECT id, created_at_ms FROM offer",
    "CREATE INDEX tx_cost_apart ON tx (reference) WHERE kind IN ('late_cost', 'refused_cost')",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        schema::run(manager, STATEMENTS).await?;
        schema::make_insert_only(manager, "offer_first_sale").await
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        schema::refuse_down()
    }
}
