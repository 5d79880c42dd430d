//! Writing what a batch changed: a statement per table, all of them in one message.

use std::{borrow::Cow, collections::BTreeMap};

use domain::{Amount, LotId, RequestId, TenantId, clock::UnixMs};
use store::{StoreError, Tx, bulk::Rows};
use transparency_log::{BatchDraft, movement_batch};
use uuid::Uuid;

use super::{
    leaves::{self, Posted, RecordTexts},
    rows::NO_BUDGETS,
};
use crate::{
    claims::Purpose,
    items::{BudgetKey, ChargeRow, OpenHold, Progress},
    posting::{Posting, Transaction},
    rules::{Balance, BatchName, Book, Budget},
};

const BALANCES: &str = "UPDATE acct SET available = r.available, held = r.held, claimed = r.claimed, version = acct.version + 1 \
     FROM {rows} WHERE acct.tenant_id = r.tenant_id";
const BUDGETS: &str = "INSERT INTO budget (scope, period_start_ms, limit_amount, used, held) \
     SELECT r.scope, r.period_start_ms, r.limit_amount, r.used, r.held FROM {rows} WHERE TRUE \
     ON CONFLICT (scope, period_start_ms) DO UPDATE SET limit_amount = excluded.limit_amount, \
     used = excluded.used, held = excluded.held";
const LOTS: &str = "UPDATE lot SET remaining = r.remaining FROM {rows} WHERE lot.id = r.id";
const CLAIMS: &str = "UPDATE claim SET amount = r.amount FROM {rows} \
     WHERE claim.lot_id = r.lot_id AND claim.purpose = r.purpose";
const ENDED_CLAIMS: &str = "DELETE FROM claim WHERE (lot_id, purpose) IN (SELECT r.lot_id, r.purpose FROM {rows})";
const OPENED: &str = "INSERT INTO hold (request_id, tenant_id, key_id, node_id, boot, amount, budgets_json, \
     price_version, provider, provider_estimate, created_at_ms, progress_json, progress_amount) \
     SELECT r.request_id, r.tenant_id, r.key_id, r.node_id, r.boot, r.amount, r.budgets_json, r.price_version, \
     r.provider, r.provider_estimate, r.created_at_ms, r.progress_json, r.progress_amount FROM {rows}";
const PROGRESSED: &str = "UPDATE hold SET progress_json = r.progress_json, progress_amount = r.progress_amount \
     FROM {rows} WHERE hold.request_id = r.request_id AND hold.progress_amount <= r.progress_amount";
const CLOSED: &str = "DELETE FROM hold WHERE request_id IN (SELECT r.request_id FROM {rows})";
const CHARGED: &str = "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, \
     provider_cost, unbilled, price_version, tx_id, closed_at_ms, log_batch) \
     SELECT r.request_id, r.tenant_id, r.key_id, r.state, r.reason, r.held, r.amount, r.overrun, r.provider_cost, \
     r.unbilled, r.price_version, r.tx_id, r.closed_at_ms, r.log_batch FROM {rows}";
const TRANSACTIONS: &str = "INSERT INTO tx (id, kind, tenant_id, reference, actor, at_ms, log_batch) \
     SELECT r.id, r.kind, r.tenant_id, r.reference, r.actor, r.at_ms, r.log_batch FROM {rows}";
const ENTRIES: &str = "INSERT INTO entry (tx_id, line, account, amount) \
     SELECT r.tx_id, r.line, r.account, r.amount FROM {rows}";
const KNOWN_TRANSACTIONS: &str = "SELECT id FROM tx WHERE id IN (SELECT r.id FROM {rows})";

/// Who writes the transactions of batches.
pub const WRITER: &str = "system:ledger-writer";

