//! The model database: rows in memory, changed by the product's own rules a batch at a time, with the constraints that the
//! tables have. It does not know of latency or failure; see `connection`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use domain::{Amount, LotId, RequestId, TenantId, clock::UnixMs};
use ledger::{
    BudgetKey,
    batch::{Batch, Committed, Item, ItemOutcome},
    chart::LotKind,
    claims::{Claim, Purpose},
    items::{ChargeRow, OpenHold, Progress},
    rules::{Balance, BatchName, Book, Budget, Lot},
};
use uuid::Uuid;

/// The database's clock at the beginning.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

/// A row of `hold`.
#[derive(Debug, Clone)]
pub struct HoldRow {
    pub open: OpenHold,
    pub node: Uuid,
    pub boot: Uuid,
    pub created_at: u64,
    pub progress: Option<Progress>,
}

/// A row of `node`.
#[derive(Debug, Clone)]
pub struct NodeRow {
    pub batch_no: i64,
    pub retired_at: Option<u64>,
    /// The last batch's requests and what came of them, for when its acknowledgement was lost.
    last: Option<(Vec<RequestId>, Committed)>,
}

/// All rows.
#[derive(Debug, Default)]
pub struct Database {
    pub balances: BTreeMap<TenantId, Balance>,
    pub lots: BTreeMap<TenantId, Vec<Lot>>,
    pub claims: BTreeMap<TenantId, Vec<Claim>>,
    pub budgets: BTreeMap<BudgetKey, Budget>,
    pub holds: BTreeMap<RequestId, HoldRow>,
    pub charges: BTreeMap<RequestId, ChargeRow>,
    pub nodes: BTreeMap<Uuid, NodeRow>,
    /// Sums of the entries by account.
    pub accounts: BTreeMap<String, i128>,
    /// What was booked in a transaction of its own for a request.
    pub booked_apart: BTreeMap<RequestId, i64>,
    transactions: BTreeSet<Uuid>,
    /// Requests with an item in quarantine.
    pub quarantined: BTreeSet<RequestId>,
    /// Rows that are locked: of nodes by boot, of accounts by tenant.
    pub locked: BTreeSet<Uuid>,
}

/// What a batch came to.
pub enum Applied {
    /// Written now.
    Now {
        committed: Committed,
        closed: Vec<(ChargeRow, Option<HoldRow>)>,
    },
    /// It had been written before.
    Before(Committed),
    /// Somebody else writes under this name.
    Fenced,
    /// A rule or a constraint says no.
    Broken(String),
}

impl Database {
    /// The clock.
    pub fn clock(now: u64) -> UnixMs {
        UnixMs(EPOCH_MS + now.cast_signed())
    }

    /// Registers a boot.
    pub fn register(&mut self, boot: Uuid) {
        let row = NodeRow {
            batch_no: 0,
            retired_at: None,
            last: None,
        };
        self.nodes.insert(boot, row);
    }

    /// Gives credit.
    pub fn grant(&mut self, tenant: TenantId, lot: Uuid, amount: i64) -> Lot {
        let balance = self.balances.entry(tenant).or_default();
        balance.available = Amount::from_nanos(balance.available.nanos() + amount);
        let lot = Lot {
            id: LotId::from_uuid(lot),
            kind: if amount % 2 == 0 { LotKind::Paid } else { LotKind::Promo },
            remaining: Amount::from_nanos(amount),
            expires_at: None,
        };
        self.lots.entry(tenant).or_default().push(lot.clone());
        lot
    }

    /// What is left of a lot and not claimed.
    pub fn unclaimed(&self, tenant: TenantId, lot: &Lot) -> i64 {
        let claims = self.claims.get(&tenant).into_iter().flatten();
        let claims = claims.filter(|claim| claim.lot == lot.id);
        lot.remaining.nanos() - claims.map(|claim| claim.amount.nanos()).sum::<i64>()
    }

