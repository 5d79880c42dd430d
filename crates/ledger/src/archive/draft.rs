//! PURE: what a batch did, as frames. They are written straight from the book, once, before its commit; nothing of the
//! book is kept.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use domain::{RequestId, TenantId, clock::UnixMs};

use super::{
    frame,
    record::{
        AccountName, BatchRecord, BudgetRow, ChargeRecord, ClaimRow, HoldRow, Part, ProgressRow, Record, Share,
        Standing, TransactionRow,
    },
};
use crate::{
    items::{ChargeRow, OpenHold},
    posting::{Posting, Transaction},
    rules::{Balance, BatchName, Book},
    sql_store::{NO_BUDGETS, WRITER},
};

/// About how many bytes the frames of one request take.
const BYTES_OF_A_REQUEST: usize = 1_536;

/// A batch as frames, kept until it is known to be committed.
pub struct Draft {
    /// Which batch.
    pub name: BatchName,
    /// `None`: a record is too long to be kept.
    pub frames: Option<Vec<u8>>,
}

/// What was written beside the book.
pub struct Beside<'a> {
    /// Late costs that were booked by this batch.
    pub late: &'a [Transaction],
    /// How far requests have come, as stored.
    pub progress: &'a BTreeMap<RequestId, String>,
    /// The request log's records, as stored.
    pub records: Vec<(TenantId, &'a str)>,
}

impl Draft {
    /// From a book to which the batch was applied.
    pub fn of(name: BatchName, now: UnixMs, book: &Book, beside: &Beside<'_>) -> Self {
        let mut parts = Parts {
            book,
            number: name.number,
            now,
            parts: BTreeMap::new(),
        };
        parts.gather(beside);
        let batch = BatchRecord {
            number: name.number,
            at_ms: now.0,
            operator: entries_of(&book.changes.operator),
            shares: shares_of(&parts),
            late: beside
                .late
                .iter()
                .map(|late| transaction_row(late, WRITER, now))
                .collect(),
        };
        let mut frames = Vec::with_capacity(BYTES_OF_A_REQUEST * (1 + book.changes.charged.len()));
        let records = parts.parts.into_values().map(Record::Part);
        let fits = records
            .chain(std::iter::once(Record::Batch(batch)))
            .all(|record| frame::append(&mut frames, &record));
        Self {
            name,
            frames: fits.then_some(frames),
        }
    }
}

/// The tenants of a batch.
struct Parts<'a> {
    book: &'a Book,
    number: i64,
    now: UnixMs,
    parts: BTreeMap<TenantId, Box<Part<'a>>>,
}

impl<'a> Parts<'a> {
    fn gather(&mut self, beside: &Beside<'a>) {
        let book = self.book;
        let changes = &book.changes;
        for tenant in &changes.balances {
            self.of(*tenant);
        }
        for hold in those_in(&book.holds, &changes.opened) {
            self.of(hold.tenant).opened.push(hold_row(hold));
        }
        let mut closed = changes.closed.iter().peekable();
        for row in those_in(&book.charges, &changes.charged) {
            while closed.next_if(|request| **request < row.request).is_some() {}
            let closes_hold = closed.next_if_eq(&&row.request).is_some();
            self.of(row.tenant).charges.push(charge_record(row, closes_hold));
        }
        for (request, progress) in &changes.progressed {
            let text = beside.progress.get(request).map_or("", String::as_str);
            self.of(progress.tenant).progressed.push(ProgressRow {
                request: request.as_uuid(),
                amount: progress.rank(),
                text: Cow::Borrowed(text),
            });
        }
        for (tenant, posting) in &changes.usage {
            self.of(*tenant).usage = posting
                .sums()
                .map(|(account, sum)| (AccountName::of(account), sum))
                .collect();
        }
        for (tenant, text) in &beside.records {
            self.of(*tenant).records.push(Cow::Borrowed(*text));
        }
        for served in &changes.served {
            let row = transaction_row(served, WRITER, self.now);
            if let Some(tenant) = served.tenant {
                self.of(tenant).transactions.push(row);
            }
        }
        self.gather_limits();
    }

