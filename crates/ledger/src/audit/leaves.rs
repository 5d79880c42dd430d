//! Leaves of the transparency log against the rows that they state: each row since the log began has exactly one leaf, whose
//! statement is made again from the row, and each leaf has its row.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use domain::{RequestId, clock::UnixMs};
use sea_orm::QueryResult;
use store::{Database, StoreError, bulk::Rows};
use transparency::{LeafKind, Logged, salted};
use transparency_log::batches;
use uuid::Uuid;

use super::{Check, reader::Reader, sweep::next_range};
use crate::sql_store::{PostedRow, read_charge, request_statement};

const CHARGES: &str = "SELECT c.request_id, c.tenant_id, c.key_id, c.state, c.reason, c.held, c.amount, c.overrun, \
     c.provider_cost, c.unbilled, c.price_version, c.tx_id, c.closed_at_ms, c.log_batch, q.record_json, t.seq \
     FROM charge c \
     LEFT JOIN request q ON q.id = c.request_id LEFT JOIN tx t ON t.id = c.tx_id \
     WHERE c.request_id > $1 AND c.request_id <= $2 ORDER BY c.request_id";
const TRANSACTIONS: &str = "SELECT seq, id, kind, tenant_id, reference, actor, at_ms, log_batch FROM tx \
     WHERE seq > $1 ORDER BY seq LIMIT 2000";
const ENTRIES: &str = "SELECT e.tx_id, e.account, e.amount FROM {rows} JOIN entry e ON e.tx_id = r.id \
     ORDER BY e.tx_id, e.line";
const BATCHES: &str = "SELECT id, at_ms FROM log_batch WHERE id > $1 ORDER BY id LIMIT 200";
const ROWS_OF_CHARGES: &str = "SELECT c.request_id AS id, c.log_batch FROM {rows} JOIN charge c ON c.request_id = r.id";
const ROWS_OF_TRANSACTIONS: &str = "SELECT t.id, t.log_batch FROM {rows} JOIN tx t ON t.id = r.id";

/// The leaves of some batches, by batch.
type Leaves = BTreeMap<Uuid, BTreeMap<(LeafKind, Uuid), Logged>>;

/// Checks the leaf of every charge.
pub async fn charges_have_leaves(database: &Database, reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "L1",
        "every request that ended since the log began has its leaf, which states its rows",
    );
    let beginning = Beginning::read(reader).await?;
    let (mut above, mut since) = (Uuid::nil(), Instant::now());
    while let Some(range) = next_range(reader, "charge", "request_id", above).await? {
        let rows = reader
            .rows(CHARGES, vec![range.above.into(), range.last.into()])
            .await?;
        let leaves = leaves_of(database, reader, &rows).await?;
        for row in &rows {
            let charge = read_charge(row)?;
            let closed_at = UnixMs(row.try_get("", "closed_at_ms")?);
            let record: Option<String> = row.try_get("", "record_json")?;
            let posted: Option<i64> = row.try_get("", "seq")?;
            let fault = fault_of(
                row,
                &leaves,
                || match charge.transaction {
                    Some(_) => posted.is_some_and(|seq| beginning.is_older(seq, closed_at)),
                    None => beginning.may_be_older(closed_at),
                },
                (LeafKind::Request, charge.request.as_uuid()),
                || request_statement(&charge, closed_at, record.as_deref()),
            )?;
            if let Some(fault) = fault {
                check.offend(|| format!("{}: {fault}", charge.request));
            }
        }
        check.rows += range.rows;
        above = range.last;
        reader.rest("charge", check.rows, since).await;
        since = Instant::now();
    }
    Ok(check)
}

