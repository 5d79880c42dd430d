//! Tenants, virtual keys and operator tokens. Secrets are kept as keyed hashes only.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE tenant (
         id {uuid} NOT NULL PRIMARY KEY,
         name TEXT NOT NULL,
         tier TEXT NOT NULL,
         enabled BOOLEAN NOT NULL,
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE TABLE virtual_key (
         id {uuid} NOT NULL PRIMARY KEY,
         tenant_id {uuid} NOT NULL REFERENCES tenant (id),
         name TEXT NOT NULL,
         hash TEXT NOT NULL UNIQUE,
         pepper_id TEXT NOT NULL,
         last4 TEXT NOT NULL,
         enabled BOOLEAN NOT NULL,
         revoked_at_ms BIGINT,
         expires_at_ms BIGINT,
         allowed_models_json TEXT,
         requests_per_minute BIGINT CHECK (requests_per_minute > 0),
         budget_limit BIGINT CHECK (budget_limit > 0),
         budget_period TEXT CHECK (budget_period IN ('day', 'week', 'month', 'total')),
         created_at_ms BIGINT NOT NULL,
         CHECK ((budget_limit IS NULL) = (budget_period IS NULL))
     )",
    "CREATE INDEX virtual_key_by_tenant ON virtual_key (tenant_id, id)",
    "CREATE TABLE operator_token (
         id {uuid} NOT NULL PRIMARY KEY,
         name TEXT NOT NULL,
         role TEXT NOT NULL CHECK (role IN ('full', 'read_only')),
         hash TEXT NOT NULL UNIQUE,
         pepper_id TEXT NOT NULL,
         last4 TEXT NOT NULL,
         revoked_at_ms BIGINT,
         created_at_ms BIGINT NOT NULL
     )",
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