    /// Lots, the claims on them, and budgets.
    fn gather_limits(&mut self) {
        let book = self.book;
        // a part that is no step may be replayed on any later version, and must say nothing that a later one changed
        let stepped = book
            .claims
            .iter()
            .filter(|(tenant, _)| book.changes.balances.contains(tenant));
        for (tenant, claims) in stepped {
            self.of(*tenant).claims = Some(claims.iter().map(ClaimRow::of).collect());
        }
        for (tenant, lots) in &book.lots {
            for lot in lots {
                if let Some(left) = book.changes.lots.get(&lot.id) {
                    self.of(*tenant).drawn.push((lot.id.as_uuid(), left.nanos()));
                }
            }
        }
        for (key, tenant) in &book.changes.budgets {
            if let Some(budget) = book.budgets.get(key) {
                self.of(*tenant).budgets.push(BudgetRow {
                    scope: key.scope,
                    period_start_ms: key.period_start.0,
                    limit: budget.limit.nanos(),
                    used: budget.used.nanos(),
                    held: budget.held.nanos(),
                });
            }
        }
    }

    fn of(&mut self, tenant: TenantId) -> &mut Part<'a> {
        let (book, number, now) = (self.book, self.number, self.now);
        self.parts.entry(tenant).or_insert_with(|| {
            let is_step = book.changes.balances.contains(&tenant);
            let read = book.accounts.get(&tenant);
            let version = read.map_or(-1, |read| read.version);
            Box::new(Part {
                tenant: tenant.as_uuid(),
                version: if is_step { version + 1 } else { version },
                is_step,
                at_ms: now.0,
                batch: Some(number),
                was: read.map(|read| standing(read.balance)).unwrap_or_default(),
                now: book.balances.get(&tenant).copied().map(standing).unwrap_or_default(),
                ..Part::default()
            })
        })
    }
}

/// The values of a map whose keys are in a set. Both are gone through once, which costs less than finding each.
fn those_in<'a, K: Ord, V>(map: &'a BTreeMap<K, V>, set: &'a BTreeSet<K>) -> impl Iterator<Item = &'a V> {
    let mut wanted = set.iter().peekable();
    map.iter().filter_map(move |(key, value)| {
        while wanted.next_if(|next| *next < key).is_some() {}
        wanted.next_if_eq(&key).map(|_| value)
    })
}

/// What each tenant's requests contributed to the batch's operator transaction.
fn shares_of<'a>(parts: &Parts<'a>) -> Vec<Share<'a>> {
    let mut costs: Vec<_> = parts
        .book
        .changes
        .costs
        .iter()
        .filter(|(.., cost)| !cost.is_zero())
        .collect();
    costs.sort_by_key(|(tenant, ..)| *tenant);
    costs
        .chunk_by(|one, next| one.0 == next.0)
        .filter_map(|costs| {
            let (tenant, ..) = costs.first()?;
            Some(Share {
                tenant: tenant.as_uuid(),
                version: parts.parts.get(tenant).map_or(-1, |part| part.version),
                costs: costs
                    .iter()
                    .map(|(_, debit, cost)| (AccountName::of(debit), cost.nanos()))
                    .collect(),
            })
        })
        .collect()
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

fn entries_of(posting: &Posting) -> Vec<(String, i64)> {
    posting
        .sums()
        .map(|(account, sum)| (account.to_string(), sum))
        .collect()
}

fn hold_row(hold: &OpenHold) -> HoldRow<'_> {
    let budgets = match hold.budgets.as_slice() {
        [] => Cow::Borrowed(NO_BUDGETS),
        budgets => serde_json::to_string(budgets).map_or(Cow::Borrowed(NO_BUDGETS), Cow::Owned),
    };
    HoldRow {
        request: hold.request.as_uuid(),
        key: hold.key.as_uuid(),
        amount: hold.amount.nanos(),
        budgets_json: budgets,
        price_version: hold.price_version,
        provider: Cow::Borrowed(&hold.provider),
        provider_estimate: hold.provider_estimate.nanos(),
    }
}

fn charge_record(row: &ChargeRow, closes_hold: bool) -> ChargeRecord<'static> {
    ChargeRecord {
        request: row.request.as_uuid(),
        key: row.key.as_uuid(),
        state: Cow::Borrowed(row.state.as_str()),
        reason: Cow::Borrowed(row.reason.as_str()),
        held: row.held.nanos(),
        amount: row.amount.nanos(),
        overrun: row.overrun.nanos(),
        provider_cost: row.provider_cost.nanos(),
        unbilled: row.unbilled.nanos(),
        price_version: row.price_version,
        is_posted: row.transaction.is_some(),
        closes_hold,
    }
}
