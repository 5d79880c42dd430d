//! The transaction that owners of tables share, so that a handler composes several of them atomically.

use domain::clock::UnixMs;
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Statement, Value};

use crate::{Backend, StoreError};

/// One open transaction that may write. Store functions take it and never commit it.
pub struct Tx {
    inner: DatabaseTransaction,
    backend: Backend,
}

impl Tx {
    pub(crate) const fn new(inner: DatabaseTransaction, backend: Backend) -> Self {
        Self { inner, backend }
    }

    /// The connection, for sea-orm queries of the crate that owns the table.
    pub const fn connection(&self) -> &DatabaseTransaction {
        &self.inner
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
        Ok(self.inner.commit().await?)
    }

    /// Takes everything back. Dropping the transaction does the same.
    ///
    /// # Errors
    /// When the database could not be told; it takes the transaction back by itself.
    pub async fn rollback(self) -> Result<(), StoreError> {
        Ok(self.inner.rollback().await?)
    }

    /// Runs a statement and answers the number of rows that it touched. Parameters are `$1`, `$2`, ...
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute(&self, sql: impl Into<String>, values: Vec<Value>) -> Result<u64, StoreError> {
        let statement = Statement::from_sql_and_values(self.backend.dialect(), sql, values);
        Ok(self.inner.execute_raw(statement).await?.rows_affected())
    }

    /// Runs a query and answers its rows.
    ///
    /// # Errors
    /// What the database says.
    pub async fn query(&self, sql: impl Into<String>, values: Vec<Value>) -> Result<Vec<QueryResult>, StoreError> {
        let statement = Statement::from_sql_and_values(self.backend.dialect(), sql, values);
        Ok(self.inner.query_all_raw(statement).await?)
    }

    /// The database's clock.
    ///
    /// # Errors
    /// What the database says.
    pub async fn now(&self) -> Result<UnixMs, StoreError> {
        crate::connect::database_now(&self.inner, self.backend).await
    }
}