/// A statement and its rows.
type Change = (&'static str, Rows);

/// What was written that the book does not say.
pub struct Saved {
    /// The late costs that were not booked before.
    pub late: Vec<Transaction>,
    /// How far requests have come, as stored.
    pub progress: BTreeMap<RequestId, String>,
}

/// Writes everything that the batch changed, its leaves of the transparency log, and what stores the records of its
/// requests, which are `records`.
pub async fn save_changes(
    tx: &Tx,
    name: &BatchName,
    book: &Book,
    (records, recorded): (&RecordTexts<'_>, Change),
    now: UnixMs,
) -> Result<Saved, StoreError> {
    let late = unknown_late_costs(tx, book).await?;
    let progress = progress_texts(book)?;
    let reference = format!("batch:{}:{}:{}", name.node, name.boot, name.number);
    let mut transactions = batch_transactions(name, &reference, book);
    transactions.extend(late.iter().copied().map(Header::of));
    transactions.extend(book.changes.served.iter().map(Header::of));
    let charged: Vec<&ChargeRow> = new_charge_rows(book).collect();
    let mut draft = BatchDraft::new(leaves::log_batch(name), charged.len() + transactions.len());
    leaves::add_requests(&mut draft, charged.iter().copied(), records, now);
    let [transactions, entries] = transaction_changes(WRITER, &transactions, &mut draft, now)?;
    let charges = new_charges(&charged, draft.id(), now);
    let [logged, waiting] = draft.stored(now.0).changes();
    let [lowered, ended] = changed_claims(book);
    let changes = [
        changed_balances(book),
        changed_budgets(book),
        changed_lots(book),
        lowered,
        ended,
        opened_holds(name, book, &progress, now)?,
        progressed_holds(book, &progress),
        closed_holds(book),
        transactions,
        entries,
        charges,
        recorded,
        logged,
        waiting,
    ];
    tx.execute_together(&changes).await?;
    let late = late.into_iter().cloned().collect();
    Ok(Saved { late, progress })
}

fn changed_balances(book: &Book) -> Change {
    let touched: Vec<(TenantId, Balance)> = book
        .changes
        .balances
        .iter()
        .filter_map(|tenant| Some((*tenant, *book.balances.get(tenant)?)))
        .collect();
    let rows = Rows::new()
        .uuids("tenant_id", touched.iter().map(|(tenant, _)| tenant.as_uuid()))
        .numbers(
            "available",
            touched.iter().map(|(_, balance)| balance.available.nanos()),
        )
        .numbers("held", touched.iter().map(|(_, balance)| balance.held.nanos()))
        .numbers("claimed", touched.iter().map(|(_, balance)| balance.claimed.nanos()));
    (BALANCES, rows)
}

fn changed_budgets(book: &Book) -> Change {
    let touched: Vec<(BudgetKey, Budget)> = book
        .changes
        .budgets
        .keys()
        .filter_map(|key| Some((*key, *book.budgets.get(key)?)))
        .collect();
    let rows = Rows::new()
        .uuids("scope", touched.iter().map(|(key, _)| key.scope))
        .numbers("period_start_ms", touched.iter().map(|(key, _)| key.period_start.0))
        .numbers("limit_amount", touched.iter().map(|(_, budget)| budget.limit.nanos()))
        .numbers("used", touched.iter().map(|(_, budget)| budget.used.nanos()))
        .numbers("held", touched.iter().map(|(_, budget)| budget.held.nanos()));
    (BUDGETS, rows)
}

fn changed_lots(book: &Book) -> Change {
    let lots = &book.changes.lots;
    let rows = Rows::new()
        .uuids("id", lots.keys().map(|lot| lot.as_uuid()))
        .numbers("remaining", lots.values().map(|left| left.nanos()));
    (LOTS, rows)
}

/// Claims of which less waits now, and those of which nothing does any more.
fn changed_claims(book: &Book) -> [Change; 2] {
    let claims = book.changes.claims.iter().map(|(key, amount)| (*key, *amount));
    let (ended, lowered): (Vec<_>, Vec<_>) = claims.partition(|(_, amount)| amount.is_zero());
    let keys = |claims: &[((LotId, Purpose), Amount)]| {
        Rows::new()
            .uuids("lot_id", claims.iter().map(|((lot, _), _)| lot.as_uuid()))
            .texts("purpose", claims.iter().map(|((_, purpose), _)| purpose.as_str()))
    };
    let left = lowered.iter().map(|(_, amount)| amount.nanos());
    [
        (CLAIMS, keys(&lowered).numbers("amount", left)),
        (ENDED_CLAIMS, keys(&ended)),
    ]
}

fn opened_holds(
    name: &BatchName,
    book: &Book,
    progress: &BTreeMap<RequestId, String>,
    now: UnixMs,
) -> Result<Change, StoreError> {
    let opened: Vec<&OpenHold> = book
        .changes
        .opened
        .iter()
        .filter_map(|request| book.holds.get(request))
        .collect();
    let budgets = opened
        .iter()
        .map(|hold| budgets_json(hold))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = Rows::new()
        .uuids("request_id", opened.iter().map(|hold| hold.request.as_uuid()))
        .uuids("tenant_id", opened.iter().map(|hold| hold.tenant.as_uuid()))
        .uuids("key_id", opened.iter().map(|hold| hold.key.as_uuid()))
        .every_uuid("node_id", name.node)
        .every_uuid("boot", name.boot)
        .numbers("amount", opened.iter().map(|hold| hold.amount.nanos()))
        .texts("budgets_json", budgets)
        .numbers("price_version", opened.iter().map(|hold| hold.price_version))
        .texts("provider", opened.iter().map(|hold| hold.provider.as_str()))
        .numbers(
            "provider_estimate",
            opened.iter().map(|hold| hold.provider_estimate.nanos()),
        )
        .every_number("created_at_ms", now.0)
        .texts(
            "progress_json",
            opened
                .iter()
                .map(|hold| progress.get(&hold.request).map_or("", String::as_str)),
        )
        .numbers(
            "progress_amount",
            opened
                .iter()
                .map(|hold| book.changes.progressed.get(&hold.request).map_or(0, Progress::rank)),
        );
    Ok((OPENED, rows))
}

/// How far the holds have come that were open before. One that opens in this batch is written with it. Progress is
/// cumulative: a spool that is applied at a boot may hold some that is older than what had been written after it.
fn progressed_holds(book: &Book, texts: &BTreeMap<RequestId, String>) -> Change {
    let opened = &book.changes.opened;
    let earlier = || texts.iter().filter(|(request, _)| !opened.contains(request));
    let amount = |request| book.changes.progressed.get(request).map_or(0, Progress::rank);
    let rows = Rows::new()
        .uuids("request_id", earlier().map(|(request, _)| request.as_uuid()))
        .texts("progress_json", earlier().map(|(_, text)| text))
        .numbers("progress_amount", earlier().map(|(request, _)| amount(request)));
    (PROGRESSED, rows)
}

fn progress_texts(book: &Book) -> Result<BTreeMap<RequestId, String>, StoreError> {
    let progressed = book.changes.progressed.iter();
    progressed
        .map(|(request, progress)| Ok((*request, serde_json::to_string(progress)?)))
        .collect::<Result<_, serde_json::Error>>()
        .map_err(|_| StoreError::damaged("progress of a hold"))
}

fn budgets_json(hold: &OpenHold) -> Result<Cow<'static, str>, StoreError> {
    if hold.budgets.is_empty() {
        return Ok(NO_BUDGETS.into());
    }
    let text = serde_json::to_string(hold.budgets.as_slice());
    Ok(text.map_err(|_| StoreError::damaged("budgets of a hold"))?.into())
}

fn closed_holds(book: &Book) -> Change {
    let closed = book.changes.closed.iter().map(|request| request.as_uuid());
    (CLOSED, Rows::new().uuids("request_id", closed))
}

fn new_charge_rows(book: &Book) -> impl Iterator<Item = &ChargeRow> {
    let charged = book.changes.charged.iter();
    charged.filter_map(|request| book.charges.get(request))
}

fn new_charges(charged: &[&ChargeRow], log_batch: Uuid, now: UnixMs) -> Change {
    let number = |field: fn(&ChargeRow) -> Amount| charged.iter().map(move |row| field(row).nanos());
    let rows = Rows::new()
        .uuids("request_id", charged.iter().map(|row| row.request.as_uuid()))
        .uuids("tenant_id", charged.iter().map(|row| row.tenant.as_uuid()))
        .uuids("key_id", charged.iter().map(|row| row.key.as_uuid()))
        .texts("state", charged.iter().map(|row| row.state.as_str()))
        .texts("reason", charged.iter().map(|row| row.reason.as_str()))
        .numbers("held", number(|row| row.held))
        .numbers("amount", number(|row| row.amount))
        .numbers("overrun", number(|row| row.overrun))
        .numbers("provider_cost", number(|row| row.provider_cost))
        .numbers("unbilled", number(|row| row.unbilled))
        .numbers("price_version", charged.iter().map(|row| row.price_version))
        .optional_uuids("tx_id", charged.iter().map(|row| row.transaction))
        .every_number("closed_at_ms", now.0)
        .every_uuid("log_batch", log_batch);
    (CHARGED, rows)
}

/// A transaction as it is written; what it is made of stays where it is.
struct Header<'a> {
    id: Uuid,
    kind: &'static str,
    tenant: Option<TenantId>,
    reference: &'a str,
    posting: &'a Posting,
}

