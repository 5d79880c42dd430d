//! One consistent reading of the whole database, and the few words in which the two differ.

use std::time::{Duration, Instant};

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, IsolationLevel, QueryResult, Statement, TransactionOptions,
    TransactionTrait, Value,
};
use store::{Backend, Database, StoreError};

use super::Progress;

/// How hard the database is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Page after page.
    Full,
    /// After each page as long a pause as it took, at most a second: for a database that serves requests.
    Gentle,
}

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The advisory lock of whoever audits by the clock.
const LOCK: i64 = 0x0074_7275_6564;

/// A transaction that only reads.
pub struct Reader<'a> {
    tx: DatabaseTransaction,
    pub backend: Backend,
    pace: Pace,
    progress: Progress<'a>,
}

impl<'a> Reader<'a> {
    pub async fn begin(database: &Database, pace: Pace, progress: Progress<'a>) -> Result<Self, StoreError> {
        let backend = database.backend();
        let is_postgres = backend == Backend::Postgres;
        let options = TransactionOptions {
            isolation_level: is_postgres.then_some(IsolationLevel::RepeatableRead),
            access_mode: is_postgres.then_some(AccessMode::ReadOnly),
            sqlite_transaction_mode: None,
        };
        let tx = database.readers().begin_with_options(options).await?;
        if is_postgres {
            // an audit of large books takes as long as it takes, and rests between pages
            tx.execute_unprepared("SET LOCAL statement_timeout = 0").await?;
            tx.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = 0")
                .await?;
            // pages are joined by key: never read a whole table for one
            tx.execute_unprepared("SET LOCAL enable_hashjoin = off").await?;
            tx.execute_unprepared("SET LOCAL enable_mergejoin = off").await?;
        }
        Ok(Self {
            tx,
            backend,
            pace,
            progress,
        })
    }

    /// Takes the lock of audits by the clock, until the end of this reading. On SQLite there is one process.
    pub async fn is_alone(&self) -> Result<bool, StoreError> {
        if self.backend == Backend::Sqlite {
            return Ok(true);
        }
        let rows = self
            .rows("SELECT pg_try_advisory_xact_lock($1) AS taken", vec![LOCK.into()])
            .await?;
        Ok(rows.first().map_or(Ok(false), |row| row.try_get("", "taken"))?)
    }

    /// For readings that are somebody else's.
    pub const fn connection(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// A query that was put together elsewhere.
    pub async fn found(&self, statement: Statement) -> Result<Vec<QueryResult>, StoreError> {
        Ok(self.tx.query_all_raw(statement).await?)
    }

    pub async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, StoreError> {
        let statement = Statement::from_sql_and_values(self.tx.get_database_backend(), sql, values);
        Ok(self.tx.query_all_raw(statement).await?)
    }

    /// The one number that a query answers as `n`.
    pub async fn number(&self, sql: &str, values: Vec<Value>) -> Result<i64, StoreError> {
        let rows = self.rows(sql, values).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get("", "n"))?)
    }

    /// The statement in this database's words: `{now_ms}` its clock, `{hex:COLUMN}` an id as in account names.
    pub fn words(&self, sql: &str) -> String {
        let (now, hex) = match self.backend {
            Backend::Postgres => (
                "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT",
                ("REPLACE(CAST(", " AS TEXT), '-', '')"),
            ),
            Backend::Sqlite => ("CAST(unixepoch('subsec') * 1000 AS INTEGER)", ("LOWER(HEX(", "))")),
        };
        let mut pieces = sql.split("{hex:");
        let mut text = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (column, rest) = piece.split_once('}').unwrap_or((piece, ""));
            text.extend([hex.0, column, hex.1, rest]);
        }
        text.replace("{now_ms}", now)
    }

    /// A page of a table has been read.
    pub async fn rest(&self, table: &'static str, rows: u64, since: Instant) {
        (self.progress)(table, rows);
        if self.pace == Pace::Gentle {
            tokio::time::sleep(since.elapsed().min(LONGEST_PAUSE)).await;
        }
    }

    pub async fn end(self) -> Result<(), StoreError> {
        Ok(self.tx.rollback().await?)
    }
}
