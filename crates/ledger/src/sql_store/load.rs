//! Reading the rows that a batch touches, under lock.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Amount, KeyId, LotId, RequestId, TenantId, clock::UnixMs, request::Reason};
use sea_orm::QueryResult;
use smallvec::SmallVec;
use store::{StoreError, Tx, bulk::Rows};
use uuid::Uuid;

use crate::{
    batch::{Batch, Item, Locking},
    chart::LotKind,
    items::{BudgetKey, ChargeRow, ChargeState, OpenHold},
    rules::{Balance, Book, Budget, Lot},
};

const BALANCES: &str = "SELECT tenant_id, available, held, debt, version FROM acct \
     WHERE tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY tenant_id {for_update}";
const BALANCES_NOT_LOCKED: &str = "SELECT tenant_id, available, held, debt, version FROM acct \
     WHERE tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY tenant_id {for_update_skip_locked}";
const KNOWN_TENANTS: &str = "SELECT tenant_id FROM acct WHERE tenant_id IN (SELECT r.tenant_id FROM {rows})";
const BUDGETS: &str = "SELECT b.scope, b.period_start_ms, b.limit_amount, b.used, b.held FROM budget b \
     WHERE (b.scope, b.period_start_ms) IN (SELECT r.scope, r.period_start_ms FROM {rows}) \
     ORDER BY b.scope, b.period_start_ms {for_update}";
const LOTS: &str = "SELECT id, tenant_id, kind, remaining, expires_at_ms FROM lot \
     WHERE remaining > 0 AND tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY id {for_update}";
const HOLDS: &str = "SELECT request_id, tenant_id, key_id, amount, budgets_json, price_version, provider, \
     provider_estimate FROM hold WHERE request_id IN (SELECT r.request_id FROM {rows}) ORDER BY request_id {for_update}";
const CHARGES: &str = "SELECT request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, \
     unbilled, price_version, tx_id FROM charge WHERE request_id IN (SELECT r.request_id FROM {rows})";

/// The book of a batch, and the tenants that were left out because somebody else holds their lock.
pub async fn load_book(tx: &Tx, batch: &Batch, locking: Locking) -> Result<(Book, BTreeSet<TenantId>), StoreError> {
    let mut book = Book::default();
    let tenants = distinct(batch.items.iter().map(Item::tenant));
    load_balances(tx, &tenants, locking, &mut book).await?;
    let locked = match locking {
        Locking::Wait => BTreeSet::new(),
        Locking::SkipLocked => left_out(tx, &tenants, &book).await?,
    };
    // whoever has locked an account has locked its budgets, lots and holds too: waiting for them would fail the batch
    let items: Vec<&Item> = batch
        .items
        .iter()
        .filter(|item| !locked.contains(&item.tenant()))
        .collect();
    let requests = distinct(items.iter().map(|item| item.request()));
    let request_rows = Rows::new().uuids("request_id", requests.iter().map(RequestId::as_uuid));
    load_budgets(tx, &items, &request_rows, &mut book).await?;
    load_lots(tx, &items, &mut book).await?;
    load_holds(tx, &request_rows, &mut book).await?;
    for row in tx.query_rows(CHARGES, &request_rows).await? {
        let charge = read_charge(&row)?;
        book.charges.insert(charge.request, charge);
    }
    Ok((book, locked))
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> BTreeSet<T> {
    values.collect()
}

fn tenant_rows<'a>(tenants: impl IntoIterator<Item = &'a TenantId>) -> Rows {
    Rows::new().uuids("tenant_id", tenants.into_iter().map(TenantId::as_uuid))
}

async fn load_balances(
    tx: &Tx,
    tenants: &BTreeSet<TenantId>,
    locking: Locking,
    book: &mut Book,
) -> Result<(), StoreError> {
    let sql = match locking {
        Locking::Wait => BALANCES,
        Locking::SkipLocked => BALANCES_NOT_LOCKED,
    };
    for row in tx.query_rows(sql, &tenant_rows(tenants)).await? {
        let balance = Balance {
            available: amount(&row, "available")?,
            held: amount(&row, "held")?,
            debt: amount(&row, "debt")?,
        };
        book.versions.insert(tenant(&row)?, row.try_get("", "version")?);
        book.balances.insert(tenant(&row)?, balance);
    }
    Ok(())
}

async fn left_out(tx: &Tx, tenants: &BTreeSet<TenantId>, book: &Book) -> Result<BTreeSet<TenantId>, StoreError> {
    let known = tx.query_rows(KNOWN_TENANTS, &tenant_rows(tenants)).await?;
    let known: Vec<TenantId> = known.iter().map(tenant).collect::<Result<_, _>>()?;
    Ok(known.into_iter().filter(|id| !book.balances.contains_key(id)).collect())
}