    /// Takes credit out of a lot, as far as it is available; the rest becomes a claim, of which a lot has one of each
    /// purpose. Answers whether it did.
    pub fn withdraw(&mut self, tenant: TenantId, lot: &Lot, purpose: Purpose, amount: i64, now: u64) -> bool {
        let balance = self.balances.entry(tenant).or_default();
        let taken = amount.min(balance.available.nanos());
        let claims = self.claims.entry(tenant).or_default();
        let is_taken = |claim: &Claim| claim.lot == lot.id && claim.purpose == purpose;
        if taken < amount && claims.iter().any(is_taken) {
            return false;
        }
        balance.available = Amount::from_nanos(balance.available.nanos() - taken);
        balance.claimed = Amount::from_nanos(balance.claimed.nanos() + amount - taken);
        if taken < amount {
            claims.push(Claim {
                lot: lot.id,
                purpose,
                amount: Amount::from_nanos(amount - taken),
                reference: String::new(),
                created_at: Self::clock(now),
            });
        }
        let lots = self.lots.entry(tenant).or_default();
        let row = lots.iter_mut().find(|row| row.id == lot.id).unwrap();
        row.remaining = Amount::from_nanos(row.remaining.nanos() - taken);
        true
    }

    /// One transaction.
    pub fn apply(&mut self, batch: &Batch, left_out: &BTreeSet<TenantId>, now: u64) -> Applied {
        let requests: Vec<RequestId> = batch.items.iter().map(Item::request).collect();
        let Some(node) = self.nodes.get(&batch.name.boot) else {
            return Applied::Fenced;
        };
        if node.batch_no == batch.name.number {
            return match &node.last {
                Some((same, committed)) if *same == requests => Applied::Before(committed.clone()),
                _ => Applied::Broken("another batch was sent under the number of one that was written".to_owned()),
            };
        }
        if node.batch_no != batch.name.number - 1 {
            return Applied::Fenced;
        }
        let mut book = self.book_of(batch);
        let mut outcomes = Vec::new();
        for item in &batch.items {
            let outcome = match item {
                _ if left_out.contains(&item.tenant()) => Ok(ItemOutcome::Deferred),
                Item::Hold(hold) => book.place_hold(hold).map(ItemOutcome::Hold),
                Item::Progress(progress) => book.note_progress(progress).map(|()| ItemOutcome::Noted),
                Item::Close(closing) => book.close(&batch.name, closing).map(|()| ItemOutcome::Closed),
            };
            match outcome {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => return Applied::Broken(error.to_string()),
            }
        }
        let available = |tenant| Some((tenant, book.balances.get(&tenant)?.available));
        let committed = Committed {
            outcomes,
            available: batch.items.iter().filter_map(|item| available(item.tenant())).collect(),
            now: Self::clock(now),
            orphans: book.changes.orphans.clone(),
        };
        let closed = match self.save(&batch.name, book, now) {
            Ok(closed) => closed,
            Err(error) => return Applied::Broken(error),
        };
        if let Some(node) = self.nodes.get_mut(&batch.name.boot) {
            node.batch_no = batch.name.number;
            node.last = Some((requests, committed.clone()));
        }
        Applied::Now { committed, closed }
    }

    fn book_of(&self, batch: &Batch) -> Book {
        let mut book = Book::default();
        for item in &batch.items {
            let (tenant, request) = (item.tenant(), item.request());
            if let Some(balance) = self.balances.get(&tenant) {
                book.balances.insert(tenant, *balance);
            }
            // as the tables are read: claims only where the account says that there are any
            let has_claims = self
                .balances
                .get(&tenant)
                .is_some_and(|balance| !balance.claimed.is_zero());
            if has_claims && let Some(claims) = self.claims.get(&tenant) {
                book.claims.insert(tenant, claims.clone());
            }
            if let Some(lots) = self.lots.get(&tenant) {
                let unspent = lots.iter().filter(|lot| !lot.remaining.is_zero());
                book.lots.insert(tenant, unspent.cloned().collect());
            }
            let mut keys: Vec<BudgetKey> = Vec::new();
            if let Some(row) = self.holds.get(&request) {
                keys.extend(&row.open.budgets);
                book.holds.insert(request, row.open.clone());
            }
            if let Some(row) = self.charges.get(&request) {
                book.charges.insert(request, row.clone());
            }
            if let Item::Hold(hold) = item {
                keys.extend(hold.budgets.iter().map(|claim| claim.key));
            }
            for key in keys {
                if let Some(budget) = self.budgets.get(&key) {
                    book.budgets.insert(key, *budget);
                }
            }
        }
        book
    }

