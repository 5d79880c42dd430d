//! Writing what a batch changed, a statement per table.

use domain::{Amount, TenantId, clock::UnixMs};
use store::{StoreError, Tx, bulk::Rows};

use crate::{
    items::{BudgetKey, ChargeRow, OpenHold},
    posting::Transaction,
    rules::{Balance, BatchName, Book, Budget},
};

const BALANCES: &str = "UPDATE acct SET available = r.available, held = r.held, version = acct.version + 1 \
     FROM {rows} WHERE acct.tenant_id = r.tenant_id";
const BUDGETS: &str = "INSERT INTO budget (scope, period_start_ms, limit_amount, used, held) \
     SELECT r.scope, r.period_start_ms, r.limit_amount, r.used, r.held FROM {rows} WHERE TRUE \
     ON CONFLICT (scope, period_start_ms) DO UPDATE SET limit_amount = excluded.limit_amount, \
     used = excluded.used, held = excluded.held";
const LOTS: &str = "UPDATE lot SET remaining = r.remaining FROM {rows} WHERE lot.id = r.id";
const OPENED: &str = "INSERT INTO hold (request_id, tenant_id, key_id, node_id, boot, amount, budgets_json, \
     price_version, provider, provider_estimate, created_at_ms) \
     SELECT r.request_id, r.tenant_id, r.key_id, r.node_id, r.boot, r.amount, r.budgets_json, r.price_version, \
     r.provider, r.provider_estimate, r.created_at_ms FROM {rows}";
const PROGRESSED: &str =
    "UPDATE hold SET progress_json = r.progress_json FROM {rows} WHERE hold.request_id = r.request_id";
const CLOSED: &str = "DELETE FROM hold WHERE request_id IN (SELECT r.request_id FROM {rows})";
const CHARGED: &str = "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, \
     provider_cost, unbilled, price_version, tx_id, closed_at_ms) \
     SELECT r.request_id, r.tenant_id, r.key_id, r.state, r.reason, r.held, r.amount, r.overrun, r.provider_cost, \
     r.unbilled, r.price_version, r.tx_id, r.closed_at_ms FROM {rows}";
const TRANSACTIONS: &str = "INSERT INTO tx (id, kind, tenant_id, reference, actor, at_ms) \
     SELECT r.id, r.kind, r.tenant_id, r.reference, r.actor, r.at_ms FROM {rows}";
const ENTRIES: &str = "INSERT INTO entry (tx_id, line, account, amount) \
     SELECT r.tx_id, r.line, r.account, r.amount FROM {rows}";
const KNOWN_TRANSACTIONS: &str = "SELECT id FROM tx WHERE id IN (SELECT r.id FROM {rows})";

/// Who writes the transactions of batches.
pub const WRITER: &str = "system:ledger-writer";

/// Writes everything that the batch changed. Answers the late costs that were not booked before.
pub async fn save_changes(tx: &Tx, name: &BatchName, book: &Book, now: UnixMs) -> Result<Vec<Transaction>, StoreError> {
    save_balances(tx, book).await?;
    save_budgets(tx, book).await?;
    let lots = &book.changes.lots;
    let rows = Rows::new()
        .uuids("id", lots.keys().map(|lot| lot.as_uuid()))
        .numbers("remaining", lots.values().map(|left| left.nanos()));
    tx.execute_rows(LOTS, &rows).await?;
    save_holds(tx, name, book, now).await?;
    let mut transactions = batch_transactions(name, book);
    let late = unknown_late_costs(tx, book).await?;
    transactions.extend(late.iter().cloned());
    write_transactions(tx, WRITER, &transactions, now).await?;
    save_charges(tx, book, now).await?;
    Ok(late)
}

async fn save_balances(tx: &Tx, book: &Book) -> Result<(), StoreError> {
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
        .numbers("held", touched.iter().map(|(_, balance)| balance.held.nanos()));
    tx.execute_rows(BALANCES, &rows).await?;
    Ok(())
}

