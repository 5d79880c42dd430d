//! Reading what a row holds, by name or by place.

use std::borrow::Cow;

use sea_orm::QueryResult;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::StoreError;

/// A row whose columns are named by `Column`.
pub trait Cells {
    /// What names a column.
    type Column: Copy;

    /// An identifier.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the column holds none; so with all others.
    fn uuid(&self, column: Self::Column) -> Result<Uuid, StoreError> {
        self.optional_uuid(column)?.ok_or_else(absent)
    }

    /// A number.
    ///
    /// # Errors
    /// As [`Cells::uuid`].
    fn number(&self, column: Self::Column) -> Result<i64, StoreError> {
        self.optional_number(column)?.ok_or_else(absent)
    }

    /// A text.
    ///
    /// # Errors
    /// As [`Cells::uuid`].
    fn text(&self, column: Self::Column) -> Result<Cow<'_, str>, StoreError>;

    /// An identifier that may be absent.
    ///
    /// # Errors
    /// As [`Cells::uuid`].
    fn optional_uuid(&self, column: Self::Column) -> Result<Option<Uuid>, StoreError>;

    /// A number that may be absent.
    ///
    /// # Errors
    /// As [`Cells::uuid`].
    fn optional_number(&self, column: Self::Column) -> Result<Option<i64>, StoreError>;
}

impl Cells for QueryResult {
    type Column = &'static str;

    fn text(&self, column: &'static str) -> Result<Cow<'_, str>, StoreError> {
        Ok(Cow::Owned(self.try_get_by(column)?))
    }

    fn optional_uuid(&self, column: &'static str) -> Result<Option<Uuid>, StoreError> {
        Ok(self.try_get_by(column)?)
    }

    fn optional_number(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get_by(column)?)
    }
}

/// A row that one of several queries found; its columns are named by their places, from 0.
pub struct FoundRow(Origin);

enum Origin {
    Orm(QueryResult),
    /// Read without the checks of types that sqlx makes for each cell: the statement's text says what they are.
    Postgres(PgRow),
}

impl From<QueryResult> for FoundRow {
    fn from(row: QueryResult) -> Self {
        Self(Origin::Orm(row))
    }
}

impl From<PgRow> for FoundRow {
    fn from(row: PgRow) -> Self {
        Self(Origin::Postgres(row))
    }
}

impl FoundRow {
    /// The number of the query, which comes before the columns.
    pub(super) fn query(&self) -> Result<usize, StoreError> {
        let number = match &self.0 {
            Origin::Orm(row) => row.try_get_by_index(0)?,
            Origin::Postgres(row) => number_of(bytes(row, 0)?)?.ok_or_else(absent)?,
        };
        usize::try_from(number).map_err(|_| damaged())
    }
}

impl Cells for FoundRow {
    type Column = usize;

    fn text(&self, column: usize) -> Result<Cow<'_, str>, StoreError> {
        match &self.0 {
            Origin::Orm(row) => Ok(Cow::Owned(row.try_get_by_index(column + 1)?)),
            Origin::Postgres(row) => {
                let bytes = bytes(row, column + 1)?.ok_or_else(absent)?;
                std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| damaged())
            }
        }
    }

    fn optional_uuid(&self, column: usize) -> Result<Option<Uuid>, StoreError> {
        match &self.0 {
            Origin::Orm(row) => Ok(row.try_get_by_index(column + 1)?),
            Origin::Postgres(row) => {
                let bytes = bytes(row, column + 1)?;
                bytes.map(Uuid::from_slice).transpose().map_err(|_| damaged())
            }
        }
    }

    fn optional_number(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match &self.0 {
            Origin::Orm(row) => Ok(row.try_get_by_index(column + 1)?),
            Origin::Postgres(row) => number_of(bytes(row, column + 1)?),
        }
    }
}

/// In the binary format, in which parameterised queries are answered.
fn bytes(row: &PgRow, place: usize) -> Result<Option<&[u8]>, StoreError> {
    let value = row.try_get_raw(place).map_err(|_| damaged())?;
    if sqlx::ValueRef::is_null(&value) {
        return Ok(None);
    }
    value.as_bytes().map(Some).map_err(|_| damaged())
}

fn number_of(bytes: Option<&[u8]>) -> Result<Option<i64>, StoreError> {
    let number = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).map_err(|_| damaged());
    bytes.map(number).transpose()
}

fn damaged() -> StoreError {
    StoreError::damaged("a column's value")
}

fn absent() -> StoreError {
    StoreError::damaged("a column without a value")
}
