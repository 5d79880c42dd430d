//! Reading the rows that a batch touches, under lock, in two messages: the accounts first, and when their locks are
//! held everything else, so that it is seen as whoever held them before has left it.

use std::collections::{BTreeMap, BTreeSet};

use domain::{RequestId, TenantId};
use store::{
    StoreError, Tx,
    bulk::{Cells, Rows},
};

use super::rows::{
    budget_keys, read_balance_at, read_budget_at, read_charge_at, read_claim_at, read_hold_at, read_lot_at,
};
use crate::{
    batch::{Batch, Item, Locking},
    items::{BudgetKey, End},
    rules::{AccountAsRead, Book},
};

// First message. The columns that its queries share: an id, five numbers, a text.
const BALANCES: &str = "SELECT tenant_id, available, held, debt, claimed, version, CAST(NULL AS TEXT) FROM acct \
     WHERE tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY tenant_id {for_update}";
const BALANCES_NOT_LOCKED: &str = "SELECT tenant_id, available, held, debt, claimed, version, CAST(NULL AS TEXT) FROM acct \
     WHERE tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY tenant_id {for_update_skip_locked}";
/// Which budgets a hold named never changes, so this may be read before the hold itself is locked.
const NAMED_BUDGETS: &str = "SELECT request_id, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), \
     CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), budgets_json FROM hold WHERE budgets_json <> '[]' AND request_id IN (SELECT r.request_id FROM {rows})";
const BALANCE_COLUMNS: [usize; 5] = [0, 1, 2, 3, 4];
const VERSION_COLUMN: usize = 5;
const NAMED_BUDGETS_COLUMN: usize = 6;

const KNOWN_TENANTS: &str = "SELECT tenant_id FROM acct WHERE tenant_id IN (SELECT r.tenant_id FROM {rows})";

// Second message. The columns that its queries share: four ids, six numbers, two texts.
const BUDGETS: &str = "SELECT b.scope, CAST(NULL AS {uuid}), CAST(NULL AS {uuid}), CAST(NULL AS {uuid}), \
     b.period_start_ms, b.limit_amount, b.used, b.held, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), \
     CAST(NULL AS TEXT), CAST(NULL AS TEXT) FROM budget b \
     WHERE (b.scope, b.period_start_ms) IN (SELECT r.scope, r.period_start_ms FROM {rows}) \
     ORDER BY b.scope, b.period_start_ms {for_update}";
const BUDGET_COLUMNS: [usize; 5] = [0, 4, 5, 6, 7];
const LOTS: &str = "SELECT id, tenant_id, CAST(NULL AS {uuid}), CAST(NULL AS {uuid}), \
     remaining, expires_at_ms, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), \
     kind, CAST(NULL AS TEXT) FROM lot \
     WHERE NOT spent AND tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY id {for_update}";
const LOT_COLUMNS: [usize; 5] = [0, 1, 4, 5, 10];
const CLAIMS: &str = "SELECT lot_id, tenant_id, CAST(NULL AS {uuid}), CAST(NULL AS {uuid}), \
     amount, created_at_ms, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), \
     purpose, reference FROM claim \
     WHERE tenant_id IN (SELECT r.tenant_id FROM {rows}) ORDER BY lot_id, purpose {for_update}";
const CLAIM_COLUMNS: [usize; 5] = [0, 4, 5, 10, 11];
const HOLDS: &str = "SELECT request_id, tenant_id, key_id, CAST(NULL AS {uuid}), \
     amount, price_version, provider_estimate, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), \
     budgets_json, provider FROM hold \
     WHERE request_id IN (SELECT r.request_id FROM {rows}) ORDER BY request_id {for_update}";
const HOLD_COLUMNS: [usize; 8] = [0, 1, 2, 4, 5, 6, 10, 11];
const CHARGES: &str = "SELECT request_id, tenant_id, key_id, tx_id, \
     held, amount, overrun, provider_cost, unbilled, price_version, \
     state, reason FROM charge WHERE request_id IN (SELECT r.request_id FROM {rows})";
const CHARGE_COLUMNS: [usize; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

/// The book of a batch, and the tenants that were left out because somebody else holds their lock.
pub async fn load_book(tx: &Tx, batch: &Batch, locking: Locking) -> Result<(Book, BTreeSet<TenantId>), StoreError> {
    let mut book = Book::default();
    let tenants: BTreeSet<TenantId> = batch.items.iter().map(Item::tenant).collect();
    let named = load_balances(tx, batch, &tenants, locking, &mut book).await?;
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
    let requests: BTreeSet<RequestId> = items.iter().map(|item| item.request()).collect();
    let budgets = budgets_of(&items, &named, &requests);
    load_rest(tx, &items, &requests, &budgets, &mut book).await?;
    Ok((book, locked))
}

fn tenant_rows<'a>(tenants: impl IntoIterator<Item = &'a TenantId>) -> Rows {
    Rows::new().uuids("tenant_id", tenants.into_iter().map(TenantId::as_uuid))
}

fn request_rows(requests: impl IntoIterator<Item = RequestId>) -> Rows {
    Rows::new().uuids("request_id", requests.into_iter().map(|request| request.as_uuid()))
}

