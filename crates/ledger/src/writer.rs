//! The writer: the one task of a node that writes holds and charges. Whatever has queued while one batch was being
//! committed is the next batch: no timer, no wait when idle, one batch in flight.

use std::{sync::Arc, time::Duration};

use store::StoreError;
use tokio::sync::mpsc;

use crate::{
    HoldRequest, Refusal,
    admission::AdmissionView,
    batch::{Batch, BatchStore, Committed, Item, ItemOutcome, Locking},
    error::LedgerError,
    health::Health,
    hold::Hold,
    queue::{Queued, Reply, WeakQueue},
    rules::{BatchName, HoldOutcome},
};

/// The most items in one transaction.
const MAX_BATCH_ITEMS: usize = 500;
/// Room that is always left for what has just arrived, however much waits for tenants that are locked.
const MIN_FRESH_ITEMS: usize = 100;
/// A database that says nothing for so long is taken for away: the batch is sent again on another connection.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Everything that the writer works with.
pub struct Writer {
    pub store: Arc<dyn BatchStore>,
    pub queue: WeakQueue,
    pub received: mpsc::UnboundedReceiver<Queued>,
    /// The number of the next batch is one more.
    pub last: BatchName,
    pub view: Arc<AdmissionView>,
    pub clock: Arc<crate::LedgerClock>,
    pub health: Arc<Health>,
}

/// Why the writer ended. Either way the process must end: nothing else may write charges.
#[derive(Debug, thiserror::Error)]
pub enum WriterEnd {
    /// The queue was closed: an orderly stop.
    #[error("the ledger's queue was closed")]
    Closed,
    /// The database can no longer be trusted to keep what it confirms.
    #[error("the ledger's store has failed: {0}")]
    Failed(StoreError),
}

impl Writer {
    /// Runs until the queue is closed or the store fails for good.
    pub async fn run(mut self) -> WriterEnd {
        let mut waiting = Vec::with_capacity(MAX_BATCH_ITEMS);
        loop {
            if waiting.is_empty() && self.received.recv_many(&mut waiting, MAX_BATCH_ITEMS).await == 0 {
                return WriterEnd::Closed;
            }
            let limit = MAX_BATCH_ITEMS.max(waiting.len() + MIN_FRESH_ITEMS);
            while waiting.len() < limit
                && let Ok(queued) = self.received.try_recv()
            {
                waiting.push(queued);
            }
            match self.commit(std::mem::take(&mut waiting)).await {
                Ok(deferred) => waiting = deferred,
                Err(error) => return WriterEnd::Failed(error),
            }
        }
    }

    /// Commits one batch and answers whoever waits; what was left out because of a lock comes back.
    async fn commit(&mut self, queued: Vec<Queued>) -> Result<Vec<Queued>, StoreError> {
        let batch = Batch {
            name: BatchName {
                number: self.last.number + 1,
                ..self.last
            },
            items: queued.iter().map(|queued| queued.item.clone()).collect(),
        };
        self.health.batch_started();
        let result = self.apply_until_known(&batch).await;
        self.health.batch_ended();
        match result {
            Ok(committed) => {
                self.last = batch.name;
                self.learn(&committed);
                Ok(self.answer_all(queued, committed.outcomes))
            }
            Err(error) if error.is_data_error() => self.commit_without_culprit(queued, &error).await,
            Err(error) => Err(error),
        }
    }

    /// One item of the batch cannot be written: all others must not suffer for it. Halves of the batch are tried, in
    /// order, until the item stands alone.
    async fn commit_without_culprit(
        &mut self,
        mut queued: Vec<Queued>,
        error: &StoreError,
    ) -> Result<Vec<Queued>, StoreError> {
        if queued.len() > 1 {
            let second = queued.split_off(queued.len() / 2);
            let mut deferred = Box::pin(self.commit(queued)).await?;
            deferred.extend(Box::pin(self.commit(second)).await?);
            return Ok(deferred);
        }
        if let Some(Queued {
            item: Item::Close(closing),
            ..
        }) = queued.first_mut()
            && closing.record.take().is_some()
        {
            // money goes before the log: a record that cannot be kept must not keep a charge from being made
            metrics::counter!("truerelay_ledger_records_lost_total").increment(1);
            tracing::error!(%error, request = %closing.request, "an end is written without its request-log record");
            return Box::pin(self.commit(queued)).await;
        }
        self.reject(queued, error);
        Ok(Vec::new())
    }

