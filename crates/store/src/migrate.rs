//! Bringing the schema up to date, and refusing one that a newer binary has made.

use std::collections::BTreeSet;

use migrations::Migrator;
use sea_orm::ConnectionTrait;
use sea_orm_migration::MigratorTrait;

use crate::{Backend, Database, StoreError};

/// Applies what is missing. On PostgreSQL nodes take turns (an advisory lock), so that all may start at once.
///
/// # Errors
/// [`StoreError::Schema`] when the database has migrations that this binary does not know.
pub async fn apply_migrations(database: &Database) -> Result<(), StoreError> {
    let lock = lock_migrations(database).await?;
    let outcome = apply_locked(database).await;
    if let Some(lock) = lock {
        lock.rollback().await?;
    }
    outcome
}

/// Says whether the schema is the one that this binary knows, and changes nothing.
///
/// # Errors
/// [`StoreError::Schema`] when it is older or newer.
pub async fn refuse_unknown_schema(database: &Database) -> Result<(), StoreError> {
    refuse_newer(database).await?;
    let pending = Migrator::get_pending_migrations(database.writer()).await?;
    if pending.is_empty() {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "the database lacks {} migration(s) of this release: run `truerelay migrate` first",
        pending.len()
    )))
}

async fn apply_locked(database: &Database) -> Result<(), StoreError> {
    refuse_newer(database).await?;
    Ok(Migrator::up(database.writer(), None).await?)
}

async fn refuse_newer(database: &Database) -> Result<(), StoreError> {
    Migrator::install(database.writer()).await?;
    let known: BTreeSet<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
    let applied = Migrator::get_migration_models(database.writer()).await?;
    let unknown: Vec<String> = applied
        .into_iter()
        .map(|model| model.version)
        .filter(|version| !known.contains(version))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "the database has migrations that this release does not know ({}): start the newer release, or restore a backup",
        unknown.join(", ")
    )))
}

/// Any number that nobody else uses on the same database.
const MIGRATION_LOCK: i64 = 0x7472_7565_7265_6c61;

async fn lock_migrations(database: &Database) -> Result<Option<crate::Tx>, StoreError> {
    if database.backend() == Backend::Sqlite {
        return Ok(None);
    }
    let tx = database.begin().await?;
    tx.connection()
        .execute_unprepared("SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = '120s'; SET LOCAL idle_in_transaction_session_timeout = 0")
        .await?;
    tx.query("SELECT pg_advisory_xact_lock($1)", vec![MIGRATION_LOCK.into()])
        .await?;
    Ok(Some(tx))
}
