//! Replaying what batches did beside tenants: the operator's transactions, and how far each boot had come.

use std::collections::BTreeMap;

use domain::NodeId;
use store::{Database, Tx};
use uuid::Uuid;

use super::{
    fold::{Author, Replayed},
    losses::{Loss, Losses},
    record::{BatchRecord, Record, Share, TransactionRow},
    rules::Declarations,
    sorting::Sorted,
    sources::Sources,
    tables,
};
use crate::{
    LedgerError,
    chart::{Account, Loss as LossAccount},
    posting::transaction_id,
    sql_store::WRITER,
};

/// Batches in one transaction.
const MOST_BATCHES: usize = 200;
/// What the references of transactions begin with that take back costs of lost requests.
pub const LOST_SHARE: &str = "restore_loss:";

/// The boot whose batches are being replayed.
struct Boot {
    author: Author,
    reached: i64,
    has_gap: bool,
}

/// Replays batches, boot by boot.
pub struct Batches<'a> {
    pub database: &'a Database,
    pub losses: &'a mut Losses,
    /// What was declared lost before.
    pub declared: Declarations,
    /// Whether what is missing is declared lost by this replay.
    pub declares_lost: bool,
    /// How many were replayed that the database did not have.
    pub applied: u64,
    /// While something is missing boots are not noted, so that all of this is done again when it has been found.
    notes_boots: bool,
    boot: Option<Boot>,
}

impl<'a> Batches<'a> {
    /// Nothing was replayed yet.
    pub fn new(database: &'a Database, losses: &'a mut Losses, declared: Declarations, declares_lost: bool) -> Self {
        let notes_boots = declares_lost || losses.is_empty();
        Self {
            database,
            losses,
            declared,
            declares_lost,
            applied: 0,
            notes_boots,
            boot: None,
        }
    }

    /// Replays one transaction's worth. `false` when there are no more.
    ///
    /// # Errors
    /// What the database or a disk says.
    pub async fn replay_some(&mut self, sources: &mut Sources, sorted: &mut Sorted) -> Result<bool, LedgerError> {
        let tx = self.database.begin().await?;
        let mut transactions = Vec::new();
        let mut shares = Vec::new();
        let mut count = 0;
        while count < MOST_BATCHES {
            let Some(entry) = sorted.next().map_err(LedgerError::Archive)? else {
                break;
            };
            count += 1;
            match sources.read(&entry).map_err(LedgerError::Archive)? {
                Record::Operator(rows) => transactions.extend(rows.into_iter().map(Replayed::beside)),
                Record::Batch(batch) => {
                    let author = sources.author(&entry);
                    if self.takes(&tx, author, &batch).await? {
                        add_batch((author, sources.line(&entry)), batch, &mut transactions, &mut shares);
                    }
                }
                _ => {}
            }
        }
        transactions.extend(self.lost_shares(&tx, shares).await?);
        tables::write_transactions(&tx, &transactions).await?;
        tx.commit().await?;
        Ok(count > 0)
    }

    /// The provider bills requests whose charges are lost all the same: their cost is the operator's loss. That is booked
    /// for what is declared lost by this replay, and again for what was before.
    async fn lost_shares(&self, tx: &Tx, shares: Vec<PostedShare>) -> Result<Vec<Replayed>, LedgerError> {
        let positions = tables::positions(tx, shares.iter().map(|posted| posted.share.tenant)).await?;
        let is_lost = |posted: &&PostedShare| {
            let share = &posted.share;
            let position = positions.get(&share.tenant);
            let is_behind = position.is_none_or(|position| position.version < share.version);
            (is_behind && self.declares_lost) || self.declared.is_lost(share.tenant, share.version, posted.line)
        };
        let lost = shares.iter().filter(is_lost);
        Ok(lost.map(correction).map(Replayed::beside).collect())
    }

    /// Whether the batch is not in the database. A gap before it is a loss.
    async fn takes(&mut self, tx: &Tx, author: Author, batch: &BatchRecord<'_>) -> Result<bool, LedgerError> {
        if self.boot.as_ref().is_none_or(|boot| boot.author != author) {
            let reached = tables::last_batch(tx, author.node, author.boot).await?.unwrap_or(0);
            self.boot = Some(Boot {
                author,
                reached,
                has_gap: false,
            });
        }
        let Some(boot) = &mut self.boot else { return Ok(false) };
        if batch.number <= boot.reached {
            return Ok(false);
        }
        if batch.number > boot.reached + 1 {
            boot.has_gap = true;
            self.losses.add(Loss::Batches {
                node: NodeId::from_uuid(author.node),
                boot: author.boot,
                from: boot.reached + 1,
                to: batch.number - 1,
            });
        }
        boot.reached = batch.number;
        self.applied += 1;
        if self.declares_lost || (self.notes_boots && !boot.has_gap) {
            tables::note_boot(tx, author.node, author.boot, batch.number, batch.at_ms).await?;
        }
        Ok(true)
    }
}

/// A share with the transaction that it is part of.
struct PostedShare {
    operator: Uuid,
    /// The line of history in which it was posted.
    line: i64,
    at_ms: i64,
    share: Share<'static>,
}

fn add_batch(
    (author, line): (Author, i64),
    batch: BatchRecord<'static>,
    rows: &mut Vec<Replayed>,
    shares: &mut Vec<PostedShare>,
) {
    let id = author.batch(batch.number).operator_id();
    let log_batch = author.log_batch(batch.number);
    if !batch.operator.is_empty() {
        let row = TransactionRow {
            id,
            kind: "operator_cost".to_owned(),
            tenant: None,
            reference: author.reference(batch.number),
            actor: WRITER.to_owned(),
            at_ms: batch.at_ms,
            entries: batch.operator,
        };
        rows.push(Replayed { row, log_batch });
    }
    let late = batch.late.into_iter();
    rows.extend(late.map(|row| Replayed { row, log_batch }));
    let posted = batch.shares.into_iter().map(|share| PostedShare {
        operator: id,
        line,
        at_ms: batch.at_ms,
        share,
    });
    shares.extend(posted);
}

/// Takes a lost share out of the accounts that belong to charges.
fn correction(posted: &PostedShare) -> TransactionRow {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for (account, amount) in &posted.share.costs {
        *sums.entry(account.clone().into_text(posted.share.tenant)).or_default() -= amount;
        *sums
            .entry(Account::OperatorLoss(LossAccount::Restore).to_string())
            .or_default() += amount;
    }
    let tenant = posted.share.tenant;
    TransactionRow {
        id: transaction_id(&[b"restore_loss", posted.operator.as_bytes(), tenant.as_bytes()]),
        kind: "operator_cost".to_owned(),
        tenant: None,
        reference: format!(
            "{LOST_SHARE}{}:{}",
            posted.operator,
            domain::TenantId::from_uuid(tenant)
        ),
        actor: "system:ledger-replay".to_owned(),
        at_ms: posted.at_ms,
        entries: sums.into_iter().collect(),
    }
}