/// Locks the accounts. Answers which budgets the holds named that the batch ends.
async fn load_balances(
    tx: &Tx,
    batch: &Batch,
    tenants: &BTreeSet<TenantId>,
    locking: Locking,
    book: &mut Book,
) -> Result<BTreeMap<RequestId, Vec<BudgetKey>>, StoreError> {
    let balances = match locking {
        Locking::Wait => BALANCES,
        Locking::SkipLocked => BALANCES_NOT_LOCKED,
    };
    let ended = batch.items.iter().filter_map(|item| match item {
        Item::Close(closing) => Some(closing.request),
        Item::Hold(_) | Item::Progress(_) => None,
    });
    let (tenants, ended) = (tenant_rows(tenants), request_rows(ended));
    let mut named = BTreeMap::new();
    for (query, row) in tx
        .query_together(&[(balances, &tenants), (NAMED_BUDGETS, &ended)])
        .await?
    {
        if query == 0 {
            let (tenant, balance) = read_balance_at(&row, BALANCE_COLUMNS)?;
            book.balances.insert(tenant, balance);
            let version = row.number(VERSION_COLUMN)?;
            book.accounts.insert(tenant, AccountAsRead { version, balance });
        } else {
            let request = RequestId::from_uuid(row.uuid(0)?);
            named.insert(request, budget_keys(&row, NAMED_BUDGETS_COLUMN)?.into_vec());
        }
    }
    Ok(named)
}

async fn left_out(tx: &Tx, tenants: &BTreeSet<TenantId>, book: &Book) -> Result<BTreeSet<TenantId>, StoreError> {
    let mut locked = BTreeSet::new();
    for row in tx.query_rows(KNOWN_TENANTS, &tenant_rows(tenants)).await? {
        let tenant = TenantId::from_uuid(row.try_get_by_index(0)?);
        if !book.balances.contains_key(&tenant) {
            locked.insert(tenant);
        }
    }
    Ok(locked)
}

/// Budgets that holds of the batch claim, and those of open holds that the batch ends.
fn budgets_of(
    items: &[&Item],
    named: &BTreeMap<RequestId, Vec<BudgetKey>>,
    requests: &BTreeSet<RequestId>,
) -> BTreeSet<BudgetKey> {
    let claimed = items.iter().filter_map(|item| match item {
        Item::Hold(hold) => Some(hold.budgets.iter().map(|claim| claim.key)),
        Item::Progress(_) | Item::Close(_) => None,
    });
    let ended = named.iter().filter(|(request, _)| requests.contains(request));
    claimed
        .flatten()
        .chain(ended.flat_map(|(_, keys)| keys.iter().copied()))
        .collect()
}

async fn load_rest(
    tx: &Tx,
    items: &[&Item],
    requests: &BTreeSet<RequestId>,
    budgets: &BTreeSet<BudgetKey>,
    book: &mut Book,
) -> Result<(), StoreError> {
    let budgets = Rows::new()
        .uuids("scope", budgets.iter().map(|key| key.scope))
        .numbers("period_start_ms", budgets.iter().map(|key| key.period_start.0));
    let claimants = claimants(items, book);
    let paying: BTreeSet<TenantId> = paying(items).union(&claimants).copied().collect();
    let (paying, claimants) = (tenant_rows(&paying), tenant_rows(&claimants));
    let requests = request_rows(requests.iter().copied());
    let queries = [
        (BUDGETS, &budgets),
        (LOTS, &paying),
        (CLAIMS, &claimants),
        (HOLDS, &requests),
        (CHARGES, &requests),
    ];
    for (query, row) in tx.query_together(&queries).await? {
        match query {
            0 => {
                let (key, budget) = read_budget_at(&row, BUDGET_COLUMNS)?;
                book.budgets.insert(key, budget);
            }
            1 => {
                let (tenant, lot) = read_lot_at(&row, LOT_COLUMNS)?;
                book.lots.entry(tenant).or_default().push(lot);
            }
            2 => {
                let tenant = TenantId::from_uuid(row.uuid(1)?);
                let claim = read_claim_at(&row, CLAIM_COLUMNS)?;
                book.claims.entry(tenant).or_default().push(claim);
            }
            3 => {
                let hold = read_hold_at(&row, HOLD_COLUMNS)?;
                book.holds.insert(hold.request, hold);
            }
            _ => {
                let charge = read_charge_at(&row, CHARGE_COLUMNS)?;
                book.charges.insert(charge.request, charge);
            }
        }
    }
    Ok(())
}

/// Ends serve claims, and hardly any tenant has one: its account says so.
fn claimants(items: &[&Item], book: &Book) -> BTreeSet<TenantId> {
    let ended = items.iter().filter(|item| matches!(item, Item::Close(_)));
    let is_claimed = |tenant: &TenantId| book.balances.get(tenant).is_some_and(|found| !found.claimed.is_zero());
    ended.map(|item| item.tenant()).filter(is_claimed).collect()
}

/// Lots are drawn on by ends that charge something only, if there is no claim.
fn paying(items: &[&Item]) -> BTreeSet<TenantId> {
    let charged = items.iter().filter_map(|item| match item {
        Item::Close(closing) => match &closing.end {
            End::Settle(settled) if !settled.amount().is_zero() => Some(closing.tenant),
            _ => None,
        },
        Item::Hold(_) | Item::Progress(_) => None,
    });
    charged.collect()
}

/// The lookups by key, with the column that they are given, for whoever asks how they are carried out.
#[cfg(test)]
pub const LOOKUPS: [(&str, &str); 8] = [
    ("tenant_id", BALANCES),
    ("tenant_id", BALANCES_NOT_LOCKED),
    ("request_id", NAMED_BUDGETS),
    ("tenant_id", KNOWN_TENANTS),
    ("tenant_id", LOTS),
    ("tenant_id", CLAIMS),
    ("request_id", HOLDS),
    ("request_id", CHARGES),
];
