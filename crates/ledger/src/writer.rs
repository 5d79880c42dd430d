//! The writer: the one task of a node that writes holds and charges. Whatever has queued by the time that somebody waits
//! for it, or that the oldest has waited for a moment, is the next batch; one batch is in flight.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use domain::request::Reason;
use store::StoreError;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    HoldRequest, LedgerClock, Refusal,
    admission::AdmissionView,
    batch::{Batch, Committed, Item, ItemOutcome},
    error::LedgerError,
    health::{Health, STALLED_AFTER},
    hold::Hold,
    items::{Closing, End},
    ledger_store::{LedgerStore, NodeIdentity},
    outage::Outage,
    queue::{Queued, WeakQueue},
    resend::send_until_known,
    rules::{BatchName, HoldOutcome},
    spool::SpoolError,
    waiting::{Reply, Tag, Waiting},
};

/// The most items in one transaction.
const MAX_BATCH_ITEMS: usize = 500;
/// Room that is always left for what has just arrived, however much waits for tenants that are locked.
const MIN_FRESH_ITEMS: usize = 100;

/// Everything that the writer works with.
pub struct Writer {
    store: Arc<dyn LedgerStore>,
    node: NodeIdentity,
    queue: WeakQueue,
    received: mpsc::UnboundedReceiver<Queued>,
    view: Arc<AdmissionView>,
    clock: Arc<LedgerClock>,
    health: Arc<Health>,
    outage: Outage,
    /// The number of the next batch is one more.
    last_batch: i64,
    /// Taken from the queue and not written yet. What was left out of the last batch stands first.
    backlog: VecDeque<Waiting>,
    /// How many were left out of the last batch.
    deferred: usize,
    /// The most items of the next batch: fewer after one that could not be written, until its culprit stands alone.
    batch_limit: usize,
}

/// What a writer is made of.
pub struct WriterParts {
    pub store: Arc<dyn LedgerStore>,
    pub node: NodeIdentity,
    pub queue: WeakQueue,
    pub received: mpsc::UnboundedReceiver<Queued>,
    pub view: Arc<AdmissionView>,
    pub clock: Arc<LedgerClock>,
    pub health: Arc<Health>,
    pub outage: Outage,
}

