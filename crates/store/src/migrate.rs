//! Bringing the schema up to date, and refusing one that a newer binary has made.

use std::collections::BTreeSet;

use migrations::Migrator;
use sea_orm::{ConnectionTrait, Statement};
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
    // asked for by hand: the migrator's own functions would make its table
    let applied = if has_migrations_table(database).await? {
        applied_versions(database).await?
    } else {
        BTreeSet::new()
    };
    refuse_unknown(&applied)?;
    let pending = known_versions().difference(&applied).count();
    if pending == 0 {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "the database lacks {pending} migration(s) of this release: run `truerelay migrate` first"
    )))
}

async fn apply_locked(database: &Database) -> Result<(), StoreError> {
    Migrator::install(database.writer()).await?;
    refuse_unknown(&applied_versions(database).await?)?;
    Ok(Migrator::up(database.writer(), None).await?)
}

fn known_versions() -> BTreeSet<String> {
    Migrator::migrations().iter().map(|m| m.name().to_owned()).collect()
}

async fn applied_versions(database: &Database) -> Result<BTreeSet<String>, StoreError> {
    let statement = Statement::from_string(database.backend().dialect(), "SELECT version FROM seaql_migrations");
    let rows = database.writer().query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(row.try_get("", "version")?)).collect()
}

async fn has_migrations_table(database: &Database) -> Result<bool, StoreError> {
    let sql = match database.backend() {
        Backend::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'",
        Backend::Postgres => "SELECT 1 WHERE to_regclass('seaql_migrations') IS NOT NULL",
    };
    let statement = Statement::from_string(database.backend().dialect(), sql);
    Ok(database.writer().query_one_raw(statement).await?.is_some())
}

fn refuse_unknown(applied: &BTreeSet<String>) -> Result<(), StoreError> {
    let known = known_versions();
    let unknown: Vec<&str> = applied.difference(&known).map(String::as_str).collect();
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
