//! The transaction that owners of tables share, so that a handler composes several of them atomically.

use std::sync::Arc;

use async_trait::async_trait;
use domain::clock::UnixMs;
use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseTransaction, DbErr, ExecResult, QueryResult, Statement, Value,
};

use crate::{Backend, StoreError, bulk::texts::StatementTexts, direct::DirectTransaction};

/// One open transaction that may write. Store functions take it and never commit it.
pub struct Tx {
    link: Link,
    backend: Backend,
    texts: Arc<StatementTexts>,
}

/// How a transaction talks to its database. sea-orm's queries run on either.
pub(crate) enum Link {
    /// Through sea-orm.
    Orm(DatabaseTransaction),
    /// The ledger writer's, on PostgreSQL.
    Direct(DirectTransaction),
}

impl Tx {
    pub(crate) const fn new(link: Link, backend: Backend, texts: Arc<StatementTexts>) -> Self {
        Self { link, backend, texts }
    }

    /// The connection, for sea-orm queries of the crate that owns the table.
    pub const fn connection(&self) -> &impl ConnectionTrait {
        &self.link
    }

    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn texts(&self) -> &StatementTexts {
        &self.texts
    }

    /// Which database this is.
    pub const fn backend(&self) -> Backend {
        self.backend
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// When the database did not confirm; the outcome is then unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.link {
            Link::Orm(transaction) => Ok(transaction.commit().await?),
            Link::Direct(transaction) => Ok(transaction.commit().await?),
        }
    }

    /// Takes everything back. Dropping the transaction does the same.
    ///
    /// # Errors
    /// When the database could not be told; it takes the transaction back by itself.
    pub async fn rollback(self) -> Result<(), StoreError> {
        match self.link {
            Link::Orm(transaction) => Ok(transaction.rollback().await?),
            Link::Direct(transaction) => Ok(transaction.rollback().await?),
        }
    }

    /// Runs a statement and answers the number of rows that it touched. Parameters are `$1`, `$2`, ...
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&self, sql: impl Into<String>, values: Vec<Value>) -> Result<u64, StoreError> {
        let statement = Statement::from_sql_and_values(self.backend.dialect(), sql, values);
        Ok(self.link.execute_raw(statement).await?.rows_affected())
    }

    /// Runs a query and answers its rows.
    ///
    /// # Errors
    /// What the database says.
    pub async fn query(&self, sql: impl Into<String>, values: Vec<Value>) -> Result<Vec<QueryResult>, StoreError> {
        let statement = Statement::from_sql_and_values(self.backend.dialect(), sql, values);
        Ok(self.link.query_all_raw(statement).await?)
    }

    /// The database's clock.
    ///
    /// # Errors
    /// What the database says.
    pub async fn now(&self) -> Result<UnixMs, StoreError> {
        crate::connect::database_now(&self.link, self.backend).await
    }
}

#[async_trait]
impl ConnectionTrait for Link {
    fn get_database_backend(&self) -> DatabaseBackend {
        match self {
            Self::Orm(transaction) => transaction.get_database_backend(),
            Self::Direct(_) => DatabaseBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Orm(transaction) => transaction.execute_raw(statement).await,
            Self::Direct(transaction) => transaction.execute_statement(statement).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Orm(transaction) => transaction.execute_unprepared(sql).await,
            Self::Direct(transaction) => transaction.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Orm(transaction) => transaction.query_one_raw(statement).await,
            Self::Direct(transaction) => Ok(transaction.query_statement(statement).await?.into_iter().next()),
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Orm(transaction) => transaction.query_all_raw(statement).await,
            Self::Direct(transaction) => transaction.query_statement(statement).await,
        }
    }
}