impl<'a> Header<'a> {
    fn of(transaction: &'a Transaction) -> Self {
        Self {
            id: transaction.id,
            kind: transaction.kind,
            tenant: transaction.tenant,
            reference: &transaction.reference,
            posting: &transaction.posting,
        }
    }
}

fn batch_transactions<'a>(name: &BatchName, reference: &'a str, book: &'a Book) -> Vec<Header<'a>> {
    let known = &book.changes.usage_ids;
    let usage = book.changes.usage.iter().map(|(tenant, posting)| Header {
        id: known.get(tenant).copied().unwrap_or_else(|| name.usage_id(*tenant)),
        kind: "usage",
        tenant: Some(*tenant),
        reference,
        posting,
    });
    let operator = Header {
        id: name.operator_id(),
        kind: "operator_cost",
        tenant: None,
        reference,
        posting: &book.changes.operator,
    };
    usage
        .chain(std::iter::once(operator))
        .filter(|transaction| !transaction.posting.is_empty())
        .collect()
}

/// A late cost is booked once: its id is made of what caused it.
async fn unknown_late_costs<'a>(tx: &Tx, book: &'a Book) -> Result<Vec<&'a Transaction>, StoreError> {
    let late = &book.changes.late;
    let rows = Rows::new().uuids("id", late.iter().map(|transaction| transaction.id));
    let mut known: Vec<Uuid> = tx
        .query_rows(KNOWN_TRANSACTIONS, &rows)
        .await?
        .iter()
        .map(|row| row.try_get_by_index(0))
        .collect::<Result<_, _>>()?;
    let mut unknown = Vec::new();
    for transaction in late {
        if !known.contains(&transaction.id) {
            known.push(transaction.id);
            unknown.push(transaction);
        }
    }
    Ok(unknown)
}

