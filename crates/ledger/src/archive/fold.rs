//! PURE: many parts folded into the rows that they leave, so that they are written with a statement per table.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use transparency_log::movement_batch;
use uuid::Uuid;

use super::{
    record::{BudgetRow, ChargeRecord, ClaimRow, HoldRow, LotRow, Part, TransactionRow},
    rules::Position,
};
use crate::{
    rules::BatchName,
    sql_store::{WRITER, log_batch},
};

/// Who wrote a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author {
    /// The node.
    pub node: Uuid,
    /// The boot of the node.
    pub boot: Uuid,
}

impl Author {
    /// The name of one of its batches.
    pub const fn batch(&self, number: i64) -> BatchName {
        BatchName {
            node: self.node,
            boot: self.boot,
            number,
        }
    }

    /// The batch of the transparency log that one of its batches makes.
    pub fn log_batch(&self, number: i64) -> Uuid {
        log_batch(&self.batch(number))
    }

    /// The reference that the transactions of a batch carry.
    pub fn reference(&self, number: i64) -> String {
        format!("batch:{}:{}:{number}", self.node, self.boot)
    }
}

/// An account that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldedAccount {
    /// Where it stands now.
    pub position: Position,
    /// Whether it is new.
    pub is_new: bool,
}

/// A hold that is open afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedHold {
    /// Who pays.
    pub tenant: Uuid,
    /// Who placed it.
    pub author: Author,
    /// When.
    pub at_ms: i64,
    /// Its row.
    pub row: HoldRow<'static>,
    /// How far the answer has come, if there was any output.
    pub progress: FoldedProgress,
}

/// How far an answer has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldedProgress {
    /// The charge so far.
    pub amount: i64,
    /// As stored; empty before any output.
    pub text: String,
}

/// A terminal row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedCharge {
    /// Who pays.
    pub tenant: Uuid,
    /// When.
    pub at_ms: i64,
    /// The transaction that moved the credit.
    pub transaction: Option<Uuid>,
    /// The batch of the transparency log that has its leaf.
    pub log_batch: Option<Uuid>,
    /// Its row.
    pub row: ChargeRecord<'static>,
}

/// A transaction to insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Its row and its entries.
    pub row: TransactionRow,
    /// The batch of the transparency log that has its leaf.
    pub log_batch: Uuid,
}

impl Replayed {
    /// Of a transaction outside any writer.
    pub fn beside(row: TransactionRow) -> Self {
        let log_batch = movement_batch(row.id);
        Self { row, log_batch }
    }
}

/// What some parts leave. Parts are added in the order in which they were committed.
#[derive(Debug, Default)]
pub struct Fold {
    /// Accounts.
    pub accounts: BTreeMap<Uuid, FoldedAccount>,
    /// Claims of tenants whose claims changed: all that are left.
    pub claims: BTreeMap<Uuid, Vec<ClaimRow>>,
    /// New lots, with their tenants.
    pub granted: BTreeMap<Uuid, (Uuid, LotRow)>,
    /// What is left of older lots.
    pub drawn: BTreeMap<Uuid, i64>,
    /// Budgets.
    pub budgets: BTreeMap<(Uuid, i64), BudgetRow>,
    /// Holds to insert.
    pub opened: BTreeMap<Uuid, FoldedHold>,
    /// Progress of older holds.
    pub progressed: BTreeMap<Uuid, FoldedProgress>,
    /// Holds to delete.
    pub closed: BTreeSet<Uuid>,
    /// Terminal rows to insert.
    pub charges: Vec<FoldedCharge>,
    /// Transactions to insert.
    pub transactions: Vec<Replayed>,
    /// Records of the request log to insert.
    pub records: Vec<String>,
    /// How many changes of balances there are in it.
    pub steps: u64,
}

