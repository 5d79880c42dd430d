//! What recovery needs: how far an answer had come, retired nodes, items that could not be written, claims on lots;
//! and budgets of tenants.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    // the settlement that recovery would make; empty until output has begun
    "ALTER TABLE hold ADD COLUMN progress_json TEXT NOT NULL DEFAULT ''",
    // its charge, by which it never goes back
    "ALTER TABLE hold ADD COLUMN progress_amount BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX hold_by_node ON hold (node_id, boot, request_id)",
    "ALTER TABLE node ADD COLUMN retired_at_ms BIGINT",
    "CREATE TABLE quarantine (
         seq {serial},
         request_id {uuid} NOT NULL,
         tenant_id {uuid} NOT NULL,
         node_id {uuid} NOT NULL,
         boot {uuid} NOT NULL,
         kind TEXT NOT NULL,
         item_json TEXT NOT NULL,
         error TEXT NOT NULL,
         at_ms BIGINT NOT NULL
     )",
    "ALTER TABLE acct ADD COLUMN claimed BIGINT NOT NULL DEFAULT 0 CHECK (claimed >= 0)",
    "CREATE TABLE claim (
         lot_id {uuid} NOT NULL REFERENCES lot (id),
         purpose TEXT NOT NULL CHECK (purpose IN ('refund', 'expiry', 'suspension')),
         tenant_id {uuid} NOT NULL,
         amount BIGINT NOT NULL CHECK (amount > 0),
         reference TEXT NOT NULL,
         created_at_ms BIGINT NOT NULL,
         PRIMARY KEY (lot_id, purpose)
     )",
    "CREATE INDEX claim_by_tenant ON claim (tenant_id, lot_id)",
    "CREATE INDEX lot_by_expiry ON lot (expires_at_ms) WHERE remaining > 0 AND expires_at_ms IS NOT NULL",
    "ALTER TABLE tenant ADD COLUMN budget_limit BIGINT CHECK (budget_limit > 0)",
    "ALTER TABLE tenant ADD COLUMN budget_period TEXT CHECK (budget_period IN ('day', 'week', 'month', 'total'))",
];

const INSERT_ONLY: &[&str] = &["quarantine"];

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
