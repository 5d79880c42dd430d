//! The catalog: providers, pools, credentials, models, offers, and the price book whose versions are only ever added.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE provider (
         id {uuid} NOT NULL PRIMARY KEY,
         slug TEXT NOT NULL UNIQUE,
         name TEXT NOT NULL,
         formats TEXT NOT NULL,
         base_url TEXT NOT NULL,
         allow_private_address BOOLEAN NOT NULL,
         enabled BOOLEAN NOT NULL,
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE TABLE pool (
         id {uuid} NOT NULL PRIMARY KEY,
         provider_id {uuid} NOT NULL REFERENCES provider (id),
         name TEXT NOT NULL UNIQUE,
         enabled BOOLEAN NOT NULL,
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE TABLE credential (
         id {uuid} NOT NULL PRIMARY KEY,
         pool_id {uuid} NOT NULL REFERENCES pool (id),
         name TEXT NOT NULL,
         sealed_secret TEXT NOT NULL,
         last4 TEXT NOT NULL,
         origin TEXT NOT NULL,
         basis TEXT NOT NULL,
         enabled BOOLEAN NOT NULL,
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE INDEX credential_by_pool ON credential (pool_id)",
    "CREATE TABLE model (
         id TEXT NOT NULL PRIMARY KEY,
         name TEXT NOT NULL,
         vendor TEXT NOT NULL,
         kind TEXT NOT NULL,
         context_window BIGINT,
         max_output_tokens BIGINT,
         details_json TEXT NOT NULL,
         enabled BOOLEAN NOT NULL,
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE TABLE model_alias (
         alias TEXT NOT NULL PRIMARY KEY,
         spelling TEXT NOT NULL,
         model_id TEXT NOT NULL REFERENCES model (id)
     )",
    "CREATE INDEX model_alias_by_model ON model_alias (model_id)",
    "CREATE TABLE offer (
         id {uuid} NOT NULL PRIMARY KEY,
         model_id TEXT NOT NULL REFERENCES model (id),
         pool_id {uuid} NOT NULL REFERENCES pool (id),
         upstream_model_id TEXT NOT NULL,
         format TEXT NOT NULL,
         usage_profile TEXT NOT NULL,
         priority BIGINT NOT NULL,
         weight BIGINT NOT NULL,
         enabled BOOLEAN NOT NULL,
         created_at_ms BIGINT NOT NULL
     )",
    "CREATE INDEX offer_by_model ON offer (model_id)",
    "CREATE INDEX offer_by_pool ON offer (pool_id)",
    "CREATE TABLE price_version (
         version BIGINT NOT NULL PRIMARY KEY,
         effective_at_ms BIGINT NOT NULL,
         published_at_ms BIGINT NOT NULL,
         actor TEXT NOT NULL,
         note TEXT NOT NULL
     )",
    "CREATE TABLE price_item (
         version BIGINT NOT NULL REFERENCES price_version (version),
         kind TEXT NOT NULL,
         subject TEXT NOT NULL,
         value_json TEXT NOT NULL,
         PRIMARY KEY (version, kind, subject)
     )",
    "CREATE INDEX price_item_by_subject ON price_item (kind, subject, version)",
];

const INSERT_ONLY: &[&str] = &["price_version", "price_item"];

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