async fn save_budgets(tx: &Tx, book: &Book) -> Result<(), StoreError> {
    let touched: Vec<(BudgetKey, Budget)> = book
        .changes
        .budgets
        .iter()
        .filter_map(|key| Some((*key, *book.budgets.get(key)?)))
        .collect();
    let rows = Rows::new()
        .uuids("scope", touched.iter().map(|(key, _)| key.scope))
        .numbers("period_start_ms", touched.iter().map(|(key, _)| key.period_start.0))
        .numbers("limit_amount", touched.iter().map(|(_, budget)| budget.limit.nanos()))
        .numbers("used", touched.iter().map(|(_, budget)| budget.used.nanos()))
        .numbers("held", touched.iter().map(|(_, budget)| budget.held.nanos()));
    tx.execute_rows(BUDGETS, &rows).await?;
    Ok(())
}

async fn save_holds(tx: &Tx, name: &BatchName, book: &Book, now: UnixMs) -> Result<(), StoreError> {
    let opened: Vec<&OpenHold> = book
        .changes
        .opened
        .iter()
        .filter_map(|request| book.holds.get(request))
        .collect();
    let budgets = opened
        .iter()
        .map(|hold| serde_json::to_string(hold.budgets.as_slice()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| StoreError::damaged("budgets of a hold"))?;
    let rows = Rows::new()
        .uuids("request_id", opened.iter().map(|hold| hold.request.as_uuid()))
        .uuids("tenant_id", opened.iter().map(|hold| hold.tenant.as_uuid()))
        .uuids("key_id", opened.iter().map(|hold| hold.key.as_uuid()))
        .uuids("node_id", opened.iter().map(|_| name.node))
        .uuids("boot", opened.iter().map(|_| name.boot))
        .numbers("amount", opened.iter().map(|hold| hold.amount.nanos()))
        .texts("budgets_json", budgets)
        .numbers("price_version", opened.iter().map(|hold| hold.price_version))
        .texts("provider", opened.iter().map(|hold| hold.provider.clone()))
        .numbers(
            "provider_estimate",
            opened.iter().map(|hold| hold.provider_estimate.nanos()),
        )
        .numbers("created_at_ms", opened.iter().map(|_| now.0));
    tx.execute_rows(OPENED, &rows).await?;
    save_progress(tx, book).await?;
    let closed = Rows::new().uuids(
        "request_id",
        book.changes.closed.iter().map(|request| request.as_uuid()),
    );
    tx.execute_rows(CLOSED, &closed).await?;
    Ok(())
}

/// A hold that opens and progresses in one batch is inserted first.
async fn save_progress(tx: &Tx, book: &Book) -> Result<(), StoreError> {
    let progressed = &book.changes.progressed;
    let texts = progressed
        .values()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| StoreError::damaged("progress of a hold"))?;
    let rows = Rows::new()
        .uuids("request_id", progressed.keys().map(|request| request.as_uuid()))
        .texts("progress_json", texts);
    tx.execute_rows(PROGRESSED, &rows).await?;
    Ok(())
}

async fn save_charges(tx: &Tx, book: &Book, now: UnixMs) -> Result<(), StoreError> {
    let charged: Vec<&ChargeRow> = book
        .changes
        .charged
        .iter()
        .filter_map(|request| book.charges.get(request))
        .collect();
    let number = |field: fn(&ChargeRow) -> Amount| charged.iter().map(move |row| field(row).nanos());
    let rows = Rows::new()
        .uuids("request_id", charged.iter().map(|row| row.request.as_uuid()))
        .uuids("tenant_id", charged.iter().map(|row| row.tenant.as_uuid()))
        .uuids("key_id", charged.iter().map(|row| row.key.as_uuid()))
        .texts("state", charged.iter().map(|row| row.state.as_str().to_owned()))
        .texts("reason", charged.iter().map(|row| row.reason.as_str().to_owned()))
        .numbers("held", number(|row| row.held))
        .numbers("amount", number(|row| row.amount))
        .numbers("overrun", number(|row| row.overrun))
        .numbers("provider_cost", number(|row| row.provider_cost))
        .numbers("unbilled", number(|row| row.unbilled))
        .numbers("price_version", charged.iter().map(|row| row.price_version))
        .optional_uuids("tx_id", charged.iter().map(|row| row.transaction))
        .numbers("closed_at_ms", charged.iter().map(|_| now.0));
    tx.execute_rows(CHARGED, &rows).await?;
    Ok(())
}

