//! What came of a batch whose acknowledgement was lost, read from the rows that it left. It must answer what the
//! first application would have answered, and it changes nothing.

use std::collections::BTreeSet;

use domain::{Amount, RequestId, clock::UnixMs};
use store::{StoreError, Tx, bulk::Rows};

use super::{available_of, load, rows};
use crate::{
    batch::{Batch, Committed, Item, ItemOutcome, Locking},
    items::{ChargeState, HoldRequest, Refusal},
    rules::{BatchName, Book, HoldOutcome},
};

/// Rows carry the instant of the batch that wrote them, which is also on the node's row.
const CLOSED_BY_THE_BATCH: &str =
    "SELECT c.request_id FROM {rows} JOIN charge c ON c.request_id = r.request_id AND c.closed_at_ms = r.at_ms";

/// The outcomes of the node's last batch.
pub async fn read_back(tx: &Tx, batch: &Batch) -> Result<Committed, StoreError> {
    let now = committed_at(tx, &batch.name).await?;
    let (book, _) = load::load_book(tx, batch, Locking::Wait).await?;
    let opened = opened_by(tx, &batch.name, now).await?;
    let closed = closed_by(tx, batch, now).await?;
    let mut seen: BTreeSet<RequestId> = BTreeSet::new();
    let outcomes = batch
        .items
        .iter()
        .map(|item| match item {
            Item::Hold(hold) if !seen.insert(hold.request) => ItemOutcome::Hold(HoldOutcome::Duplicate),
            Item::Hold(hold) => hold_outcome(&book, hold, &opened, &closed),
            Item::Progress(_) => ItemOutcome::Noted,
            Item::Close(closing) if book.charges.contains_key(&closing.request) => ItemOutcome::Closed,
            Item::Close(_) => ItemOutcome::Deferred,
        })
        .collect();
    Ok(Committed {
        outcomes,
        available: available_of(&book, batch),
        now,
        orphans: Vec::new(),
    })
}

fn hold_outcome(
    book: &Book,
    hold: &HoldRequest,
    opened: &BTreeSet<RequestId>,
    closed: &BTreeSet<RequestId>,
) -> ItemOutcome {
    let outcome = match book.charges.get(&hold.request) {
        Some(_) if !closed.contains(&hold.request) => HoldOutcome::Duplicate,
        Some(row) if row.state == ChargeState::Refused => HoldOutcome::Refused(refusal_now(book, hold)),
        // opened and closed by this batch
        Some(_) => HoldOutcome::Held,
        None if opened.contains(&hold.request) => HoldOutcome::Held,
        None if book.holds.contains_key(&hold.request) => HoldOutcome::Duplicate,
        // neither hold nor charge: the item had been deferred
        None => return ItemOutcome::Deferred,
    };
    ItemOutcome::Hold(outcome)
}

/// Why the hold was refused, with the numbers of now. Credit may have come in since.
fn refusal_now(book: &Book, hold: &HoldRequest) -> Refusal {
    book.refusal(hold).unwrap_or_else(|| {
        let balance = book.balances.get(&hold.tenant).copied().unwrap_or_default();
        Refusal::InsufficientCredit {
            available: balance.available.min(hold.amount).less(Amount::from_nanos(1)),
        }
    })
}

async fn committed_at(tx: &Tx, name: &BatchName) -> Result<UnixMs, StoreError> {
    let sql = "SELECT last_commit_at_ms FROM node WHERE id = $1 AND boot = $2";
    let rows = tx.query(sql, vec![name.node.into(), name.boot.into()]).await?;
    let row = rows.first().ok_or(StoreError::Fenced("the node's row is gone"))?;
    Ok(UnixMs(row.try_get("", "last_commit_at_ms")?))
}

async fn opened_by(tx: &Tx, name: &BatchName, at: UnixMs) -> Result<BTreeSet<RequestId>, StoreError> {
    let sql = "SELECT request_id FROM hold WHERE created_at_ms = $1 AND node_id = $2 AND boot = $3";
    let rows = tx
        .query(sql, vec![at.0.into(), name.node.into(), name.boot.into()])
        .await?;
    rows.iter().map(rows::request).collect()
}

async fn closed_by(tx: &Tx, batch: &Batch, at: UnixMs) -> Result<BTreeSet<RequestId>, StoreError> {
    let rows = Rows::new()
        .uuids("request_id", batch.items.iter().map(|item| item.request().as_uuid()))
        .every_number("at_ms", at.0);
    tx.query_rows(CLOSED_BY_THE_BATCH, &rows)
        .await?
        .iter()
        .map(rows::request)
        .collect()
}