/// Why the writer ended. Either way the process must end: nothing else may write charges.
#[derive(Debug, thiserror::Error)]
pub enum WriterEnd {
    /// The queue was closed: an orderly stop.
    #[error("the ledger's queue was closed")]
    Closed,
    /// The database can no longer be trusted to keep what it confirms.
    #[error("the ledger's store has failed: {0}")]
    Failed(#[from] StoreError),
    /// The disk can no longer be trusted to keep what it confirms.
    #[error("the ledger's spool has failed: {0}")]
    SpoolFailed(#[from] SpoolError),
}

impl Writer {
    pub fn new(parts: WriterParts) -> Self {
        Self {
            store: parts.store,
            node: parts.node,
            queue: parts.queue,
            received: parts.received,
            view: parts.view,
            clock: parts.clock,
            health: parts.health,
            outage: parts.outage,
            last_batch: 0,
            backlog: VecDeque::new(),
            deferred: 0,
            batch_limit: MAX_BATCH_ITEMS,
        }
    }

    /// Runs until the queue is closed or the store fails for good.
    pub async fn run(mut self) -> WriterEnd {
        loop {
            if self.backlog.is_empty() && !self.receive().await {
                return WriterEnd::Closed;
            }
            let next = self.next_items();
            let written = match self.commit(next).await {
                Ok(()) => self.outage.clear_if_done(),
                Err(end) => return end,
            };
            if let Err(error) = written {
                return error.into();
            }
        }
    }

    /// Waits for something to do, and for more of it while nobody waits; `false` when there will never be anything.
    async fn receive(&mut self) -> bool {
        while let Some(queued) = self.received.recv().await {
            let since = queued.since;
            if let Some(waiting) = Waiting::received(queued) {
                self.backlog.push_back(waiting);
                self.queue.urgency().gather(since).await;
                return true;
            }
        }
        false
    }

    /// Whatever has queued, up to a batch.
    fn next_items(&mut self) -> Vec<Waiting> {
        let limit = if self.batch_limit < MAX_BATCH_ITEMS {
            self.batch_limit
        } else {
            MAX_BATCH_ITEMS.max(self.deferred + MIN_FRESH_ITEMS)
        };
        while self.backlog.len() < limit
            && let Ok(queued) = self.received.try_recv()
        {
            self.backlog.extend(Waiting::received(queued));
        }
        self.deferred = 0;
        let taken = limit.min(self.backlog.len());
        self.backlog.drain(..taken).collect()
    }

    /// Commits one batch and answers whoever waits; what was left out because of a lock goes first into the next.
    async fn commit(&mut self, waiting: Vec<Waiting>) -> Result<(), WriterEnd> {
        let (items, mut tags): (Vec<Item>, Vec<Tag>) = waiting.into_iter().map(|w| (w.item, w.tag)).unzip();
        let batch = Batch {
            name: BatchName {
                node: self.node.id.as_uuid(),
                boot: self.node.boot,
                number: self.last_batch + 1,
            },
            items,
        };
        self.health.batch_started();
        let result = self.apply_until_known(&batch, &mut tags).await;
        self.health.batch_ended();
        let waiting = batch
            .items
            .into_iter()
            .zip(tags)
            .map(|(item, tag)| Waiting { item, tag });
        match result {
            Ok(committed) => {
                self.last_batch = batch.name.number;
                self.batch_limit = (self.batch_limit * 2).min(MAX_BATCH_ITEMS);
                self.learn(&committed);
                self.answer_all(waiting.zip(committed.outcomes).collect());
                Ok(())
            }
            Err(WriterEnd::Failed(error)) if error.is_data_error() => {
                self.seek_culprit(waiting.collect(), &error).await;
                Ok(())
            }
            Err(end) => Err(end),
        }
    }

    /// Sends the batch until its outcome is known. If that takes too long the database is taken for away: holds are
    /// withdrawn, and everything else is kept on disk as well, what arrives meanwhile included.
    async fn apply_until_known(&mut self, batch: &Batch, tags: &mut [Tag]) -> Result<Committed, WriterEnd> {
        let store = Arc::clone(&self.store);
        let mut known = pin!(send_until_known(&*store, batch));
        let away_at = Instant::now() + STALLED_AFTER;
        let mut is_away = false;
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                result = &mut known => return Ok(result?),
                () = tokio::time::sleep_until(away_at), if !is_away => {
                    is_away = true;
                    self.outage.begin(&batch.items, tags, &mut self.backlog, &self.view)?;
                }
                queued = self.received.recv(), if is_away && is_open => match queued {
                    None => is_open = false,
                    Some(first) => self.put_away(first)?,
                },
            }
        }
    }

    /// Takes what has queued while the database is away, with one synchronisation of the disk for all of it.
    fn put_away(&mut self, first: Queued) -> Result<(), SpoolError> {
        let mut arrived: VecDeque<Waiting> = Waiting::received(first).into_iter().collect();
        while let Ok(queued) = self.received.try_recv() {
            arrived.extend(Waiting::received(queued));
        }
        self.outage.put_away(&mut arrived, &self.view)?;
        self.backlog.append(&mut arrived);
        Ok(())
    }

