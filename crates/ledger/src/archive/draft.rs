//! PURE: what a batch did, as records. The writer only moves its book out of the way; cutting it by tenant is the
//! archive's own work.

use std::collections::{BTreeMap, BTreeSet};

use domain::{RequestId, TenantId, clock::UnixMs};

use super::record::{BatchRecord, BudgetRow, ChargeRecord, HoldRow, Part, Record, Share, Standing, TransactionRow};
use crate::{
    batch::{Batch, Item},
    items::{BudgetKey, ChargeRow, ChargeState, OpenHold},
    posting::{Posting, Transaction},
    rules::{Balance, BatchName, Book, operator_transfers},
    sql_store::WRITER,
};

/// What has to be known of a book before items are applied to it.
pub struct Before {
    balances: BTreeMap<TenantId, Balance>,
    owners: BTreeMap<BudgetKey, TenantId>,
}

impl Before {
    /// The balances, and whose the budgets are that the batch may touch.
    pub fn of(book: &Book, batch: &Batch) -> Self {
        let mut owners = BTreeMap::new();
        for hold in book.holds.values() {
            owners.extend(hold.budgets.iter().map(|key| (*key, hold.tenant)));
        }
        for item in &batch.items {
            if let Item::Hold(hold) = item {
                owners.extend(hold.budgets.iter().map(|claim| (claim.key, hold.tenant)));
            }
        }
        Self {
            balances: book.balances.clone(),
            owners,
        }
    }
}

/// A batch, kept until it is written.
pub struct Draft {
    /// Which batch.
    pub name: BatchName,
    now: UnixMs,
    before: Before,
    book: Book,
    shares: BTreeMap<TenantId, Posting>,
    late: Vec<Transaction>,
    texts: Vec<(TenantId, String)>,
}

/// What belongs to a batch beside its book.
pub struct Beside {
    /// The book before the items were applied.
    pub before: Before,
    /// Late costs that were booked by this batch.
    pub late: Vec<Transaction>,
    /// The request log's records as stored.
    pub texts: Vec<(TenantId, String)>,
}

impl Draft {
    /// From a book to which the batch was applied.
    pub fn new(batch: &Batch, now: UnixMs, book: Book, beside: Beside) -> Self {
        Self {
            name: batch.name,
            now,
            shares: shares_of(batch, &book),
            before: beside.before,
            book,
            late: beside.late,
            texts: beside.texts,
        }
    }

    /// How much it is, in rows.
    pub fn weight(&self) -> usize {
        let changes = &self.book.changes;
        1 + changes.opened.len() + changes.closed.len() + changes.charged.len() + changes.progressed.len()
    }

    /// As records: the batch, then a part for each tenant.
    pub fn into_records(self) -> Vec<Record> {
        let parts = self.parts();
        let version = |tenant: &TenantId| parts.get(tenant).map_or(-1, |part| part.version);
        let shares = self.shares.iter().map(|(tenant, posting)| Share {
            tenant: tenant.as_uuid(),
            version: version(tenant),
            entries: entries_of(posting),
        });
        let batch = BatchRecord {
            number: self.name.number,
            at_ms: self.now.0,
            operator: entries_of(&self.book.changes.operator),
            shares: shares.collect(),
            late: self
                .late
                .iter()
                .map(|late| transaction_row(late, WRITER, self.now))
                .collect(),
        };
        std::iter::once(Record::Batch(batch))
            .chain(parts.into_values().map(|part| Record::Part(Box::new(part))))
            .collect()
    }

    fn parts(&self) -> BTreeMap<TenantId, Part> {
        let changes = &self.book.changes;
        let mut parts = Parts {
            draft: self,
            parts: BTreeMap::new(),
        };
        for tenant in &changes.balances {
            parts.of(*tenant);
        }
        for hold in changes.opened.iter().filter_map(|request| self.book.holds.get(request)) {
            parts.of(hold.tenant).opened.push(hold_row(hold));
        }
        for charge in changes
            .charged
            .iter()
            .filter_map(|request| self.book.charges.get(request))
        {
            let part = parts.of(charge.tenant);
            part.charges.push(charge_record(charge));
            if changes.closed.contains(&charge.request) {
                part.closed.push(charge.request.as_uuid());
            }
        }
        for progress in changes.progressed.values() {
            if let Ok(text) = serde_json::to_string(progress) {
                let request = progress.request.as_uuid();
                parts.of(progress.tenant).progressed.push((request, text));
            }
        }
        for (key, owner) in changes
            .budgets
            .iter()
            .filter_map(|key| Some((key, self.before.owners.get(key)?)))
        {
            if let Some(budget) = self.book.budgets.get(key) {
                parts.of(*owner).budgets.push(BudgetRow {
                    scope: key.scope,
                    period_start_ms: key.period_start.0,
                    limit: budget.limit.nanos(),
                    used: budget.used.nanos(),
                    held: budget.held.nanos(),
                });
            }
        }
        for (tenant, posting) in &changes.usage {
            parts.of(*tenant).usage = entries_of(posting);
        }
        for (tenant, lots) in &self.book.lots {
            for lot in lots {
                if let Some(left) = changes.lots.get(&lot.id) {
                    parts.of(*tenant).drawn.push((lot.id.as_uuid(), left.nanos()));
                }
            }
        }
        for (tenant, text) in &self.texts {
            parts.of(*tenant).records.push(text.clone());
        }
        parts.parts
    }
}

