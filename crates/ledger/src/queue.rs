//! The writer's queue. It is bounded, and a hold reserves the place of its own end: once credit is reserved,
//! giving it back can never fail for want of room.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::{
    answer::{HoldNews, HoldTeller, answer},
    batch::Item,
    error::LedgerError,
    items::{Closing, HoldRequest, Progress},
    urgency::Urgency,
};

/// What waits for the writer.
pub struct Queued {
    pub work: Work,
    /// Gives the item's place free when the item is done.
    pub place: OwnedSemaphorePermit,
    /// Since when it waits.
    pub since: Instant,
}

/// What is to be done, and whom to tell.
pub enum Work {
    /// Place a hold for the caller that waits for it.
    Hold {
        request: HoldRequest,
        answer: HoldTeller,
        end_place: OwnedSemaphorePermit,
    },
    /// Note how far an answer has come: whatever is in the cell by then.
    Progress(ProgressCell),
    /// End a request. Nobody waits for that on the request path.
    End(Closing),
    /// What an earlier boot left to be done, for a caller that wants to know that it is durable.
    Recover {
        item: Item,
        answer: oneshot::Sender<Result<(), LedgerError>>,
    },
}

/// The progress of one request that is queued and not taken yet. However often it is renewed, it waits once.
#[derive(Clone, Default)]
pub struct ProgressCell(Arc<Mutex<Option<Progress>>>);

impl ProgressCell {
    /// Puts the latest progress in. Answers whether the cell was empty, so that it must be queued.
    fn renew(&self, progress: Progress) -> bool {
        self.0.lock().is_ok_and(|mut cell| cell.replace(progress).is_none())
    }

    /// Takes what is in it.
    pub fn take(&self) -> Option<Progress> {
        self.0.lock().ok()?.take()
    }
}

/// The sending side, shared by all requests of a node.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::UnboundedSender<Queued>,
    places: Arc<Semaphore>,
    capacity: u32,
    urgency: Urgency,
}

/// The sending side as the writer has it: when everybody else has left, the queue is closed.
pub struct WeakQueue {
    sender: mpsc::WeakUnboundedSender<Queued>,
    places: Arc<Semaphore>,
    capacity: u32,
    urgency: Urgency,
}

impl WeakQueue {
    /// The queue, if anybody is left to use it.
    pub fn upgrade(&self) -> Option<Queue> {
        let sender = self.sender.upgrade()?;
        Some(Queue {
            sender,
            places: Arc::clone(&self.places),
            capacity: self.capacity,
            urgency: self.urgency.clone(),
        })
    }

    /// Who waits for the next batch.
    pub const fn urgency(&self) -> &Urgency {
        &self.urgency
    }
}

impl Queue {
    /// A queue with room for `capacity` items; the receiving side belongs to the writer.
    pub fn new(capacity: u32) -> (Self, mpsc::UnboundedReceiver<Queued>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(capacity as usize));
        (
            Self {
                sender,
                places,
                capacity,
                urgency: Urgency::default(),
            },
            receiver,
        )
    }

    /// The writer's own handle, which does not keep the queue open.
    pub fn downgrade(&self) -> WeakQueue {
        WeakQueue {
            sender: self.sender.downgrade(),
            places: Arc::clone(&self.places),
            capacity: self.capacity,
            urgency: self.urgency.clone(),
        }
    }

    /// Queues a hold; the answer comes when its batch has committed.
    pub fn push_hold(&self, request: HoldRequest) -> Result<HoldNews, LedgerError> {
        let place = self.take_place()?;
        let end_place = self.take_place()?;
        let (answer, news) = answer();
        let work = Work::Hold {
            request,
            answer,
            end_place,
        };
        self.send(work, place)?;
        Ok(news)
    }

    /// Queues progress, unless progress of the same request waits already: then that is renewed. Without room it is
    /// left out; the next one says more.
    pub fn push_progress(&self, cell: &ProgressCell, progress: Progress) {
        if !cell.renew(progress) {
            return;
        }
        let queued = self.take_place().and_then(|place| {
            let work = Work::Progress(cell.clone());
            self.send(work, place)
        });
        if queued.is_err() {
            cell.take();
        }
    }

    /// Queues an end in the place that its hold had reserved.
    pub fn push_end(&self, closing: Closing, place: OwnedSemaphorePermit) {
        let work = Work::End(closing);
        if self.send(work, place).is_err() {
            // the hold is a row: the next boot of this node closes it
            tracing::error!("the ledger writer has stopped: a request's end is left to recovery");
        }
    }

    /// Queues the cost of a request whose hold was refused after it had been sent. There is no place reserved for it.
    pub fn push_refused_cost(&self, closing: Closing) -> Result<(), LedgerError> {
        let place = self.take_place()?;
        let work = Work::End(closing);
        self.send(work, place)
    }

    /// Queues what has no hold of this process (recovery), and answers when it is durable.
    pub async fn push_recovered(&self, item: Item) -> Result<oneshot::Receiver<Result<(), LedgerError>>, LedgerError> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| LedgerError::Stopped)?;
        let (answer, receiver) = oneshot::channel();
        let work = Work::Recover { item, answer };
        self.send(work, place)?;
        self.urgency.hurry();
        Ok(receiver)
    }

    fn take_place(&self) -> Result<OwnedSemaphorePermit, LedgerError> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| LedgerError::Overloaded)
    }

    fn send(&self, work: Work, place: OwnedSemaphorePermit) -> Result<(), LedgerError> {
        let since = Instant::now();
        let queued = Queued { work, place, since };
        self.sender.send(queued).map_err(|_| LedgerError::Stopped)
    }

    /// Says that somebody waits for what is queued.
    pub const fn urgency(&self) -> &Urgency {
        &self.urgency
    }

    /// Waits until nothing is queued and no hold is open on this node.
    pub async fn idle(&self) {
        let _all = self.places.acquire_many(self.capacity).await;
    }

    /// Items queued and ends reserved.
    pub fn depth(&self) -> usize {
        (self.capacity as usize).saturating_sub(self.places.available_permits())
    }
}
