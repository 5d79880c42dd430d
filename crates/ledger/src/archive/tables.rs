//! The SQL of a replay: rows are written as they were. What is written once is inserted if it is absent.

use std::collections::BTreeMap;

use store::{StoreError, Tx, bulk::Rows};
use uuid::Uuid;

use super::{
    fold::{Fold, Replayed},
    record::Standing,
    rules::Position,
};

const POSITIONS: &str = "SELECT tenant_id, available, held, debt, version FROM acct \
     WHERE tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY tenant_id {for_update}";
const NEW_ACCOUNTS: &str = "INSERT INTO acct (tenant_id, available, held, debt, version) \
     SELECT r.tenant_id, r.available, r.held, r.debt, r.version FROM {rows}";
const ACCOUNTS: &str = "UPDATE acct SET available = r.available, held = r.held, debt = r.debt, version = r.version \
     FROM {rows} WHERE acct.tenant_id = r.tenant_id";
const CLAIMED: &str = "UPDATE acct SET claimed = r.claimed FROM {rows} WHERE acct.tenant_id = r.tenant_id";
const NO_CLAIMS: &str = "DELETE FROM claim WHERE tenant_id IN (SELECT r.tenant_id FROM {rows})";
const CLAIMS: &str = "INSERT INTO claim (lot_id, purpose, tenant_id, amount, reference, created_at_ms) \
     SELECT r.lot_id, r.purpose, r.tenant_id, r.amount, r.reference, r.created_at_ms FROM {rows}";
const NEW_LOTS: &str = "INSERT INTO lot (id, tenant_id, kind, granted, remaining, expires_at_ms, created_at_ms) \
     SELECT r.id, r.tenant_id, r.kind, r.granted, r.remaining, NULLIF(r.expires_at_ms, -1), r.created_at_ms FROM {rows}";
const LOTS: &str = "UPDATE lot SET remaining = r.remaining FROM {rows} WHERE lot.id = r.id";
const BUDGETS: &str = "INSERT INTO budget (scope, period_start_ms, limit_amount, used, held) \
     SELECT r.scope, r.period_start_ms, r.limit_amount, r.used, r.held FROM {rows} WHERE TRUE \
     ON CONFLICT (scope, period_start_ms) DO UPDATE SET limit_amount = excluded.limit_amount, \
     used = excluded.used, held = excluded.held";
const HOLDS: &str = "INSERT INTO hold (request_id, tenant_id, key_id, node_id, boot, amount, budgets_json, \
     price_version, provider, provider_estimate, created_at_ms, progress_json, progress_amount) \
     SELECT r.request_id, r.tenant_id, r.key_id, r.node_id, r.boot, r.amount, r.budgets_json, r.price_version, \
     r.provider, r.provider_estimate, r.created_at_ms, r.progress_json, r.progress_amount FROM {rows}";
/// Progress does not say whether it is in the database. It is cumulative, so what is less than is known is older.
const PROGRESS: &str = "UPDATE hold SET progress_json = r.progress_json, progress_amount = r.progress_amount \
     FROM {rows} WHERE hold.request_id = r.request_id AND hold.progress_amount <= r.progress_amount";
const CLOSED: &str = "DELETE FROM hold WHERE request_id IN (SELECT r.request_id FROM {rows})";
const CHARGES: &str = "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, \
     provider_cost, unbilled, price_version, tx_id, closed_at_ms, log_batch) \
     SELECT r.request_id, r.tenant_id, r.key_id, r.state, r.reason, r.held, r.amount, r.overrun, r.provider_cost, \
     r.unbilled, r.price_version, r.tx_id, r.closed_at_ms, r.log_batch FROM {rows} WHERE TRUE ON CONFLICT (request_id) DO NOTHING";
const TRANSACTIONS: &str = "INSERT INTO tx (id, kind, tenant_id, reference, actor, at_ms, log_batch) \
     SELECT r.id, r.kind, r.tenant_id, r.reference, r.actor, r.at_ms, r.log_batch FROM {rows} WHERE TRUE ON CONFLICT (id) DO NOTHING";
const ENTRIES: &str = "INSERT INTO entry (tx_id, line, account, amount) \
     SELECT r.tx_id, r.line, r.account, r.amount FROM {rows} WHERE TRUE ON CONFLICT (tx_id, line) DO NOTHING";
const BOOT: &str = "INSERT INTO node (id, boot, batch_no, last_commit_at_ms) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (id, boot) DO UPDATE SET batch_no = excluded.batch_no, last_commit_at_ms = excluded.last_commit_at_ms \
     WHERE node.batch_no < excluded.batch_no";

/// Where tenants' accounts stand, locked.
pub async fn positions(tx: &Tx, tenants: impl Iterator<Item = Uuid>) -> Result<BTreeMap<Uuid, Position>, StoreError> {
    let rows = Rows::new().uuids("tenant_id", tenants);
    let found = tx.query_rows(POSITIONS, &rows).await?;
    let read = found.iter().map(|row| {
        let standing = Standing {
            available: row.try_get("", "available")?,
            held: row.try_get("", "held")?,
            debt: row.try_get("", "debt")?,
        };
        let version = row.try_get("", "version")?;
        Ok((row.try_get("", "tenant_id")?, Position { version, standing }))
    });
    read.collect()
}

