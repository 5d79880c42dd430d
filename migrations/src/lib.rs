//! The schema, one file per change, the same on SQLite and PostgreSQL. See the README beside this crate.

mod m20261121_000001_system;
mod m20261121_000002_catalog;
mod m20261121_000003_accounts;
mod m20261121_000004_ledger;
mod m20261121_000005_request_log;
mod m20261121_000006_recovery;
mod m20261121_000007_restore;
mod m20261121_000010_price_book;
mod m20261121_000011_price_facts;
mod m20261121_000020_transparency;
mod m20261130_000030_corrections;
mod m20261130_000040_served_names;
mod m20261130_000041_incidents;
mod m20261130_000050_writer_speed;
mod schema;

use sea_orm_migration::prelude::*;

/// Applies and reports migrations.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_system::Migration),
            Box::new(m20261121_000002_catalog::Migration),
            Box::new(m20261121_000003_accounts::Migration),
            Box::new(m20261121_000004_ledger::Migration),
            Box::new(m20261121_000005_request_log::Migration),
            Box::new(m20261121_000006_recovery::Migration),
            Box::new(m20261121_000007_restore::Migration),
            Box::new(m20261121_000010_price_book::Migration),
            Box::new(m20261121_000011_price_facts::Migration),
            Box::new(m20261121_000020_transparency::Migration),
            Box::new(m20261130_000030_corrections::Migration),
            Box::new(m20261130_000040_served_names::Migration),
            Box::new(m20261130_000041_incidents::Migration),
            Box::new(m20261130_000050_writer_speed::Migration),
        ]
    }
}