struct Parts<'a> {
    draft: &'a Draft,
    parts: BTreeMap<TenantId, Part>,
}

impl Parts<'_> {
    fn of(&mut self, tenant: TenantId) -> &mut Part {
        let draft = self.draft;
        self.parts.entry(tenant).or_insert_with(|| {
            let is_step = draft.book.changes.balances.contains(&tenant);
            let read = draft.book.versions.get(&tenant).copied().unwrap_or(-1);
            let standing = |balances: &BTreeMap<TenantId, Balance>| {
                balances.get(&tenant).copied().map(standing).unwrap_or_default()
            };
            Part {
                tenant: tenant.as_uuid(),
                version: if is_step { read + 1 } else { read },
                is_step,
                at_ms: draft.now.0,
                batch: Some(draft.name.number),
                was: standing(&draft.before.balances),
                now: standing(&draft.book.balances),
                ..Part::default()
            }
        })
    }
}

/// What each tenant's requests contributed: of each request the closing that ended its hold.
fn shares_of(batch: &Batch, book: &Book) -> BTreeMap<TenantId, Posting> {
    let mut shares: BTreeMap<TenantId, Posting> = BTreeMap::new();
    let mut seen: BTreeSet<RequestId> = BTreeSet::new();
    for item in &batch.items {
        let Item::Close(closing) = item else { continue };
        let ended = book.changes.charged.contains(&closing.request)
            && book
                .charges
                .get(&closing.request)
                .is_some_and(|row| row.state != ChargeState::Refused)
            && !book.changes.orphans.contains(&closing.request);
        if ended && seen.insert(closing.request) {
            for (debit, credit, amount) in operator_transfers(closing) {
                shares
                    .entry(closing.tenant)
                    .or_default()
                    .transfer(debit, credit, amount);
            }
        }
    }
    shares
}

/// A balance as it is archived.
pub fn standing(balance: Balance) -> Standing {
    Standing {
        available: balance.available.nanos(),
        held: balance.held.nanos(),
        debt: balance.debt.nanos(),
    }
}

/// A transaction as it is archived.
pub fn transaction_row(transaction: &Transaction, actor: &str, now: UnixMs) -> TransactionRow {
    TransactionRow {
        id: transaction.id,
        kind: transaction.kind.to_owned(),
        tenant: transaction.tenant.map(|tenant| tenant.as_uuid()),
        reference: transaction.reference.clone(),
        actor: actor.to_owned(),
        at_ms: now.0,
        entries: entries_of(&transaction.posting),
    }
}

/// A posting that was committed has been checked: it balances and fits.
fn entries_of(posting: &Posting) -> Vec<(String, i64)> {
    let entries = posting.entries().unwrap_or_default();
    entries
        .into_iter()
        .map(|(account, amount)| (account, amount.nanos()))
        .collect()
}

fn hold_row(hold: &OpenHold) -> HoldRow {
    HoldRow {
        request: hold.request.as_uuid(),
        key: hold.key.as_uuid(),
        amount: hold.amount.nanos(),
        budgets_json: serde_json::to_string(hold.budgets.as_slice()).unwrap_or_else(|_| "[]".to_owned()),
        price_version: hold.price_version,
        provider: hold.provider.clone(),
        provider_estimate: hold.provider_estimate.nanos(),
    }
}

fn charge_record(row: &ChargeRow) -> ChargeRecord {
    ChargeRecord {
        request: row.request.as_uuid(),
        key: row.key.as_uuid(),
        state: row.state.as_str().to_owned(),
        reason: row.reason.as_str().to_owned(),
        held: row.held.nanos(),
        amount: row.amount.nanos(),
        overrun: row.overrun.nanos(),
        provider_cost: row.provider_cost.nanos(),
        unbilled: row.unbilled.nanos(),
        price_version: row.price_version,
        is_posted: row.transaction.is_some(),
    }
}