/// Writes everything that is in a fold but the request log's records.
pub async fn write(tx: &Tx, fold: &Fold) -> Result<(), StoreError> {
    write_accounts(tx, fold).await?;
    write_lots(tx, fold).await?;
    write_claims(tx, fold).await?;
    write_budgets(tx, fold).await?;
    write_holds(tx, fold).await?;
    write_transactions(tx, &fold.transactions).await?;
    write_charges(tx, fold).await
}

async fn write_accounts(tx: &Tx, fold: &Fold) -> Result<(), StoreError> {
    for (sql, is_new) in [(NEW_ACCOUNTS, true), (ACCOUNTS, false)] {
        let accounts: Vec<_> = fold
            .accounts
            .iter()
            .filter(|(_, account)| account.is_new == is_new)
            .collect();
        let number = |field: fn(&Position) -> i64| accounts.iter().map(move |(_, account)| field(&account.position));
        let rows = Rows::new()
            .uuids("tenant_id", accounts.iter().map(|(tenant, _)| **tenant))
            .numbers("available", number(|position| position.standing.available))
            .numbers("held", number(|position| position.standing.held))
            .numbers("debt", number(|position| position.standing.debt))
            .numbers("version", number(|position| position.version));
        tx.execute_rows(sql, &rows).await?;
    }
    Ok(())
}

async fn write_lots(tx: &Tx, fold: &Fold) -> Result<(), StoreError> {
    let lots: Vec<_> = fold.granted.values().collect();
    let rows = Rows::new()
        .uuids("id", lots.iter().map(|(_, lot)| lot.id))
        .uuids("tenant_id", lots.iter().map(|(tenant, _)| *tenant))
        .texts("kind", lots.iter().map(|(_, lot)| &lot.kind))
        .numbers("granted", lots.iter().map(|(_, lot)| lot.granted))
        .numbers("remaining", lots.iter().map(|(_, lot)| lot.remaining))
        .numbers(
            "expires_at_ms",
            lots.iter().map(|(_, lot)| lot.expires_at_ms.unwrap_or(-1)),
        )
        .numbers("created_at_ms", lots.iter().map(|(_, lot)| lot.created_at_ms));
    tx.execute_rows(NEW_LOTS, &rows).await?;
    let rows = Rows::new()
        .uuids("id", fold.drawn.keys().copied())
        .numbers("remaining", fold.drawn.values().copied());
    tx.execute_rows(LOTS, &rows).await?;
    Ok(())
}

async fn write_claims(tx: &Tx, fold: &Fold) -> Result<(), StoreError> {
    let sums = fold
        .claims
        .values()
        .map(|claims| claims.iter().map(|claim| claim.amount).sum());
    let tenants = Rows::new()
        .uuids("tenant_id", fold.claims.keys().copied())
        .numbers("claimed", sums);
    tx.execute_rows(CLAIMED, &tenants).await?;
    tx.execute_rows(NO_CLAIMS, &tenants).await?;
    let claims: Vec<_> = fold
        .claims
        .iter()
        .flat_map(|(tenant, claims)| claims.iter().map(move |claim| (tenant, claim)))
        .collect();
    let rows = Rows::new()
        .uuids("lot_id", claims.iter().map(|(_, claim)| claim.lot))
        .texts("purpose", claims.iter().map(|(_, claim)| &claim.purpose))
        .uuids("tenant_id", claims.iter().map(|(tenant, _)| **tenant))
        .numbers("amount", claims.iter().map(|(_, claim)| claim.amount))
        .texts("reference", claims.iter().map(|(_, claim)| &claim.reference))
        .numbers("created_at_ms", claims.iter().map(|(_, claim)| claim.created_at_ms));
    tx.execute_rows(CLAIMS, &rows).await?;
    Ok(())
}

async fn write_budgets(tx: &Tx, fold: &Fold) -> Result<(), StoreError> {
    let budgets: Vec<_> = fold.budgets.values().collect();
    let rows = Rows::new()
        .uuids("scope", budgets.iter().map(|budget| budget.scope))
        .numbers("period_start_ms", budgets.iter().map(|budget| budget.period_start_ms))
        .numbers("limit_amount", budgets.iter().map(|budget| budget.limit))
        .numbers("used", budgets.iter().map(|budget| budget.used))
        .numbers("held", budgets.iter().map(|budget| budget.held));
    tx.execute_rows(BUDGETS, &rows).await?;
    Ok(())
}