/// Inserts a transaction outside the writer with its entries and its leaf of the transparency log. It is checked to balance
/// before anything is sent.
pub async fn write_transaction(tx: &Tx, actor: &str, transaction: &Transaction, now: UnixMs) -> Result<(), StoreError> {
    let mut draft = BatchDraft::new(movement_batch(transaction.id), 1);
    let [transactions, entries] = transaction_changes(actor, &[Header::of(transaction)], &mut draft, now)?;
    let [logged, waiting] = draft.stored(now.0).changes();
    tx.execute_together(&[transactions, entries, logged, waiting]).await
}

fn transaction_changes(
    actor: &str,
    transactions: &[Header<'_>],
    draft: &mut BatchDraft,
    now: UnixMs,
) -> Result<[Change; 2], StoreError> {
    let mut lines = Vec::new();
    for transaction in transactions {
        let entries = transaction
            .posting
            .entries()
            .map_err(|error| StoreError::damaged(error.to_string()))?;
        let posted = Posted {
            id: transaction.id,
            kind: transaction.kind,
            tenant: transaction.tenant,
            reference: transaction.reference,
            actor,
            at: now,
        };
        let stated = entries
            .iter()
            .map(|(account, amount)| (account.as_str(), amount.nanos()));
        leaves::add_transaction(draft, &posted, stated);
        let numbered = (1_i64..).zip(entries);
        lines.extend(numbered.map(|(line, (account, amount))| (transaction.id, line, account, amount)));
    }
    let headers = Rows::new()
        .uuids("id", transactions.iter().map(|transaction| transaction.id))
        .texts("kind", transactions.iter().map(|transaction| transaction.kind))
        .optional_uuids(
            "tenant_id",
            transactions.iter().map(|t| t.tenant.map(|id| id.as_uuid())),
        )
        .texts(
            "reference",
            transactions.iter().map(|transaction| transaction.reference),
        )
        .every_text("actor", actor)
        .every_number("at_ms", now.0)
        .every_uuid("log_batch", draft.id());
    let entries = Rows::new()
        .uuids("tx_id", lines.iter().map(|(id, ..)| *id))
        .numbers("line", lines.iter().map(|(_, line, ..)| *line))
        .texts("account", lines.iter().map(|(_, _, account, _)| account))
        .numbers("amount", lines.iter().map(|(.., amount)| amount.nanos()));
    Ok([(TRANSACTIONS, headers), (ENTRIES, entries)])
}
