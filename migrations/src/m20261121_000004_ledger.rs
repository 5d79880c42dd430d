//! The ledger: accounts, lots, budgets, open holds, and what is written once and never changed: charges, transactions, entries.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE acct (
         tenant_id {uuid} NOT NULL PRIMARY KEY,
         available BIGINT NOT NULL CHECK (available >= 0),
         held BIGINT NOT NULL CHECK (held >= 0),
         debt BIGINT NOT NULL CHECK (debt >= 0),
         version BIGINT NOT NULL
     )",
    "CREATE TABLE lot (
         id {uuid} NOT NULL PRIMARY KEY,
         tenant_id {uuid} NOT NULL,
         kind TEXT NOT NULL CHECK (kind IN ('paid', 'promo')),
         granted BIGINT NOT NULL CHECK (granted > 0),
         remaining BIGINT NOT NULL CHECK (remaining >= 0 AND remaining <= granted),
         expires_at_ms BIGINT,
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE INDEX lot_unspent ON lot (tenant_id, id) WHERE remaining > 0",
    "CREATE INDEX lot_by_tenant ON lot (tenant_id, id)",
    "CREATE TABLE budget (
         scope {uuid} NOT NULL,
         period_start_ms BIGINT NOT NULL,
         limit_amount BIGINT NOT NULL CHECK (limit_amount >= 0),
         used BIGINT NOT NULL CHECK (used >= 0),
         held BIGINT NOT NULL CHECK (held >= 0),
         PRIMARY KEY (scope, period_start_ms)
     )",
    "CREATE TABLE node (
         id {uuid} NOT NULL,
         boot {uuid} NOT NULL,
         batch_no BIGINT NOT NULL,
         last_commit_at_ms BIGINT NOT NULL,
         PRIMARY KEY (id, boot)
     )",
    "CREATE TABLE hold (
         request_id {uuid} NOT NULL PRIMARY KEY,
         tenant_id {uuid} NOT NULL,
         key_id {uuid} NOT NULL,
         node_id {uuid} NOT NULL,
         boot {uuid} NOT NULL,
         amount BIGINT NOT NULL CHECK (amount >= 0),
         budgets_json TEXT NOT NULL,
         price_version BIGINT NOT NULL,
         provider TEXT NOT NULL,
         provider_estimate BIGINT NOT NULL CHECK (provider_estimate >= 0),
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE INDEX hold_by_tenant ON hold (tenant_id)",
    "CREATE INDEX hold_by_age ON hold (created_at_ms)",
    "CREATE TABLE charge (
         request_id {uuid} NOT NULL PRIMARY KEY,
         tenant_id {uuid} NOT NULL,
         key_id {uuid} NOT NULL,
         state TEXT NOT NULL CHECK (state IN ('settled', 'voided', 'refused')),
         reason TEXT NOT NULL,
         held BIGINT NOT NULL,
         amount BIGINT NOT NULL CHECK (amount >= 0 AND amount <= held),
         overrun BIGINT NOT NULL CHECK (overrun >= 0),
         provider_cost BIGINT NOT NULL,
         unbilled BIGINT NOT NULL,
         price_version BIGINT NOT NULL,
         tx_id {uuid},
         closed_at_ms BIGINT NOT NULL
     )",
    "CREATE INDEX charge_by_tenant ON charge (tenant_id, request_id)",
    "CREATE TABLE tx (
         seq {serial},
         id {uuid} NOT NULL UNIQUE,
         kind TEXT NOT NULL,
         tenant_id {uuid},
         reference TEXT NOT NULL,
         actor TEXT NOT NULL,
         at_ms BIGINT NOT NULL
     )",
    "CREATE INDEX tx_by_tenant ON tx (tenant_id, seq)",
    "CREATE TABLE entry (
         tx_id {uuid} NOT NULL REFERENCES tx (id),
         line BIGINT NOT NULL,
         account TEXT NOT NULL,
         amount BIGINT NOT NULL CHECK (amount <> 0),
         PRIMARY KEY (tx_id, line)
     )",
    "CREATE INDEX entry_by_account ON entry (account)",
];

const INSERT_ONLY: &[&str] = &["charge", "tx", "entry"];

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