async fn write_holds(tx: &Tx, fold: &Fold) -> Result<(), StoreError> {
    let holds: Vec<_> = fold.opened.values().collect();
    let rows = Rows::new()
        .uuids("request_id", holds.iter().map(|hold| hold.row.request))
        .uuids("tenant_id", holds.iter().map(|hold| hold.tenant))
        .uuids("key_id", holds.iter().map(|hold| hold.row.key))
        .uuids("node_id", holds.iter().map(|hold| hold.author.node))
        .uuids("boot", holds.iter().map(|hold| hold.author.boot))
        .numbers("amount", holds.iter().map(|hold| hold.row.amount))
        .texts("budgets_json", holds.iter().map(|hold| &hold.row.budgets_json))
        .numbers("price_version", holds.iter().map(|hold| hold.row.price_version))
        .texts("provider", holds.iter().map(|hold| &hold.row.provider))
        .numbers("provider_estimate", holds.iter().map(|hold| hold.row.provider_estimate))
        .numbers("created_at_ms", holds.iter().map(|hold| hold.at_ms))
        .texts("progress_json", holds.iter().map(|hold| &hold.progress.text))
        .numbers("progress_amount", holds.iter().map(|hold| hold.progress.amount));
    tx.execute_rows(HOLDS, &rows).await?;
    let progressed = &fold.progressed;
    let rows = Rows::new()
        .uuids("request_id", progressed.keys().copied())
        .texts("progress_json", progressed.values().map(|progress| &progress.text))
        .numbers("progress_amount", progressed.values().map(|progress| progress.amount));
    tx.execute_rows(PROGRESS, &rows).await?;
    let rows = Rows::new().uuids("request_id", fold.closed.iter().copied());
    tx.execute_rows(CLOSED, &rows).await?;
    Ok(())
}

async fn write_charges(tx: &Tx, fold: &Fold) -> Result<(), StoreError> {
    let charges = &fold.charges;
    let rows = Rows::new()
        .uuids("request_id", charges.iter().map(|charge| charge.row.request))
        .uuids("tenant_id", charges.iter().map(|charge| charge.tenant))
        .uuids("key_id", charges.iter().map(|charge| charge.row.key))
        .texts("state", charges.iter().map(|charge| &charge.row.state))
        .texts("reason", charges.iter().map(|charge| &charge.row.reason))
        .numbers("held", charges.iter().map(|charge| charge.row.held))
        .numbers("amount", charges.iter().map(|charge| charge.row.amount))
        .numbers("overrun", charges.iter().map(|charge| charge.row.overrun))
        .numbers("provider_cost", charges.iter().map(|charge| charge.row.provider_cost))
        .numbers("unbilled", charges.iter().map(|charge| charge.row.unbilled))
        .numbers("price_version", charges.iter().map(|charge| charge.row.price_version))
        .optional_uuids("tx_id", charges.iter().map(|charge| charge.transaction))
        .numbers("closed_at_ms", charges.iter().map(|charge| charge.at_ms))
        .optional_uuids("log_batch", charges.iter().map(|charge| charge.log_batch));
    tx.execute_rows(CHARGES, &rows).await?;
    Ok(())
}

/// Inserts transactions that are not there.
pub async fn write_transactions(tx: &Tx, transactions: &[Replayed]) -> Result<(), StoreError> {
    let each = || transactions.iter().map(|replayed| &replayed.row);
    let rows = Rows::new()
        .uuids("id", each().map(|row| row.id))
        .texts("kind", each().map(|row| &row.kind))
        .optional_uuids("tenant_id", each().map(|row| row.tenant))
        .texts("reference", each().map(|row| &row.reference))
        .texts("actor", each().map(|row| &row.actor))
        .numbers("at_ms", each().map(|row| row.at_ms))
        .uuids("log_batch", transactions.iter().map(|replayed| replayed.log_batch));
    tx.execute_rows(TRANSACTIONS, &rows).await?;
    let mut lines = Vec::new();
    for row in each() {
        let numbered = (1_i64..).zip(&row.entries);
        lines.extend(numbered.map(|(line, (account, amount))| (row.id, line, account, *amount)));
    }
    let rows = Rows::new()
        .uuids("tx_id", lines.iter().map(|(id, ..)| *id))
        .numbers("line", lines.iter().map(|(_, line, ..)| *line))
        .texts("account", lines.iter().map(|(_, _, account, _)| account))
        .numbers("amount", lines.iter().map(|(.., amount)| *amount));
    tx.execute_rows(ENTRIES, &rows).await?;
    Ok(())
}

/// The number of a boot's last batch; `None` for a boot that is not known.
pub async fn last_batch(tx: &Tx, node: Uuid, boot: Uuid) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT batch_no FROM node WHERE id = $1 AND boot = $2";
    let rows = tx.query(sql, vec![node.into(), boot.into()]).await?;
    Ok(rows.first().map(|row| row.try_get("", "batch_no")).transpose()?)
}

/// Notes a boot's last batch, if it is later than the one that is known.
pub async fn note_boot(tx: &Tx, node: Uuid, boot: Uuid, batch: i64, at_ms: i64) -> Result<(), StoreError> {
    tx.execute(BOOT, vec![node.into(), boot.into(), batch.into(), at_ms.into()])
        .await?;
    Ok(())
}
