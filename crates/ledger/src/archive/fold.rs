//! PURE: many parts folded into the rows that they leave, so that they are written with a statement per table.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    record::{BudgetRow, ChargeRecord, ClaimRow, HoldRow, LotRow, Part, TransactionRow},
    rules::Position,
};
use crate::{rules::BatchName, sql_store::WRITER};

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
    pub row: HoldRow,
    /// How far the answer has come; empty before any output.
    pub progress: String,
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
    /// Its row.
    pub row: ChargeRecord,
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
    pub progressed: BTreeMap<Uuid, String>,
    /// Holds to delete.
    pub closed: BTreeSet<Uuid>,
    /// Terminal rows to insert.
    pub charges: Vec<FoldedCharge>,
    /// Transactions to insert.
    pub transactions: Vec<TransactionRow>,
    /// Records of the request log to insert.
    pub records: Vec<String>,
    /// How many changes of balances there are in it.
    pub steps: u64,
}

impl Fold {
    /// Adds what a part did.
    pub fn add(&mut self, part: Part, author: Author) {
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
        self.add_usage(&part, author);
        self.add_holds(&part, author);
        self.add_charges(&part, author);
        if let Some(claims) = part.claims {
            self.claims.insert(part.tenant, claims);
        }
        self.transactions.extend(part.transactions);
        self.records.extend(part.records);
    }

    /// Moves an account to where its history goes on after something was declared lost.
    pub fn jump(&mut self, tenant: Uuid, position: Position) {
        let is_new = self.accounts.get(&tenant).is_some_and(|account| account.is_new);
        self.accounts.insert(tenant, FoldedAccount { position, is_new });
    }

    fn step(&mut self, part: &Part) {
        let position = Position {
            version: part.version,
            standing: part.now,
        };
        let is_new = part.version == 0 || self.accounts.get(&part.tenant).is_some_and(|account| account.is_new);
        self.accounts.insert(part.tenant, FoldedAccount { position, is_new });
    }

    fn add_usage(&mut self, part: &Part, author: Author) {
        let Some(number) = part.batch.filter(|_| !part.usage.is_empty()) else {
            return;
        };
        self.transactions.push(TransactionRow {
            id: usage_id(part, author, number),
            kind: "usage".to_owned(),
            tenant: Some(part.tenant),
            reference: author.reference(number),
            actor: WRITER.to_owned(),
            at_ms: part.at_ms,
            entries: part.usage.clone(),
        });
    }

    fn add_holds(&mut self, part: &Part, author: Author) {
        for row in &part.opened {
            let hold = FoldedHold {
                tenant: part.tenant,
                author,
                at_ms: part.at_ms,
                row: row.clone(),
                progress: String::new(),
            };
            self.opened.insert(row.request, hold);
        }
        for (request, progress) in &part.progressed {
            match self.opened.get_mut(request) {
                Some(hold) => hold.progress.clone_from(progress),
                None => drop(self.progressed.insert(*request, progress.clone())),
            }
        }
        for request in &part.closed {
            self.progressed.remove(request);
            if self.opened.remove(request).is_none() {
                self.closed.insert(*request);
            }
        }
    }

    fn add_charges(&mut self, part: &Part, author: Author) {
        for row in &part.charges {
            let transaction = part
                .batch
                .filter(|_| row.is_posted)
                .map(|number| usage_id(part, author, number));
            self.charges.push(FoldedCharge {
                tenant: part.tenant,
                at_ms: part.at_ms,
                transaction,
                row: row.clone(),
            });
        }
    }
}

fn usage_id(part: &Part, author: Author, number: i64) -> Uuid {
    author.batch(number).usage_id(domain::TenantId::from_uuid(part.tenant))
}