impl Fold {
    /// Adds what a part did.
    pub fn add(&mut self, mut part: Part<'static>, author: Author) {
        if part.is_step {
            self.steps += 1;
            self.step(&part);
        }
        for lot in &part.granted {
            self.granted.insert(lot.id, (part.tenant, lot.clone()));
        }
        for (lot, left) in &part.drawn {
            match self.granted.get_mut(lot) {
                Some((_, granted)) => granted.remaining = *left,
                None => drop(self.drawn.insert(*lot, *left)),
            }
        }
        for budget in &part.budgets {
            self.budgets.insert((budget.scope, budget.period_start_ms), *budget);
        }
        self.add_usage(&mut part, author);
        self.add_holds(&mut part, author);
        self.add_charges(&mut part, author);
        if let Some(claims) = part.claims {
            self.claims.insert(part.tenant, claims);
        }
        let log_batch = part.batch.map(|number| author.log_batch(number));
        self.transactions
            .extend(part.transactions.into_iter().map(|row| match log_batch {
                Some(log_batch) => Replayed { row, log_batch },
                None => Replayed::beside(row),
            }));
        self.records.extend(part.records.into_iter().map(Cow::into_owned));
    }

    /// Moves an account to where its history goes on after something was declared lost.
    pub fn jump(&mut self, tenant: Uuid, position: Position) {
        let is_new = self.accounts.get(&tenant).is_some_and(|account| account.is_new);
        self.accounts.insert(tenant, FoldedAccount { position, is_new });
    }

    fn step(&mut self, part: &Part<'static>) {
        let position = Position {
            version: part.version,
            standing: part.now,
        };
        let is_new = part.version == 0 || self.accounts.get(&part.tenant).is_some_and(|account| account.is_new);
        self.accounts.insert(part.tenant, FoldedAccount { position, is_new });
    }

    fn add_usage(&mut self, part: &mut Part<'static>, author: Author) {
        let Some(number) = part.batch.filter(|_| !part.usage.is_empty()) else {
            return;
        };
        let entries = part.usage.drain(..);
        let row = TransactionRow {
            id: usage_id(part.tenant, author, number),
            kind: "usage".to_owned(),
            tenant: Some(part.tenant),
            reference: author.reference(number),
            actor: WRITER.to_owned(),
            at_ms: part.at_ms,
            entries: entries
                .map(|(account, amount)| (account.into_text(part.tenant), amount))
                .collect(),
        };
        let log_batch = author.log_batch(number);
        self.transactions.push(Replayed { row, log_batch });
    }

    fn add_holds(&mut self, part: &mut Part<'static>, author: Author) {
        for row in part.opened.drain(..) {
            let hold = FoldedHold {
                tenant: part.tenant,
                author,
                at_ms: part.at_ms,
                row,
                progress: FoldedProgress::default(),
            };
            self.opened.insert(hold.row.request, hold);
        }
        for row in part.progressed.drain(..) {
            let progress = match self.opened.get_mut(&row.request) {
                Some(hold) => &mut hold.progress,
                None => self.progressed.entry(row.request).or_default(),
            };
            // cumulative: what is less than is known is older
            if progress.amount <= row.amount {
                progress.amount = row.amount;
                progress.text = row.text.into_owned();
            }
        }
    }

    fn add_charges(&mut self, part: &mut Part<'static>, author: Author) {
        for row in part.charges.drain(..) {
            if row.closes_hold {
                self.progressed.remove(&row.request);
                if self.opened.remove(&row.request).is_none() {
                    self.closed.insert(row.request);
                }
            }
            let batch = part.batch.filter(|_| row.is_posted);
            self.charges.push(FoldedCharge {
                tenant: part.tenant,
                at_ms: part.at_ms,
                transaction: batch.map(|number| usage_id(part.tenant, author, number)),
                log_batch: part.batch.map(|number| author.log_batch(number)),
                row,
            });
        }
    }
}

fn usage_id(tenant: Uuid, author: Author, number: i64) -> Uuid {
    author.batch(number).usage_id(domain::TenantId::from_uuid(tenant))
}