    /// Sends the same batch until its outcome is known. Only a data error or a store that cannot be trusted any
    /// more ends this.
    async fn apply_until_known(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut pause = FIRST_RETRY;
        let mut locking = Locking::Wait;
        loop {
            let error = match tokio::time::timeout(APPLY_TIMEOUT, self.store.apply(batch, locking)).await {
                Ok(Ok(committed)) => return Ok(committed),
                Ok(Err(error)) => error,
                Err(_) => StoreError::Busy,
            };
            if error.is_data_error() || is_fatal(&error) {
                return Err(error);
            }
            metrics::counter!("truerelay_ledger_batch_retries_total").increment(1);
            tracing::warn!(%error, batch = batch.name.number, "a ledger batch is tried again");
            if matches!(error, StoreError::Busy) {
                locking = Locking::SkipLocked;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    fn learn(&self, committed: &Committed) {
        self.view.update(&committed.available);
        self.clock.set(committed.now);
        metrics::histogram!("truerelay_ledger_batch_items").record(count(committed.outcomes.len()));
        for request in &committed.orphans {
            metrics::counter!("truerelay_ledger_orphans_total").increment(1);
            tracing::error!(%request, "a request was closed without a hold");
        }
    }

    fn answer_all(&self, queued: Vec<Queued>, outcomes: Vec<ItemOutcome>) -> Vec<Queued> {
        let mut deferred = Vec::new();
        for (queued, outcome) in queued.into_iter().zip(outcomes) {
            if outcome == ItemOutcome::Deferred {
                deferred.push(queued);
            } else {
                self.answer(queued, outcome);
            }
        }
        deferred
    }

    fn answer(&self, queued: Queued, outcome: ItemOutcome) {
        let Queued { item, reply, place } = queued;
        drop(place);
        match (reply, item, outcome) {
            (Reply::Hold { answer, end_place }, Item::Hold(request), ItemOutcome::Hold(outcome)) => {
                self.view.hold_ended(request.tenant, request.amount);
                note_refusal(&self.view, &request, &outcome);
                // without a queue nobody is left who could wait for the answer: the next boot closes the hold
                let Some(queue) = self.queue.upgrade() else { return };
                let result = match outcome {
                    HoldOutcome::Held => Ok(Hold::new(&request, end_place, queue)),
                    HoldOutcome::Refused(refusal) => Err(LedgerError::Refused(refusal)),
                    HoldOutcome::Duplicate => Err(LedgerError::Duplicate),
                };
                // a caller that has left drops the hold, which voids it
                drop(answer.send(result));
            }
            (Reply::Durable(answer), ..) => drop(answer.send(Ok(()))),
            _ => {}
        }
    }

    /// An item that the database will never take. A hold is answered; an end leaves its hold to be closed by age.
    fn reject(&self, queued: Vec<Queued>, error: &StoreError) {
        for Queued { item, reply, .. } in queued {
            metrics::counter!("truerelay_ledger_items_rejected_total").increment(1);
            tracing::error!(%error, request = %item.request(), "the ledger cannot write an item");
            if let Item::Hold(request) = &item {
                self.view.hold_ended(request.tenant, request.amount);
            }
            match reply {
                Reply::Hold { answer, .. } => drop(answer.send(Err(LedgerError::Rejected))),
                Reply::Durable(answer) => drop(answer.send(Err(LedgerError::Rejected))),
                Reply::Nobody => {}
            }
        }
    }
}

fn note_refusal(view: &AdmissionView, request: &HoldRequest, outcome: &HoldOutcome) {
    if let HoldOutcome::Refused(Refusal::InsufficientCredit { available }) = outcome {
        view.refused(request.tenant, *available);
    }
}

/// After these the database may have lost what it confirmed, or somebody else writes under our name.
fn is_fatal(error: &StoreError) -> bool {
    matches!(error, StoreError::Fenced(_)) || error.is_io_failure()
}

#[allow(clippy::cast_precision_loss)]
fn count(items: usize) -> f64 {
    items as f64
}

/// The name under which a boot's first batch follows.
pub const fn before_first_batch(node: uuid::Uuid, boot: uuid::Uuid) -> BatchName {
    BatchName { node, boot, number: 0 }
}