/// Checks the leaf of every ledger transaction.
pub async fn transactions_have_leaves(database: &Database, reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new(
        "L2",
        "every transaction since the log began has its leaf, which states its entries",
    );
    let beginning = Beginning::read(reader).await?;
    // whoever writes past the product may choose any number
    let (mut after, mut since) = (i64::MIN, Instant::now());
    loop {
        let rows = reader.rows(TRANSACTIONS, vec![after.into()]).await?;
        let Some(last) = rows.last() else { return Ok(check) };
        after = last.try_get("", "seq")?;
        let leaves = leaves_of(database, reader, &rows).await?;
        let entries = entries_of(database, reader, &rows).await?;
        for row in &rows {
            let posted = PostedRow::read(row)?;
            let id = posted.id;
            let lines = entries.get(&id).map(Vec::as_slice).unwrap_or_default();
            let statement = || posted.statement(lines);
            let seq: i64 = row.try_get("", "seq")?;
            let is_older = || beginning.is_older(seq, posted.at);
            if let Some(fault) = fault_of(row, &leaves, is_older, (LeafKind::Transaction, id), statement)? {
                check.offend(|| format!("transaction {id}: {fault}"));
            }
        }
        check.rows += u64::try_from(rows.len()).unwrap_or(u64::MAX);
        reader.rest("tx", check.rows, since).await;
        since = Instant::now();
    }
}

/// Where the log begins among the rows. An instant is whatever a row says; the order in which transactions were posted is
/// the database's, from 1 on, so a row without a leaf counts as older than the log only if it was posted before every row with
/// one.
struct Beginning {
    /// When the first log began; `None` before.
    began_ms: Option<i64>,
    /// The first transaction that has a leaf.
    first_logged: Option<i64>,
    /// The first transaction.
    first: Option<i64>,
}

impl Beginning {
    async fn read(reader: &Reader<'_>) -> Result<Self, StoreError> {
        let logged = "SELECT seq AS n FROM tx WHERE log_batch IS NOT NULL ORDER BY seq LIMIT 1";
        Ok(Self {
            began_ms: first_number(reader, "SELECT MIN(created_at_ms) AS n FROM log").await?,
            first_logged: first_number(reader, logged).await?,
            first: first_number(reader, "SELECT MIN(seq) AS n FROM tx WHERE seq > 0").await?,
        })
    }

    /// Whether what a transaction posted is older than the log.
    fn is_older(&self, seq: i64, at: UnixMs) -> bool {
        seq > 0 && self.began_ms.is_none_or(|began| at.0 < began) && self.first_logged.is_none_or(|first| seq < first)
    }

    /// Whether a charge that posted nothing may be older than the log: not if the log is as old as the books.
    fn may_be_older(&self, at: UnixMs) -> bool {
        self.first.is_none_or(|first| self.is_older(first, at))
    }
}

async fn first_number(reader: &Reader<'_>, sql: &str) -> Result<Option<i64>, StoreError> {
    let rows = reader.rows(sql, vec![]).await?;
    Ok(rows.first().map(|row| row.try_get("", "n")).transpose()?.flatten())
}

/// What is wrong with the leaf of a row.
fn fault_of(
    row: &QueryResult,
    leaves: &Leaves,
    is_older: impl FnOnce() -> bool,
    leaf: (LeafKind, Uuid),
    statement: impl FnOnce() -> String,
) -> Result<Option<String>, StoreError> {
    let batch: Option<Uuid> = row.try_get("", "log_batch")?;
    let Some(batch) = batch else {
        return Ok((!is_older()).then(|| "it names no batch of the log, and is not older than the log".to_owned()));
    };
    let Some(leaves) = leaves.get(&batch) else {
        return Ok(Some(format!("its batch {batch} is missing in the log")));
    };
    let Some(logged) = leaves.get(&leaf) else {
        return Ok(Some(format!("its batch {batch} has no leaf of it")));
    };
    let is_stated = salted(&logged.salt, &statement()) == logged.value;
    Ok((!is_stated).then(|| format!("its leaf in batch {batch} states something else than its row")))
}

async fn leaves_of(database: &Database, reader: &Reader<'_>, rows: &[QueryResult]) -> Result<Leaves, StoreError> {
    let mut wanted: BTreeSet<Uuid> = BTreeSet::new();
    for row in rows {
        wanted.extend(row.try_get::<Option<Uuid>>("", "log_batch")?);
    }
    let found = batches(database, reader.connection(), wanted).await?;
    Ok(found
        .into_iter()
        .map(|batch| {
            // what cannot be read is told by the check of the batches
            let leaves = batch.contents.leaves().unwrap_or_default();
            (
                batch.id,
                leaves.into_iter().map(|leaf| ((leaf.kind, leaf.id), leaf)).collect(),
            )
        })
        .collect())
}

