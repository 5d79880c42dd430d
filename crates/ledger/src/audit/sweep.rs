//! A table, page by page in the order of its key, with every rule about its rows.

use std::time::Instant;

use domain::{LotId, RequestId, TenantId};
use sea_orm::Value;
use store::StoreError;
use uuid::Uuid;

use super::{Check, reader::Reader};

/// Rows in a page.
const PAGE: u64 = 5_000;

/// What a table's key names.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    Transaction,
    Lot,
    Tenant,
    Request,
}

impl Subject {
    fn name(self, id: Uuid) -> String {
        match self {
            Self::Transaction => format!("transaction {id}"),
            Self::Lot => LotId::from_uuid(id).to_string(),
            Self::Tenant => TenantId::from_uuid(id).to_string(),
            Self::Request => RequestId::from_uuid(id).to_string(),
        }
    }
}

/// A rule about the rows of a table.
pub struct Rule {
    pub invariant: &'static str,
    pub statement: &'static str,
    /// Answers rows that offend, as `id` and a text `what`; `{range:COLUMN}` is the page. `$3` is the limit.
    pub sql: &'static str,
    pub limit: Option<i64>,
}

/// All rules about the rows of one table.
pub struct Sweep {
    pub table: &'static str,
    /// The column of ids in whose order it is read.
    pub key: &'static str,
    pub subject: Subject,
    pub rules: Vec<Rule>,
}

/// The rows whose key is above the first and not above the last.
pub struct Range {
    pub above: Uuid,
    pub last: Uuid,
    pub rows: u64,
}

/// The page of a table that begins above a key; `None` at the end.
pub async fn next_range(
    reader: &Reader<'_>,
    table: &'static str,
    key: &'static str,
    above: Uuid,
) -> Result<Option<Range>, StoreError> {
    let full = format!(
        "SELECT {key} AS id FROM {table} WHERE {key} > $1 ORDER BY {key} LIMIT 1 OFFSET {}",
        PAGE - 1
    );
    if let Some(row) = reader.rows(&full, vec![above.into()]).await?.first() {
        let last = row.try_get("", "id")?;
        return Ok(Some(Range {
            above,
            last,
            rows: PAGE,
        }));
    }
    let rest = format!("SELECT {key} AS id FROM {table} WHERE {key} > $1 ORDER BY {key} DESC LIMIT 1");
    let rows = reader.rows(&rest, vec![above.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let count = format!("SELECT COUNT(*) AS n FROM {table} WHERE {key} > $1");
    let count = reader.number(&count, vec![above.into()]).await?;
    Ok(Some(Range {
        above,
        last: row.try_get("", "id")?,
        rows: u64::try_from(count).unwrap_or(0),
    }))
}

impl Sweep {
    pub async fn run(&self, reader: &Reader<'_>) -> Result<Vec<Check>, StoreError> {
        let mut checks: Vec<Check> = self
            .rules
            .iter()
            .map(|rule| Check::new(rule.invariant, rule.statement))
            .collect();
        let statements: Vec<String> = self.rules.iter().map(|rule| statement(reader, rule)).collect();
        let (mut above, mut rows) = (Uuid::nil(), 0);
        let mut since = Instant::now();
        while let Some(range) = next_range(reader, self.table, self.key, above).await? {
            above = range.last;
            rows += range.rows;
            for ((check, sql), rule) in checks.iter_mut().zip(&statements).zip(&self.rules) {
                check.rows = rows;
                if check.offender.is_none() {
                    check.offender = self.offender(reader, sql, rule, &range).await?;
                }
            }
            reader.rest(self.table, rows, since).await;
            since = Instant::now();
        }
        Ok(checks)
    }

    async fn offender(
        &self,
        reader: &Reader<'_>,
        sql: &str,
        rule: &Rule,
        range: &Range,
    ) -> Result<Option<String>, StoreError> {
        let mut values: Vec<Value> = vec![range.above.into(), range.last.into()];
        values.extend(rule.limit.map(Value::from));
        let rows = reader.rows(sql, values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (id, what): (Uuid, String) = (row.try_get("", "id")?, row.try_get("", "what")?);
        Ok(Some(format!("{}: {what}", self.subject.name(id))))
    }
}

fn statement(reader: &Reader<'_>, rule: &Rule) -> String {
    let mut pieces = rule.sql.split("{range:");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (column, rest) = piece.split_once('}').unwrap_or((piece, ""));
        text.push_str(&format!("{column} > $1 AND {column} <= $2{rest}"));
    }
    format!("{} LIMIT 1", reader.words(&text))
}
