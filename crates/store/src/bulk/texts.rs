//! What statements over rows become, worked out once and kept: the text of a statement never depends on how many rows
//! there are, so the database prepares it once too.

use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::{ColumnKind, Rows};
use crate::Backend;

/// More different statements than the product has; what goes beyond is worked out each time.
const MAX_KEPT: usize = 256;

/// A statement and its rows.
pub type Part<'a> = (&'static str, &'a Rows);

/// How several statements become one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Together {
    /// There is only one.
    Alone,
    /// PostgreSQL: each statement changes rows; they become one `WITH`.
    Writing,
    /// Each statement answers rows of the same shape; they become one `UNION ALL`, and each row begins with the number
    /// of its statement.
    Reading,
}

/// The texts of one database.
#[derive(Debug)]
pub(crate) struct StatementTexts {
    backend: Backend,
    kept: RwLock<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    together: Together,
    parts: Vec<(&'static str, Vec<(&'static str, ColumnKind)>)>,
    /// Which parts have the same rows depends on the call, and with it the numbers of the parameters.
    first_parameters: Vec<usize>,
    text: Arc<str>,
}

impl StatementTexts {
    pub(crate) const fn new(backend: Backend) -> Self {
        Self {
            backend,
            kept: RwLock::new(Vec::new()),
        }
    }

    /// The text of these statements as one.
    pub(super) fn text(&self, together: Together, parts: &[Part<'_>]) -> Arc<str> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|kept| kept.is_of(self.backend, together, parts)) {
            return Arc::clone(&found.text);
        }
        drop(kept);
        let first_parameters: Vec<usize> = first_parameters(self.backend, parts).collect();
        let text: Arc<str> = self.render(together, parts, &first_parameters).into();
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_KEPT {
            kept.push(Kept {
                together,
                parts: parts.iter().map(|(sql, rows)| (*sql, rows.kinds().collect())).collect(),
                first_parameters,
                text: Arc::clone(&text),
            });
        }
        text
    }

    fn render(&self, together: Together, parts: &[Part<'_>], first_parameters: &[usize]) -> String {
        let mut rendered: Vec<String> = parts
            .iter()
            .zip(first_parameters)
            .map(|((sql, rows), first)| self.render_one(sql, rows, *first))
            .collect();
        match together {
            Together::Alone => rendered.concat(),
            Together::Writing => {
                let last = rendered.pop().unwrap_or_default();
                let others = rendered.iter().enumerate();
                let others: Vec<String> = others.map(|(number, sql)| format!("w{number} AS ({sql})")).collect();
                if others.is_empty() {
                    return last;
                }
                format!("WITH {} {last}", others.join(", "))
            }
            Together::Reading => {
                let numbered = rendered.iter().enumerate();
                let numbered: Vec<String> = numbered
                    .map(|(number, sql)| {
                        format!("SELECT CAST({number} AS BIGINT) AS part, p{number}.* FROM ({sql}) AS p{number}")
                    })
                    .collect();
                numbered.join(" UNION ALL ")
            }
        }
    }

    fn render_one(&self, sql: &str, rows: &Rows, first_parameter: usize) -> String {
        // SQLite has one writer: whoever is in a transaction holds the lock already
        let (relation, lock, skip, id) = match self.backend {
            Backend::Postgres => (
                unnest(rows, first_parameter),
                "FOR UPDATE",
                "FOR UPDATE SKIP LOCKED",
                "UUID",
            ),
            Backend::Sqlite => (json_each(rows, first_parameter), "", "", "BLOB"),
        };
        sql.replace("{rows}", &relation)
            .replace("{for_update}", lock)
            .replace("{for_update_skip_locked}", skip)
            .replace("{uuid}", id)
    }
}

impl Kept {
    fn is_of(&self, backend: Backend, together: Together, parts: &[Part<'_>]) -> bool {
        self.together == together
            && self.parts.len() == parts.len()
            && self
                .parts
                .iter()
                .zip(parts)
                .all(|((kept, _), (sql, _))| std::ptr::eq(*kept, *sql))
            && self
                .parts
                .iter()
                .zip(parts)
                .all(|((_, columns), (_, rows))| columns.iter().copied().eq(rows.kinds()))
            && self
                .first_parameters
                .iter()
                .copied()
                .eq(first_parameters(backend, parts))
    }
}

/// Whether part `number` has the very rows of an earlier part, and of which.
pub(super) fn earlier_with_the_same_rows(parts: &[Part<'_>], number: usize) -> Option<usize> {
    let (_, rows) = parts.get(number)?;
    parts
        .iter()
        .take(number)
        .position(|(_, earlier)| std::ptr::eq(*earlier, *rows))
}

/// The number of the first parameter of each part. The same rows are sent once.
fn first_parameters(backend: Backend, parts: &[Part<'_>]) -> impl Iterator<Item = usize> {
    let first_of = move |number: usize| {
        let sent = (0..number).filter(|earlier| earlier_with_the_same_rows(parts, *earlier).is_none());
        1 + sent
            .filter_map(|earlier| parts.get(earlier))
            .map(|(_, rows)| rows.parameters(backend))
            .sum::<usize>()
    };
    (0..parts.len()).map(move |number| first_of(earlier_with_the_same_rows(parts, number).unwrap_or(number)))
}

fn unnest(rows: &Rows, first_parameter: usize) -> String {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for ((name, kind), parameter) in rows.kinds().zip(first_parameter..) {
        let (field, of) = match kind {
            ColumnKind::Uuid => (name.to_owned(), "uuid"),
            ColumnKind::I64 => (name.to_owned(), "int8"),
            ColumnKind::Text => (name.to_owned(), "text"),
            ColumnKind::Bytes => (name.to_owned(), "bytea"),
            ColumnKind::OptionalText => (format!("NULLIF({name}, '') AS {name}"), "text"),
            ColumnKind::OptionalUuid => (format!("NULLIF({name}, '{}'::uuid) AS {name}", Uuid::nil()), "uuid"),
            ColumnKind::EveryUuid => (format!("${parameter}::uuid AS {name}"), "uuid"),
            ColumnKind::EveryI64 => (format!("${parameter}::int8 AS {name}"), "int8"),
            ColumnKind::EveryText => (format!("${parameter}::text AS {name}"), "text"),
        };
        fields.push(field);
        if !kind.is_same_in_every_row() {
            arrays.push(format!("UNNEST(${parameter}::{of}[]) AS {name}"));
        }
    }
    // in the list of what is selected, arrays are walked side by side; after FROM, each would be copied to a store first
    format!(
        "(SELECT {} FROM (SELECT {}) AS u) AS r",
        fields.join(", "),
        arrays.join(", ")
    )
}

fn json_each(rows: &Rows, first_parameter: usize) -> String {
    let (mut place, mut parameter) = (0, first_parameter);
    let fields: Vec<String> = rows
        .kinds()
        .map(|(name, kind)| {
            if kind.is_same_in_every_row() {
                parameter += 1;
                return format!("${parameter} AS {name}");
            }
            place += 1;
            let value = format!("value ->> {}", place - 1);
            match kind {
                ColumnKind::Uuid | ColumnKind::OptionalUuid | ColumnKind::Bytes => format!("unhex({value}) AS {name}"),
                _ => format!("{value} AS {name}"),
            }
        })
        .collect();
    format!("(SELECT {} FROM json_each(${first_parameter})) AS r", fields.join(", "))
}
