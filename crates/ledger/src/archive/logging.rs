//! Rows that a replay brought back and whose leaves of the transparency log nobody has any more: they had not been published,
//! or not been copied, and get new ones.

use std::collections::BTreeMap;

use domain::clock::UnixMs;
use store::{Database, StoreError, bulk::Rows};
use transparency::LeafKind;
use transparency_log::BatchDraft;
use uuid::Uuid;

use crate::sql_store::{PostedRow, read_charge, request_statement};

const PAGE: i64 = 1_000;
const CHARGES: &str = "SELECT c.request_id, c.tenant_id, c.key_id, c.state, c.reason, c.held, c.amount, c.overrun, \
     c.provider_cost, c.unbilled, c.price_version, c.tx_id, c.closed_at_ms, c.log_batch, q.record_json FROM charge c \
     LEFT JOIN request q ON q.id = c.request_id WHERE c.request_id > $1 AND c.log_batch IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM log_batch b WHERE b.id = c.log_batch) ORDER BY c.request_id LIMIT $2";
const TRANSACTIONS: &str = "SELECT t.seq, t.id, t.kind, t.tenant_id, t.reference, t.actor, t.at_ms, t.log_batch FROM tx t \
     WHERE t.seq > $1 AND t.log_batch IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM log_batch b WHERE b.id = t.log_batch) ORDER BY t.seq LIMIT $2";
const ENTRIES: &str = "SELECT tx_id, account, amount FROM entry WHERE tx_id IN (SELECT r.id FROM {rows}) \
     ORDER BY tx_id, line";

/// Batches that are put together again, with their instants.
type Drafts = BTreeMap<Uuid, (BatchDraft, i64)>;

/// Makes the leaves that are missing. Answers the earliest and the latest instant of their batches, if there are any.
///
/// # Errors
/// What the database says; do it again then.
pub async fn log_again(database: &Database) -> Result<Option<(i64, i64)>, StoreError> {
    let tx = database.begin().await?;
    let mut drafts = Drafts::new();
    add_charges(&tx, &mut drafts).await?;
    add_transactions(&tx, &mut drafts).await?;
    let instants = || drafts.values().map(|(_, at_ms)| *at_ms);
    let span = instants().min().zip(instants().max());
    for (draft, at_ms) in drafts.into_values() {
        tx.execute_together(&draft.stored(at_ms).changes()).await?;
    }
    tx.commit().await?;
    Ok(span)
}

fn push(drafts: &mut Drafts, batch: Uuid, at: UnixMs, (kind, id): (LeafKind, Uuid), statement: &str) {
    let (draft, _) = drafts.entry(batch).or_insert_with(|| (BatchDraft::new(batch, 1), at.0));
    draft.push(kind, id, statement);
}

async fn add_charges(tx: &store::Tx, drafts: &mut Drafts) -> Result<(), StoreError> {
    let mut above = Uuid::nil();
    loop {
        let rows = tx.query(CHARGES, vec![above.into(), PAGE.into()]).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            let charge = read_charge(row)?;
            above = charge.request.as_uuid();
            let closed_at = UnixMs(row.try_get("", "closed_at_ms")?);
            let record: Option<String> = row.try_get("", "record_json")?;
            let statement = request_statement(&charge, closed_at, record.as_deref());
            push(
                drafts,
                row.try_get("", "log_batch")?,
                closed_at,
                (LeafKind::Request, above),
                &statement,
            );
        }
    }
}

async fn add_transactions(tx: &store::Tx, drafts: &mut Drafts) -> Result<(), StoreError> {
    let mut after = 0_i64;
    loop {
        let rows = tx.query(TRANSACTIONS, vec![after.into(), PAGE.into()]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get("", "seq")?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
        let mut entries: BTreeMap<Uuid, Vec<(String, i64)>> = BTreeMap::new();
        for entry in tx.query_rows(ENTRIES, &Rows::new().uuids("id", ids)).await? {
            let line = (entry.try_get("", "account")?, entry.try_get("", "amount")?);
            entries.entry(entry.try_get("", "tx_id")?).or_default().push(line);
        }
        for row in &rows {
            let posted = PostedRow::read(row)?;
            let lines = entries.get(&posted.id).map(Vec::as_slice).unwrap_or_default();
            let statement = posted.statement(lines);
            push(
                drafts,
                row.try_get("", "log_batch")?,
                posted.at,
                (LeafKind::Transaction, posted.id),
                &statement,
            );
        }
    }
}
