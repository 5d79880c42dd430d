//! Opening the database: SQLite with one writing connection, or PostgreSQL with a pool.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use domain::clock::UnixMs;
use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseConnection, SqliteTransactionMode, SqlxPostgresConnector,
    SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait,
};
use sqlx::{
    ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{StoreError, Tx, bulk::texts::StatementTexts, direct::DirectConnections, transaction::Link};

/// Which database stands behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded default: one file, one process.
    Sqlite,
    /// Production: shared by all nodes.
    Postgres,
}

impl Backend {
    pub(crate) const fn dialect(self) -> DatabaseBackend {
        match self {
            Self::Sqlite => DatabaseBackend::Sqlite,
            Self::Postgres => DatabaseBackend::Postgres,
        }
    }
}

/// Where the database is.
#[derive(Clone)]
pub enum DatabaseSettings {
    /// A SQLite file; its folder must exist and be locked by the caller.
    Sqlite {
        /// The database file.
        file: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// `postgres://user:password@host/database`. Holds a password: never log it.
        url: domain::secret::SecretText,
        /// The most connections that this node opens for reading and for the admin API.
        max_connections: u32,
    },
}

/// The open database. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    backend: Backend,
    /// Whatever writes outside the ledger writer. On SQLite the same single connection as `money`.
    writer: DatabaseConnection,
    /// The ledger writer's own connection on PostgreSQL; on SQLite it shares `writer`.
    money: Option<Arc<DirectConnections>>,
    readers: DatabaseConnection,
    texts: Arc<StatementTexts>,
}

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const SQLITE_READERS: u32 = 4;

impl Database {
    /// Opens the connections.
    ///
    /// # Errors
    /// [`StoreError::Settings`] for an unusable address, [`StoreError::Unavailable`] when nobody answers.
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, StoreError> {
        match settings {
            DatabaseSettings::Sqlite { file } => Self::open_sqlite(file).await,
            DatabaseSettings::Postgres { url, max_connections } => {
                Self::open_postgres(url.expose(), *max_connections).await
            }
        }
    }

    async fn open_sqlite(file: &std::path::Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // without it, INSERT OR REPLACE would get past the triggers that refuse a delete
            .pragma("recursive_triggers", "on")
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let pool = |connections| {
            SqlitePoolOptions::new()
                .min_connections(1)
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_with(options.clone())
        };
        let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool(1).await.map_err(unavailable)?);
        let readers = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool(SQLITE_READERS).await.map_err(unavailable)?);
        Ok(Self {
            backend: Backend::Sqlite,
            money: None,
            writer,
            readers,
            texts: Arc::new(StatementTexts::new(Backend::Sqlite)),
        })
    }

    async fn open_postgres(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Settings("database.url is not a PostgreSQL address".to_owned()))?
            .application_name("truerelay")
            .disable_statement_logging();
        // Conditional updates under row locks need to see what has been committed since, whatever the server's default.
        let options = options.options([("default_transaction_isolation", "read committed")]);
        try_once(&options).await?;
        // A node that stops between two statements must not stop the others.
        let money_options = options.clone().options([
            ("lock_timeout", "200ms"),
            ("idle_in_transaction_session_timeout", "1s"),
            // Rows are looked up by key from arrays whose length the planner does not know: never read a whole table.
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_seqscan", "off"),
            // So there is one good plan for each statement, and it is made once: planning costs more than a small batch.
            ("plan_cache_mode", "force_generic_plan"),
            ("jit", "off"),
        ]);
        let general_options = options.options([
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("statement_timeout", "30s"),
        ]);
        let general = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(general_options);
        let general = SqlxPostgresConnector::from_sqlx_postgres_pool(general.await.map_err(unavailable)?);
        Ok(Self {
            backend: Backend::Postgres,
            writer: general.clone(),
            readers: general,
            money: Some(Arc::new(DirectConnections::new(money_options, ACQUIRE_TIMEOUT))),
            texts: Arc::new(StatementTexts::new(Backend::Postgres)),
        })
    }

    /// Which database this is.
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// For reading only. What it shows may be a moment old.
    pub const fn readers(&self) -> &DatabaseConnection {
        &self.readers
    }

    pub(crate) const fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// Opens a transaction that may write.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let options = TransactionOptions {
            isolation_level: None,
            access_mode: None,
            // another process (a command beside the server) may write too: take the write lock at once
            sqlite_transaction_mode: (self.backend == Backend::Sqlite).then_some(SqliteTransactionMode::Immediate),
        };
        Ok(self.tx(Link::Orm(self.writer.begin_with_options(options).await?)))
    }

    /// Opens a transaction on the ledger writer's own connection, with its short time-outs.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn begin_money(&self) -> Result<Tx, StoreError> {
        match &self.money {
            Some(money) => Ok(self.tx(Link::Direct(money.begin().await?))),
            None => self.begin().await,
        }
    }

    pub(crate) fn texts(&self) -> &StatementTexts {
        &self.texts
    }

    fn tx(&self, link: Link) -> Tx {
        Tx::new(link, self.backend, Arc::clone(&self.texts))
    }

    /// The database's clock, which is the clock of every money rule.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn now(&self) -> Result<UnixMs, StoreError> {
        database_now(&self.readers, self.backend).await
    }

    /// Closes the connections after their work is done.
    pub async fn close(&self) {
        let mut closed = Vec::new();
        if let Some(money) = &self.money {
            closed.push(money.close().await);
        }
        for connection in [&self.readers, &self.writer] {
            closed.push(connection.clone().close().await);
        }
        for error in closed.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a database connection did not close cleanly");
        }
    }
}

pub(crate) async fn database_now(connection: &impl ConnectionTrait, backend: Backend) -> Result<UnixMs, StoreError> {
    let sql = match backend {
        Backend::Sqlite => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms",
        Backend::Postgres => "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS now_ms",
    };
    let statement = Statement::from_string(backend.dialect(), sql);
    let row = connection
        .query_one_raw(statement)
        .await?
        .ok_or_else(|| StoreError::damaged("the database's clock"))?;
    Ok(UnixMs(row.try_get("", "now_ms")?))
}

/// Connects once before the pools do: theirs would try again until time is up, and then not say why.
async fn try_once(options: &PgConnectOptions) -> Result<(), StoreError> {
    let connected = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await;
    let connection = connected
        .map_err(|_| unavailable(sqlx::Error::PoolTimedOut))?
        .map_err(unavailable)?;
    connection.close().await.map_err(unavailable)
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(
        std::sync::Arc::new(error),
    )))
}