    /// One item of the batch cannot be written: all others must not suffer for it. All of it is tried again, in order
    /// and in smaller batches, until the item stands alone. Meanwhile it waits like everything else, so that an outage
    /// finds it.
    async fn seek_culprit(&mut self, mut waiting: Vec<Waiting>, error: &StoreError) {
        if waiting.len() > 1 {
            self.batch_limit = waiting.len() / 2;
            self.put_first(waiting);
            return;
        }
        if let Some(record) = waiting.first_mut().and_then(|waiting| record_of(&mut waiting.item))
            && record.take().is_some()
        {
            // money goes before the log: a record that cannot be kept must not keep a charge from being made
            metrics::counter!("truerelay_ledger_records_lost_total").increment(1);
            tracing::error!(%error, "an item is written without its request-log record");
            self.put_first(waiting);
            return;
        }
        for culprit in waiting {
            self.reject(culprit, error).await;
        }
    }

    fn put_first(&mut self, waiting: Vec<Waiting>) {
        for waiting in waiting.into_iter().rev() {
            self.backlog.push_front(waiting);
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

    fn answer_all(&mut self, answered: Vec<(Waiting, ItemOutcome)>) {
        let mut deferred = Vec::new();
        for (waiting, outcome) in answered {
            if outcome == ItemOutcome::Deferred {
                deferred.push(waiting);
            } else {
                self.answer(waiting, outcome);
            }
        }
        self.deferred = deferred.len();
        self.put_first(deferred);
    }

    fn answer(&mut self, waiting: Waiting, outcome: ItemOutcome) {
        let Waiting { item, tag } = waiting;
        self.outage.item_done(&tag);
        drop(tag.place);
        match (tag.reply, item, outcome) {
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
                answer.tell(result);
            }
            (Reply::Withdrawn, Item::Hold(request), ItemOutcome::Hold(HoldOutcome::Held)) => {
                self.backlog
                    .push_back(Waiting::own(Item::Close(end_of_withdrawn(&request))));
            }
            (Reply::Durable(answer), ..) => drop(answer.send(Ok(()))),
            _ => {}
        }
    }

    /// An item that the database will never take goes where somebody looks at it. A hold is answered; an end leaves
    /// its hold to be closed by age.
    async fn reject(&mut self, culprit: Waiting, error: &StoreError) {
        let Waiting { item, tag } = culprit;
        self.outage.item_done(&tag);
        metrics::counter!("truerelay_ledger_items_rejected_total").increment(1);
        tracing::error!(%error, request = %item.request(), "the ledger cannot write an item: it goes into quarantine");
        if let Err(lost) = self.store.quarantine(&self.node, &item, error).await {
            metrics::counter!("truerelay_ledger_items_lost_total").increment(1);
            tracing::error!(error = %lost, request = %item.request(), "the quarantine cannot keep it either");
        }
        match tag.reply {
            Reply::Hold { answer, .. } => {
                if let Item::Hold(request) = &item {
                    self.view.hold_ended(request.tenant, request.amount);
                }
                answer.tell(Err(LedgerError::Rejected));
            }
            Reply::Durable(answer) => drop(answer.send(Err(LedgerError::Rejected))),
            Reply::Withdrawn | Reply::Nobody => {}
        }
    }
}

fn note_refusal(view: &AdmissionView, request: &HoldRequest, outcome: &HoldOutcome) {
    if let HoldOutcome::Refused(Refusal::InsufficientCredit { available }) = outcome {
        view.refused(request.tenant, *available);
    }
}

fn record_of(item: &mut Item) -> Option<&mut Option<Box<domain::request::RequestRecord>>> {
    match item {
        Item::Hold(_) => None,
        Item::Progress(progress) => Some(&mut progress.record),
        Item::Close(closing) => Some(&mut closing.record),
    }
}

/// Its caller has been told that the database is away: nothing of an answer was handed out.
fn end_of_withdrawn(request: &HoldRequest) -> Closing {
    Closing {
        request: request.request,
        tenant: request.tenant,
        key: request.key,
        reason: Reason::LedgerUnavailable,
        end: End::Void,
        unbilled: Vec::new(),
        record: None,
    }
}

#[allow(clippy::cast_precision_loss)]
fn count(items: usize) -> f64 {
    items as f64
}