/// Budgets that holds of the batch claim, and those of open holds that the batch closes.
async fn load_budgets(tx: &Tx, items: &[&Item], requests: &Rows, book: &mut Book) -> Result<(), StoreError> {
    let mut keys: BTreeSet<BudgetKey> = items
        .iter()
        .filter_map(|item| match item {
            Item::Hold(hold) => Some(hold.budgets.iter().map(|claim| claim.key)),
            Item::Progress(_) | Item::Close(_) => None,
        })
        .flatten()
        .collect();
    // which budgets a hold named never changes, so this may be read before the hold itself is locked
    const NAMED: &str = "SELECT budgets_json FROM hold \
         WHERE budgets_json <> '[]' AND request_id IN (SELECT r.request_id FROM {rows})";
    for row in tx.query_rows(NAMED, requests).await? {
        keys.extend(budget_keys(&row)?);
    }
    let rows = Rows::new()
        .uuids("scope", keys.iter().map(|key| key.scope))
        .numbers("period_start_ms", keys.iter().map(|key| key.period_start.0));
    for row in tx.query_rows(BUDGETS, &rows).await? {
        let key = BudgetKey {
            scope: row.try_get("", "scope")?,
            period_start: UnixMs(row.try_get("", "period_start_ms")?),
        };
        let budget = Budget {
            limit: amount(&row, "limit_amount")?,
            used: amount(&row, "used")?,
            held: amount(&row, "held")?,
        };
        book.budgets.insert(key, budget);
    }
    Ok(())
}

/// Lots are drawn on by closings only.
async fn load_lots(tx: &Tx, items: &[&Item], book: &mut Book) -> Result<(), StoreError> {
    let paying = distinct(items.iter().filter_map(|item| match item {
        Item::Close(closing) => Some(closing.tenant),
        Item::Hold(_) | Item::Progress(_) => None,
    }));
    let mut lots: BTreeMap<TenantId, Vec<Lot>> = BTreeMap::new();
    for row in tx.query_rows(LOTS, &tenant_rows(&paying)).await? {
        let kind: String = row.try_get("", "kind")?;
        let expires_at: Option<i64> = row.try_get("", "expires_at_ms")?;
        lots.entry(tenant(&row)?).or_default().push(Lot {
            id: LotId::from_uuid(row.try_get("", "id")?),
            kind: LotKind::parse(&kind).ok_or_else(|| StoreError::damaged("lot.kind"))?,
            remaining: amount(&row, "remaining")?,
            expires_at: expires_at.map(UnixMs),
        });
    }
    book.lots = lots;
    Ok(())
}

async fn load_holds(tx: &Tx, requests: &Rows, book: &mut Book) -> Result<(), StoreError> {
    for row in tx.query_rows(HOLDS, requests).await? {
        let hold = read_hold(&row)?;
        book.holds.insert(hold.request, hold);
    }
    Ok(())
}

/// One row of `hold`.
pub fn read_hold(row: &QueryResult) -> Result<OpenHold, StoreError> {
    Ok(OpenHold {
        request: request(row)?,
        tenant: tenant(row)?,
        key: KeyId::from_uuid(row.try_get("", "key_id")?),
        amount: amount(row, "amount")?,
        budgets: budget_keys(row)?,
        price_version: row.try_get("", "price_version")?,
        provider: row.try_get("", "provider")?,
        provider_estimate: amount(row, "provider_estimate")?,
    })
}

/// One row of `charge`.
pub fn read_charge(row: &QueryResult) -> Result<ChargeRow, StoreError> {
    let state: String = row.try_get("", "state")?;
    let reason: String = row.try_get("", "reason")?;
    let transaction: Option<Uuid> = row.try_get("", "tx_id")?;
    Ok(ChargeRow {
        request: request(row)?,
        tenant: tenant(row)?,
        key: KeyId::from_uuid(row.try_get("", "key_id")?),
        state: ChargeState::parse(&state).ok_or_else(|| StoreError::damaged("charge.state"))?,
        reason: reason
            .parse::<Reason>()
            .map_err(|_| StoreError::damaged("charge.reason"))?,
        held: amount(row, "held")?,
        amount: amount(row, "amount")?,
        overrun: amount(row, "overrun")?,
        provider_cost: amount(row, "provider_cost")?,
        unbilled: amount(row, "unbilled")?,
        price_version: row.try_get("", "price_version")?,
        transaction,
    })
}

fn budget_keys(row: &QueryResult) -> Result<SmallVec<[BudgetKey; 2]>, StoreError> {
    let text: String = row.try_get("", "budgets_json")?;
    serde_json::from_str::<Vec<BudgetKey>>(&text)
        .map(SmallVec::from_vec)
        .map_err(|_| StoreError::damaged("hold.budgets_json"))
}

fn amount(row: &QueryResult, column: &str) -> Result<Amount, StoreError> {
    Ok(Amount::from_nanos(row.try_get("", column)?))
}

fn tenant(row: &QueryResult) -> Result<TenantId, StoreError> {
    Ok(TenantId::from_uuid(row.try_get("", "tenant_id")?))
}

/// The request that a row is about.
pub fn request(row: &QueryResult) -> Result<RequestId, StoreError> {
    Ok(RequestId::from_uuid(row.try_get("", "request_id")?))
}

/// The lookups by key, with the column that they are given, for whoever asks how they are carried out.
#[cfg(test)]
pub const LOOKUPS: [(&str, &str); 6] = [
    ("tenant_id", BALANCES),
    ("tenant_id", BALANCES_NOT_LOCKED),
    ("tenant_id", KNOWN_TENANTS),
    ("tenant_id", LOTS),
    ("request_id", HOLDS),
    ("request_id", CHARGES),
];