    /// Writes what changed, as the tables would take it.
    fn save(&mut self, name: &BatchName, book: Book, now: u64) -> Result<Vec<(ChargeRow, Option<HoldRow>)>, String> {
        let changes = &book.changes;
        for tenant in &changes.balances {
            let balance = book.balances[tenant];
            if balance.available.is_negative() || balance.held.is_negative() {
                return Err("a balance below zero".to_owned());
            }
            self.balances.insert(*tenant, balance);
        }
        for key in changes.budgets.keys() {
            self.budgets.insert(*key, book.budgets[key]);
        }
        for lot in self.lots.values_mut().flatten() {
            lot.remaining = changes.lots.get(&lot.id).copied().unwrap_or(lot.remaining);
        }
        for claims in self.claims.values_mut() {
            for claim in &mut *claims {
                let changed = changes.claims.get(&(claim.lot, claim.purpose));
                claim.amount = changed.copied().unwrap_or(claim.amount);
            }
            claims.retain(|claim| !claim.amount.is_zero());
        }
        for served in &changes.served {
            self.post(served.id, served.posting.entries())?;
        }
        self.save_holds(name, &book, now)?;
        let usage = changes
            .usage
            .iter()
            .map(|(tenant, posting)| (name.usage_id(*tenant), posting));
        for (id, posting) in usage.chain([(name.operator_id(), &changes.operator)]) {
            if !posting.is_empty() {
                self.post(id, posting.entries())?;
            }
        }
        for late in &changes.late {
            if !self.transactions.contains(&late.id) {
                self.post(late.id, late.posting.entries())?;
                let request: RequestId = late.reference.parse().map_err(|_| "a late cost of no request")?;
                let entries = late.posting.entries().map_err(|error| error.to_string())?;
                let cost: i64 = entries.iter().map(|(_, amount)| amount.nanos().max(0)).sum();
                *self.booked_apart.entry(request).or_default() += cost;
            }
        }
        let mut closed = Vec::new();
        for request in &changes.charged {
            let row = book.charges[request].clone();
            if self.charges.insert(*request, row.clone()).is_some() {
                return Err("a second terminal row".to_owned());
            }
            closed.push((row, self.holds.remove(request)));
        }
        for request in &changes.closed {
            if self.holds.remove(request).is_none() && !changes.charged.contains(request) {
                return Err("a hold that is closed was not open".to_owned());
            }
        }
        Ok(closed)
    }

    fn save_holds(&mut self, name: &BatchName, book: &Book, now: u64) -> Result<(), String> {
        for request in &book.changes.opened {
            let row = HoldRow {
                open: book.holds[request].clone(),
                node: name.node,
                boot: name.boot,
                created_at: now,
                progress: None,
            };
            if self.holds.insert(*request, row).is_some() {
                return Err("a request is held twice".to_owned());
            }
        }
        for (request, progress) in &book.changes.progressed {
            let row = self.holds.get_mut(request).ok_or("progress of what is not open")?;
            let before = row.progress.as_ref().map_or(0, |before| before.so_far.amount().nanos());
            if progress.so_far.amount().nanos() >= before {
                row.progress = Some(progress.clone());
            }
        }
        Ok(())
    }

    fn post<E: Display>(&mut self, id: Uuid, entries: Result<Vec<(String, Amount)>, E>) -> Result<(), String> {
        if !self.transactions.insert(id) {
            return Err("a transaction is posted twice".to_owned());
        }
        for (account, amount) in entries.map_err(|error| error.to_string())? {
            *self.accounts.entry(account).or_default() += i128::from(amount.nanos());
        }
        Ok(())
    }
}
