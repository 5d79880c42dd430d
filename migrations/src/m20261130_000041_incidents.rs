//! Incidents, the requests that they concern, what providers billed; and which requests an upstream has failed, behind an
//! index of their own because they are few.

use sea_orm_migration::prelude::*;

use crate::schema;

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE incident (
         id {uuid} NOT NULL PRIMARY KEY,
         kind TEXT NOT NULL,
         subject TEXT NOT NULL,
         state TEXT NOT NULL,
         title TEXT NOT NULL,
         is_public BOOLEAN NOT NULL,
         started_at_ms BIGINT NOT NULL,
         opened_at_ms BIGINT NOT NULL,
         updated_at_ms BIGINT NOT NULL,
         resolved_at_ms BIGINT,
         acted_at_ms BIGINT,
         requests BIGINT NOT NULL DEFAULT 0 CHECK (requests >= 0),
         free_requests BIGINT NOT NULL DEFAULT 0 CHECK (free_requests >= 0),
         charged BIGINT NOT NULL DEFAULT 0 CHECK (charged >= 0),
         refunded BIGINT NOT NULL DEFAULT 0 CHECK (refunded >= 0)
     )",
    // of one subject there is one open incident, whoever sees it first
    "CREATE UNIQUE INDEX incident_open ON incident (kind, subject) WHERE state = 'open'",
    "CREATE TABLE incident_update (
         incident_id {uuid} NOT NULL REFERENCES incident (id),
         no BIGINT NOT NULL,
         at_ms BIGINT NOT NULL,
         actor TEXT NOT NULL,
         text TEXT NOT NULL,
         PRIMARY KEY (incident_id, no)
     )",
    "CREATE TABLE incident_request (
         incident_id {uuid} NOT NULL REFERENCES incident (id),
         request_id {uuid} NOT NULL,
         tenant_id {uuid} NOT NULL,
         charged BIGINT NOT NULL,
         refunded BIGINT NOT NULL DEFAULT 0,
         reported TEXT NOT NULL,
         PRIMARY KEY (incident_id, request_id)
     )",
    "CREATE INDEX incident_request_by_request ON incident_request (request_id)",
    "CREATE TABLE provider_statement (
         id {uuid} NOT NULL PRIMARY KEY,
         provider TEXT NOT NULL,
         from_ms BIGINT NOT NULL,
         to_ms BIGINT NOT NULL,
         billed BIGINT NOT NULL,
         note TEXT NOT NULL,
         entered_at_ms BIGINT NOT NULL,
         checked_at_ms BIGINT,
         booked BIGINT,
         incident_id {uuid} REFERENCES incident (id)
     )",
    "CREATE INDEX provider_statement_unchecked ON provider_statement (id) WHERE checked_at_ms IS NULL",
    "ALTER TABLE request ADD COLUMN upstream_failures BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX request_upstream_failed ON request (id) WHERE upstream_failures > 0",
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
