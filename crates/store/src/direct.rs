//! The ledger writer's own way to PostgreSQL: one connection that it keeps, without a pool and without sea-orm in
//! between. Both cost more than the writer's statements do, and it opens a transaction after the other.

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};

use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, IntoArguments, PgConnection, Postgres,
    postgres::{PgArguments, PgConnectOptions, PgQueryResult, PgRow},
};
use tokio::sync::Mutex;

/// A connection is replaced after so long.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// Statements are planned again after so many transactions at the latest.
const PLANS_LAST: u64 = 1_024;

/// Opens transactions, on the connection of the one before where it was left in order.
pub struct DirectConnections {
    options: PgConnectOptions,
    patience: Duration,
    idle: StdMutex<Option<Connected>>,
}

struct Connected {
    connection: PgConnection,
    since: Instant,
    /// Transactions begun on it.
    begun: u64,
}

impl Connected {
    /// A plan is made once and kept, which is what makes it cheap. It is made for tables as they were then: for empty
    /// ones, reading them whole is as good as any other way. So plans are made again each time that the number of
    /// transactions has doubled, and the tables with it at most.
    const fn begin(&mut self) -> &'static str {
        self.begun += 1;
        if self.begun.is_power_of_two() || self.begun.is_multiple_of(PLANS_LAST) {
            "DISCARD PLANS; BEGIN"
        } else {
            "BEGIN"
        }
    }
}

/// An open transaction. Dropped before its end, it closes its connection, and the database takes it back.
pub struct DirectTransaction {
    home: Arc<DirectConnections>,
    /// `None` after the end.
    connected: Mutex<Option<Connected>>,
}

impl DirectConnections {
    /// `patience`: how long a connection, or the begin of a transaction, may take.
    pub const fn new(options: PgConnectOptions, patience: Duration) -> Self {
        Self {
            options,
            patience,
            idle: StdMutex::new(None),
        }
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// [`DbErr::Conn`] when no connection is to be had.
    pub async fn begin(self: &Arc<Self>) -> Result<DirectTransaction, DbErr> {
        if let Some(connected) = self.take_idle()
            && connected.since.elapsed() < MAX_AGE
            // the database may have closed it meanwhile; nothing has been asked of it yet, so another one will do
            && let Ok(transaction) = self.begin_on(connected).await
        {
            return Ok(transaction);
        }
        let connection = tokio::time::timeout(self.patience, self.options.connect()).await;
        let connection = connection.map_err(|_| connection_error(sqlx::Error::PoolTimedOut))?;
        let connected = Connected {
            connection: connection.map_err(connection_error)?,
            since: Instant::now(),
            begun: 0,
        };
        self.begin_on(connected).await
    }

    async fn begin_on(self: &Arc<Self>, mut connected: Connected) -> Result<DirectTransaction, DbErr> {
        let begin = connected.begin();
        let begun = tokio::time::timeout(self.patience, connected.connection.execute(begin)).await;
        let begun = begun.map_err(|_| connection_error(sqlx::Error::PoolTimedOut))?;
        begun.map_err(connection_error)?;
        Ok(DirectTransaction {
            home: Arc::clone(self),
            connected: Mutex::new(Some(connected)),
        })
    }

    /// Closes the idle connection. The next transaction opens another one.
    pub async fn close(&self) -> Result<(), DbErr> {
        let Some(idle) = self.take_idle() else { return Ok(()) };
        idle.connection.close().await.map_err(connection_error)
    }

    fn take_idle(&self) -> Option<Connected> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, connected: Connected) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connected);
    }
}

impl DirectTransaction {
    /// Makes everything durable.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.end("COMMIT").await
    }

    /// Takes everything back.
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.end("ROLLBACK").await
    }

    async fn end(self, how: &'static str) -> Result<(), DbErr> {
        let mut connected = self.connected.into_inner().ok_or_else(ended)?;
        connected.connection.execute(how).await.map_err(exec_error)?;
        self.home.keep(connected);
        Ok(())
    }

    /// Runs a statement with encoded parameters.
    pub async fn execute(&self, sql: Arc<str>, arguments: PgArguments) -> Result<PgQueryResult, DbErr> {
        let mut connected = self.connected.lock().await;
        let connection = &mut connected.as_mut().ok_or_else(ended)?.connection;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        query.execute(connection).await.map_err(exec_error)
    }

    /// Runs a query with encoded parameters.
    pub async fn query(&self, sql: Arc<str>, arguments: PgArguments) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.fetch(sql, arguments).await?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    /// Runs a query with encoded parameters and answers the rows as they came.
    pub async fn fetch(&self, sql: Arc<str>, arguments: PgArguments) -> Result<Vec<PgRow>, DbErr> {
        let mut connected = self.connected.lock().await;
        let connection = &mut connected.as_mut().ok_or_else(ended)?.connection;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        query.fetch_all(connection).await.map_err(query_error)
    }

    /// Runs a statement of sea-orm's.
    pub async fn execute_statement(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let (sql, arguments) = parts(statement);
        Ok(self.execute(sql, arguments).await?.into())
    }

    /// Runs a query of sea-orm's.
    pub async fn query_statement(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let (sql, arguments) = parts(statement);
        self.query(sql, arguments).await
    }

    /// Runs statements without parameters, without preparing them.
    pub async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut connected = self.connected.lock().await;
        let connection = &mut connected.as_mut().ok_or_else(ended)?.connection;
        let done = connection.execute(AssertSqlSafe(sql)).await.map_err(exec_error)?;
        Ok(done.into())
    }
}

fn parts(statement: Statement) -> (Arc<str>, PgArguments) {
    let values = SqlxValues(statement.values.unwrap_or_else(|| Values(Vec::new())));
    let arguments = IntoArguments::<Postgres>::into_arguments(values);
    (statement.sql.into(), arguments)
}

fn ended() -> DbErr {
    DbErr::Custom("the transaction has ended".to_owned())
}

fn connection_error(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))
}

fn exec_error(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))
}

fn query_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
}