/// Account and amount of each entry, by transaction, in the order of their lines.
async fn entries_of(
    database: &Database,
    reader: &Reader<'_>,
    rows: &[QueryResult],
) -> Result<BTreeMap<Uuid, Vec<(String, i64)>>, StoreError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
    let found = reader
        .found(database.statement(ENTRIES, &Rows::new().uuids("id", ids)))
        .await?;
    let mut entries: BTreeMap<Uuid, Vec<(String, i64)>> = BTreeMap::new();
    for row in &found {
        let line = (row.try_get("", "account")?, row.try_get("", "amount")?);
        entries.entry(row.try_get("", "tx_id")?).or_default().push(line);
    }
    Ok(entries)
}

/// Checks that every leaf has its row, and the row names the leaf's batch. What was declared lost after a restore from
/// backup stays in the log, and has none.
pub async fn leaves_have_rows(database: &Database, reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new("L3", "every leaf has its row, unless that was declared lost");
    let lost_before = declared_lost_ms(reader).await?;
    let (mut above, mut since) = (Uuid::nil(), Instant::now());
    loop {
        let page = reader.rows(BATCHES, vec![above.into()]).await?;
        let Some(last) = page.last() else { return Ok(check) };
        above = last.try_get("", "id")?;
        let ids: Vec<Uuid> = page.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
        let found = batches(database, reader.connection(), ids).await?;
        let leaves: Vec<(Uuid, i64, Logged)> = found
            .iter()
            .flat_map(|batch| {
                let leaves = batch.contents.leaves().unwrap_or_default();
                leaves.into_iter().map(|leaf| (batch.id, batch.at_ms, leaf))
            })
            .collect();
        let charges = batches_of(database, reader, ROWS_OF_CHARGES, &leaves, LeafKind::Request).await?;
        let transactions = batches_of(database, reader, ROWS_OF_TRANSACTIONS, &leaves, LeafKind::Transaction).await?;
        for (batch, at_ms, leaf) in &leaves {
            let (rows, name) = match leaf.kind {
                LeafKind::Request => (&charges, RequestId::from_uuid(leaf.id).to_string()),
                LeafKind::Transaction => (&transactions, format!("transaction {}", leaf.id)),
            };
            match rows.get(&leaf.id) {
                Some(Some(named)) if named == batch => {}
                None if lost_before.is_some_and(|lost| *at_ms <= lost) => {}
                None => check.offend(|| format!("batch {batch} has a leaf of {name}, which does not exist")),
                Some(_) => check.offend(|| format!("batch {batch} has a leaf of {name}, which names another batch")),
            }
        }
        check.rows += u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        reader.rest("log_batch", check.rows, since).await;
        since = Instant::now();
    }
}

/// When something was declared lost last.
async fn declared_lost_ms(reader: &Reader<'_>) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MAX(opened_at_ms) AS lost FROM restore_gate WHERE outcome = 'declared_lost'";
    let rows = reader.rows(sql, vec![]).await?;
    Ok(rows.first().map(|row| row.try_get("", "lost")).transpose()?.flatten())
}

/// The batches that the rows of leaves name, by row.
async fn batches_of(
    database: &Database,
    reader: &Reader<'_>,
    sql: &'static str,
    leaves: &[(Uuid, i64, Logged)],
    kind: LeafKind,
) -> Result<BTreeMap<Uuid, Option<Uuid>>, StoreError> {
    let ids = leaves
        .iter()
        .filter(|(.., leaf)| leaf.kind == kind)
        .map(|(.., leaf)| leaf.id);
    let rows = Rows::new().uuids("id", ids);
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = reader.found(database.statement(sql, &rows)).await?;
    found
        .iter()
        .map(|row| Ok((row.try_get("", "id")?, row.try_get("", "log_batch")?)))
        .collect()
}
