//! Many rows in one statement, written once for both databases.
//!
//! A statement names its rows as `{rows}`; it becomes `UNNEST` over arrays on PostgreSQL and `json_each` over one
//! JSON text on SQLite, aliased `r`. Everything else in the statement is SQL that both understand.

use sea_orm::{QueryResult, Value, sea_query::ArrayType};
use uuid::Uuid;

use crate::{Backend, StoreError, Tx};

/// One column of the rows.
#[derive(Debug, Clone)]
pub enum Column {
    /// Identifiers.
    Uuid(Vec<Uuid>),
    /// Numbers: money, instants, counts.
    I64(Vec<i64>),
    /// Text.
    Text(Vec<String>),
    /// Text that may be absent; an empty one is absent too.
    OptionalText(Vec<Option<String>>),
    /// Identifiers that may be absent; the nil one is absent too.
    OptionalUuid(Vec<Option<Uuid>>),
}

/// Rows for one bulk statement. Built column by column; all columns have the same length.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    columns: Vec<(&'static str, Column)>,
}

impl Rows {
    /// No columns yet.
    pub const fn new() -> Self {
        Self { columns: Vec::new() }
    }

    /// Adds a column of identifiers.
    #[must_use]
    pub fn uuids(mut self, name: &'static str, values: impl IntoIterator<Item = Uuid>) -> Self {
        self.columns.push((name, Column::Uuid(values.into_iter().collect())));
        self
    }

    /// Adds a column of numbers.
    #[must_use]
    pub fn numbers(mut self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.columns.push((name, Column::I64(values.into_iter().collect())));
        self
    }

    /// Adds a column of text.
    #[must_use]
    pub fn texts(mut self, name: &'static str, values: impl IntoIterator<Item = String>) -> Self {
        self.columns.push((name, Column::Text(values.into_iter().collect())));
        self
    }

    /// Adds a column of text that may be absent.
    #[must_use]
    pub fn optional_texts(mut self, name: &'static str, values: impl IntoIterator<Item = Option<String>>) -> Self {
        self.columns
            .push((name, Column::OptionalText(values.into_iter().collect())));
        self
    }

    /// Adds a column of identifiers that may be absent.
    #[must_use]
    pub fn optional_uuids(mut self, name: &'static str, values: impl IntoIterator<Item = Option<Uuid>>) -> Self {
        self.columns
            .push((name, Column::OptionalUuid(values.into_iter().collect())));
        self
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn relation(&self, backend: Backend) -> (String, Vec<Value>) {
        match backend {
            Backend::Postgres => self.unnest(),
            Backend::Sqlite => self.json_each(),
        }
    }

    fn unnest(&self) -> (String, Vec<Value>) {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let fields: Vec<String> = self
            .columns
            .iter()
            .map(|(name, column)| column.postgres_field(name))
            .collect();
        let casts: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (_, column))| format!("${}::{}[]", index + 1, column.postgres_type()))
            .collect();
        let relation = format!(
            "(SELECT {} FROM UNNEST({}) AS u ({})) AS r",
            fields.join(", "),
            casts.join(", "),
            names.join(", ")
        );
        (
            relation,
            self.columns.iter().map(|(_, column)| column.to_array()).collect(),
        )
    }

    fn json_each(&self) -> (String, Vec<Value>) {
        let fields: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (name, column))| match column {
                Column::Uuid(_) | Column::OptionalUuid(_) => format!("unhex(value ->> {index}) AS {name}"),
                _ => format!("value ->> {index} AS {name}"),
            })
            .collect();
        let rows: Vec<serde_json::Value> = (0..self.len())
            .map(|row| self.columns.iter().map(|(_, column)| column.to_json(row)).collect())
            .collect();
        let relation = format!("(SELECT {} FROM json_each($1)) AS r", fields.join(", "));
        (relation, vec![serde_json::Value::Array(rows).to_string().into()])
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Uuid(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::OptionalText(values) => values.len(),
            Self::OptionalUuid(values) => values.len(),
        }
    }

    const fn postgres_type(&self) -> &'static str {
        match self {
            Self::Uuid(_) | Self::OptionalUuid(_) => "uuid",
            Self::I64(_) => "int8",
            Self::Text(_) | Self::OptionalText(_) => "text",
        }
    }

    /// sea-query binds no array with a NULL in it, so what is absent travels as an empty text or the nil id.
    fn postgres_field(&self, name: &str) -> String {
        match self {
            Self::OptionalText(_) => format!("NULLIF({name}, '') AS {name}"),
            Self::OptionalUuid(_) => format!("NULLIF({name}, '{}'::uuid) AS {name}", Uuid::nil()),
            Self::Uuid(_) | Self::I64(_) | Self::Text(_) => name.to_owned(),
        }
    }

    fn to_array(&self) -> Value {
        fn array(kind: ArrayType, values: impl Iterator<Item = Value>) -> Value {
            Value::Array(kind, Some(Box::new(values.collect())))
        }
        match self {
            Self::Uuid(values) => array(ArrayType::Uuid, values.iter().map(|v| Value::from(*v))),
            Self::I64(values) => array(ArrayType::BigInt, values.iter().map(|v| Value::from(*v))),
            Self::Text(values) => array(ArrayType::String, values.iter().map(|v| Value::from(v.clone()))),
            Self::OptionalText(values) => array(
                ArrayType::String,
                values.iter().map(|v| Value::from(v.clone().unwrap_or_default())),
            ),
            Self::OptionalUuid(values) => array(
                ArrayType::Uuid,
                values.iter().map(|v| Value::from(v.unwrap_or(Uuid::nil()))),
            ),
        }
    }

    fn to_json(&self, row: usize) -> serde_json::Value {
        let hex = |id: &Uuid| id.as_simple().to_string();
        match self {
            Self::Uuid(values) => values.get(row).map(hex).into(),
            Self::I64(values) => values.get(row).copied().into(),
            Self::Text(values) => values.get(row).cloned().into(),
            // as PostgreSQL will see them, see `postgres_field`
            Self::OptionalText(values) => {
                let present = values.get(row).cloned().flatten().filter(|text| !text.is_empty());
                present.into()
            }
            Self::OptionalUuid(values) => {
                let present = values.get(row).and_then(Option::as_ref).filter(|id| !id.is_nil());
                present.map(hex).into()
            }
        }
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
        let (relation, values) = rows.relation(self.backend());
        self.execute(self.render(sql, &relation), values).await
    }

    /// Runs a query over many rows; `{rows}` stands for them, `{for_update}` for the row lock where there is one.
    ///
    /// # Errors
    /// What the database says.
    pub async fn query_rows(&self, sql: &'static str, rows: &Rows) -> Result<Vec<QueryResult>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (relation, values) = rows.relation(self.backend());
        self.query(self.render(sql, &relation), values).await
    }

    fn render(&self, sql: &str, relation: &str) -> String {
        // SQLite has one writer: whoever is in a transaction holds the lock already
        let (lock, skip) = match self.backend() {
            Backend::Postgres => ("FOR UPDATE", "FOR UPDATE SKIP LOCKED"),
            Backend::Sqlite => ("", ""),
        };
        sql.replace("{rows}", relation)
            .replace("{for_update}", lock)
            .replace("{for_update_skip_locked}", skip)
    }
}
