//! Sending statements over rows.

use sea_orm::{DbErr, QueryResult, Statement, Value};
use sqlx::postgres::PgArguments;

use super::{
    FoundRow, Rows,
    texts::{Part, Together, earlier_with_the_same_rows},
};
use crate::{Backend, Database, StoreError, Tx, transaction::Link};

impl Database {
    /// A query over rows as a statement, for a connection that only reads; `{rows}` in it stands for them.
    pub fn statement(&self, sql: &'static str, rows: &Rows) -> Statement {
        let parts = [(sql, rows)];
        let text = self.texts().text(Together::Alone, &parts);
        Statement::from_sql_and_values(self.backend().dialect(), &*text, values(self.backend(), &parts))
    }
}

impl Tx {
    /// Runs a statement over many rows; `{rows}` in it stands for them. Nothing is sent when there are none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute_rows(&self, sql: &'static str, rows: &Rows) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        self.execute_as_one(Together::Alone, &[(sql, rows)]).await
    }

    /// Runs a query over many rows; `{rows}` stands for them, `{for_update}` for the row lock where there is one.
    ///
    /// # Errors
    /// What the database says.
    pub async fn query_rows(&self, sql: &'static str, rows: &Rows) -> Result<Vec<QueryResult>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.query_as_one(Together::Alone, &[(sql, rows)]).await
    }

    /// Runs statements that change rows, each over its rows, and leaves out those that have none. PostgreSQL gets them
    /// as one `WITH`: each sees the tables as they were before, so no two of them may touch the same row.
    ///
    /// # Errors
    /// What the database says.
    pub async fn execute_together(&self, parts: &[(&'static str, Rows)]) -> Result<(), StoreError> {
        let with_rows: Vec<Part<'_>> = parts
            .iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(sql, rows)| (*sql, rows))
            .collect();
        if with_rows.is_empty() {
            return Ok(());
        }
        match self.backend() {
            Backend::Postgres => {
                self.execute_as_one(Together::Writing, &with_rows).await?;
            }
            Backend::Sqlite => {
                for (sql, rows) in with_rows {
                    self.execute_rows(sql, rows).await?;
                }
            }
        }
        Ok(())
    }

    /// Runs queries whose answers have the same columns, each over its rows, in this order, and leaves out those that
    /// have none; a query may take the very rows of another one. They go as one `UNION ALL`, for which all of them see
    /// the same state. Answers the number of its query with each row.
    ///
    /// # Errors
    /// What the database says.
    pub async fn query_together(&self, parts: &[Part<'_>]) -> Result<Vec<(usize, FoundRow)>, StoreError> {
        let (numbers, with_rows): (Vec<usize>, Vec<Part<'_>>) = parts
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, (_, rows))| !rows.is_empty())
            .unzip();
        if with_rows.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.found_rows(&with_rows).await?;
        found
            .into_iter()
            .map(|row| {
                let number = numbers.get(row.query()?);
                Ok((
                    *number.ok_or_else(|| StoreError::damaged("the number of a query"))?,
                    row,
                ))
            })
            .collect()
    }

    async fn found_rows(&self, parts: &[Part<'_>]) -> Result<Vec<FoundRow>, StoreError> {
        let text = self.texts().text(Together::Reading, parts);
        Ok(match self.link() {
            Link::Direct(link) => {
                let rows = link.fetch(text, arguments(parts)?).await?;
                rows.into_iter().map(FoundRow::from).collect()
            }
            Link::Orm(_) => {
                let rows = self.query(&*text, values(self.backend(), parts)).await?;
                rows.into_iter().map(FoundRow::from).collect()
            }
        })
    }

    async fn execute_as_one(&self, together: Together, parts: &[Part<'_>]) -> Result<u64, StoreError> {
        let text = self.texts().text(together, parts);
        match self.link() {
            Link::Direct(link) => Ok(link.execute(text, arguments(parts)?).await?.rows_affected()),
            Link::Orm(_) => self.execute(&*text, values(self.backend(), parts)).await,
        }
    }

    async fn query_as_one(&self, together: Together, parts: &[Part<'_>]) -> Result<Vec<QueryResult>, StoreError> {
        let text = self.texts().text(together, parts);
        match self.link() {
            Link::Direct(link) => Ok(link.query(text, arguments(parts)?).await?),
            Link::Orm(_) => self.query(&*text, values(self.backend(), parts)).await,
        }
    }
}

fn values(backend: Backend, parts: &[Part<'_>]) -> Vec<Value> {
    sent(parts).flat_map(|rows| rows.values(backend)).collect()
}

fn arguments(parts: &[Part<'_>]) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for rows in sent(parts) {
        let added = rows.add_to(&mut arguments);
        added.map_err(|error| StoreError::Database(DbErr::Type(error.to_string())))?;
    }
    Ok(arguments)
}

/// The same rows are sent once.
fn sent<'a>(parts: &[Part<'a>]) -> impl Iterator<Item = &'a Rows> {
    let is_first = |(number, _): &(usize, _)| earlier_with_the_same_rows(parts, *number).is_none();
    parts.iter().enumerate().filter(is_first).map(|(_, (_, rows))| *rows)
}
