//! Many rows in one statement, and several statements in one message, written once for both databases.
//!
//! A statement names its rows as `{rows}`; it becomes `UNNEST` over arrays on PostgreSQL and `json_each` over one
//! JSON text on SQLite, aliased `r`. `{for_update}` is the row lock where there is one, `{uuid}` the type of an
//! identifier. Everything else in the statement is SQL that both understand. What a statement becomes is worked out
//! once per process, see `texts`.

mod bind;
mod cells;
mod run;
pub(crate) mod texts;

pub use cells::{Cells, FoundRow};
pub use texts::Part;

use uuid::Uuid;

use crate::Backend;

/// One column of the rows.
#[derive(Debug, Clone)]
enum Column {
    Uuid(Vec<Uuid>),
    I64(Vec<i64>),
    Text(Texts),
    Bytes(Blobs),
    /// An empty text is absent: sea-query binds no array with a NULL in it.
    OptionalText(Texts),
    /// The nil id is absent, for the same reason.
    OptionalUuid(Vec<Uuid>),
    EveryUuid(Uuid),
    EveryI64(i64),
    EveryText(String),
}

/// What a column holds: the part of it that a statement's text depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    Uuid,
    I64,
    Text,
    Bytes,
    OptionalText,
    OptionalUuid,
    EveryUuid,
    EveryI64,
    EveryText,
}

impl ColumnKind {
    const fn is_same_in_every_row(self) -> bool {
        matches!(self, Self::EveryUuid | Self::EveryI64 | Self::EveryText)
    }
}

/// Room to begin with, so that small batches of short texts never grow.
const LIKELY_TEXT_BYTES: usize = 32;
const LIKELY_COLUMNS: usize = 12;

/// Texts one after the other in one buffer.
#[derive(Debug, Clone, Default)]
struct Texts {
    packed: String,
    ends: Vec<usize>,
}

impl Texts {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| self.packed.get(start..*end).unwrap_or_default())
    }

    fn with_capacity(texts: usize) -> Self {
        Self {
            packed: String::with_capacity(texts * LIKELY_TEXT_BYTES),
            ends: Vec::with_capacity(texts),
        }
    }

    fn push(&mut self, text: &str) {
        self.packed.push_str(text);
        self.ends.push(self.packed.len());
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values = values.into_iter();
        let mut texts = Self::with_capacity(values.size_hint().0);
        for value in values {
            texts.push(value.as_ref());
        }
        texts
    }
}

/// Byte strings one after the other in one buffer.
#[derive(Debug, Clone, Default)]
struct Blobs {
    packed: Vec<u8>,
    ends: Vec<usize>,
}

impl Blobs {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| self.packed.get(start..*end).unwrap_or_default())
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Blobs {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut blobs = Self::default();
        for value in values {
            blobs.packed.extend_from_slice(value.as_ref());
            blobs.ends.push(blobs.packed.len());
        }
        blobs
    }
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

    fn with(mut self, name: &'static str, column: Column) -> Self {
        if self.columns.is_empty() {
            self.columns.reserve(LIKELY_COLUMNS);
        }
        self.columns.push((name, column));
        self
    }

    /// Adds a column of identifiers.
    #[must_use]
    pub fn uuids(self, name: &'static str, values: impl IntoIterator<Item = Uuid>) -> Self {
        self.with(name, Column::Uuid(values.into_iter().collect()))
    }

    /// Adds a column of numbers: money, instants, counts.
    #[must_use]
    pub fn numbers(self, name: &'static str, values: impl IntoIterator<Item = i64>) -> Self {
        self.with(name, Column::I64(values.into_iter().collect()))
    }

    /// Adds a column of text.
    #[must_use]
    pub fn texts<T: AsRef<str>>(self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        self.with(name, Column::Text(values.into_iter().collect()))
    }

    /// Adds a column of byte strings.
    #[must_use]
    pub fn bytes<T: AsRef<[u8]>>(self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        self.with(name, Column::Bytes(values.into_iter().collect()))
    }

    /// Adds a column of text that may be absent; an empty one is absent too.
    #[must_use]
    pub fn optional_texts<T: AsRef<str>>(
        self,
        name: &'static str,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Self {
        let values = values.into_iter();
        let mut texts = Texts::with_capacity(values.size_hint().0);
        for value in values {
            texts.push(value.as_ref().map_or("", AsRef::as_ref));
        }
        self.with(name, Column::OptionalText(texts))
    }

    /// Adds a column of identifiers that may be absent; the nil one is absent too.
    #[must_use]
    pub fn optional_uuids(self, name: &'static str, values: impl IntoIterator<Item = Option<Uuid>>) -> Self {
        let ids = values.into_iter().map(|id| id.unwrap_or(Uuid::nil()));
        self.with(name, Column::OptionalUuid(ids.collect()))
    }

    /// Adds an identifier that is the same in every row.
    #[must_use]
    pub fn every_uuid(self, name: &'static str, value: Uuid) -> Self {
        self.with(name, Column::EveryUuid(value))
    }

    /// Adds a number that is the same in every row.
    #[must_use]
    pub fn every_number(self, name: &'static str, value: i64) -> Self {
        self.with(name, Column::EveryI64(value))
    }

    /// Adds a text that is the same in every row.
    #[must_use]
    pub fn every_text(self, name: &'static str, value: &str) -> Self {
        self.with(name, Column::EveryText(value.to_owned()))
    }

    /// How many rows. What is the same in every row makes none.
    pub fn len(&self) -> usize {
        self.columns.iter().find_map(|(_, column)| column.len()).unwrap_or(0)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many parameters they are sent as.
    fn parameters(&self, backend: Backend) -> usize {
        match backend {
            Backend::Postgres => self.columns.len(),
            // all that differs from row to row is one text
            Backend::Sqlite => 1 + self.kinds().filter(|(_, kind)| kind.is_same_in_every_row()).count(),
        }
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, ColumnKind)> {
        self.columns.iter().map(|(name, column)| (*name, column.kind()))
    }
}

impl Column {
    fn len(&self) -> Option<usize> {
        match self {
            Self::Uuid(values) | Self::OptionalUuid(values) => Some(values.len()),
            Self::I64(values) => Some(values.len()),
            Self::Text(values) | Self::OptionalText(values) => Some(values.ends.len()),
            Self::Bytes(values) => Some(values.ends.len()),
            Self::EveryUuid(_) | Self::EveryI64(_) | Self::EveryText(_) => None,
        }
    }

    const fn kind(&self) -> ColumnKind {
        match self {
            Self::Uuid(_) => ColumnKind::Uuid,
            Self::I64(_) => ColumnKind::I64,
            Self::Text(_) => ColumnKind::Text,
            Self::Bytes(_) => ColumnKind::Bytes,
            Self::OptionalText(_) => ColumnKind::OptionalText,
            Self::OptionalUuid(_) => ColumnKind::OptionalUuid,
            Self::EveryUuid(_) => ColumnKind::EveryUuid,
            Self::EveryI64(_) => ColumnKind::EveryI64,
            Self::EveryText(_) => ColumnKind::EveryText,
        }
    }
}