fn batch_transactions(name: &BatchName, book: &Book) -> Vec<Transaction> {
    let reference = format!("batch:{}:{}:{}", name.node, name.boot, name.number);
    let usage = book.changes.usage.iter().map(|(tenant, posting)| Transaction {
        id: name.usage_id(*tenant),
        kind: "usage",
        tenant: Some(*tenant),
        reference: reference.clone(),
        posting: posting.clone(),
    });
    let operator = Transaction {
        id: name.operator_id(),
        kind: "operator_cost",
        tenant: None,
        reference: reference.clone(),
        posting: book.changes.operator.clone(),
    };
    usage
        .chain(std::iter::once(operator))
        .filter(|transaction| !transaction.posting.is_empty())
        .collect()
}

/// A late cost is booked once: its id is made of what caused it.
async fn unknown_late_costs(tx: &Tx, book: &Book) -> Result<Vec<Transaction>, StoreError> {
    let late = &book.changes.late;
    let rows = Rows::new().uuids("id", late.iter().map(|transaction| transaction.id));
    let mut known: Vec<uuid::Uuid> = tx
        .query_rows(KNOWN_TRANSACTIONS, &rows)
        .await?
        .iter()
        .map(|row| row.try_get("", "id"))
        .collect::<Result<_, _>>()?;
    let mut unknown = Vec::new();
    for transaction in late {
        if !known.contains(&transaction.id) {
            known.push(transaction.id);
            unknown.push(transaction.clone());
        }
    }
    Ok(unknown)
}

/// Inserts transactions with their entries. Each is checked to balance before anything is sent.
pub async fn write_transactions(
    tx: &Tx,
    actor: &str,
    transactions: &[Transaction],
    now: UnixMs,
) -> Result<(), StoreError> {
    let mut lines = Vec::new();
    for transaction in transactions {
        let entries = transaction
            .posting
            .entries()
            .map_err(|error| StoreError::damaged(error.to_string()))?;
        let numbered = (1_i64..).zip(entries);
        lines.extend(numbered.map(|(line, (account, amount))| (transaction.id, line, account, amount)));
    }
    let rows = Rows::new()
        .uuids("id", transactions.iter().map(|transaction| transaction.id))
        .texts(
            "kind",
            transactions.iter().map(|transaction| transaction.kind.to_owned()),
        )
        .optional_uuids(
            "tenant_id",
            transactions.iter().map(|t| t.tenant.map(|id| id.as_uuid())),
        )
        .texts(
            "reference",
            transactions.iter().map(|transaction| transaction.reference.clone()),
        )
        .texts("actor", transactions.iter().map(|_| actor.to_owned()))
        .numbers("at_ms", transactions.iter().map(|_| now.0));
    tx.execute_rows(TRANSACTIONS, &rows).await?;
    let rows = Rows::new()
        .uuids("tx_id", lines.iter().map(|(id, ..)| *id))
        .numbers("line", lines.iter().map(|(_, line, ..)| *line))
        .texts("account", lines.iter().map(|(_, _, account, _)| account.clone()))
        .numbers("amount", lines.iter().map(|(.., amount)| amount.nanos()));
    tx.execute_rows(ENTRIES, &rows).await?;
    Ok(())
}
