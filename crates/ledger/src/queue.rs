//! The writer's queue. It is bounded, and a hold reserves the place of its own end: once credit is reserved,
//! giving it back can never fail for want of room.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    batch::Item,
    error::LedgerError,
    hold::Hold,
    items::{Closing, HoldRequest},
};

/// What waits for the writer.
pub struct Queued {
    pub item: Item,
    pub reply: Reply,
    /// Gives the item's place free when the item is done.
    pub place: OwnedSemaphorePermit,
}

/// Whom to tell.
pub enum Reply {
    /// The caller that waits for its hold, and the place of its end.
    Hold {
        answer: oneshot::Sender<Result<Hold, LedgerError>>,
        end_place: OwnedSemaphorePermit,
    },
    /// Nobody: an end is never waited for on the request path.
    Nobody,
    /// A caller that wants to know that the end is durable.
    Durable(oneshot::Sender<Result<(), LedgerError>>),
}

/// The sending side, shared by all requests of a node.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::UnboundedSender<Queued>,
    places: Arc<Semaphore>,
    capacity: u32,
}

/// The sending side as the writer has it: when everybody else has left, the queue is closed.
pub struct WeakQueue {
    sender: mpsc::WeakUnboundedSender<Queued>,
    places: Arc<Semaphore>,
    capacity: u32,
}

impl WeakQueue {
    /// The queue, if anybody is left to use it.
    pub fn upgrade(&self) -> Option<Queue> {
        let sender = self.sender.upgrade()?;
        Some(Queue {
            sender,
            places: Arc::clone(&self.places),
            capacity: self.capacity,
        })
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
        }
    }

    /// Queues a hold; the answer comes when its batch has committed.
    pub fn push_hold(&self, request: HoldRequest) -> Result<oneshot::Receiver<Result<Hold, LedgerError>>, LedgerError> {
        let take = || {
            Arc::clone(&self.places)
                .try_acquire_owned()
                .map_err(|_| LedgerError::Overloaded)
        };
        let place = take()?;
        let end_place = take()?;
        let (answer, receiver) = oneshot::channel();
        let reply = Reply::Hold { answer, end_place };
        self.send(Queued {
            item: Item::Hold(request),
            reply,
            place,
        })?;
        Ok(receiver)
    }

    /// Queues an end in the place that its hold had reserved.
    pub fn push_end(&self, closing: Closing, place: OwnedSemaphorePermit) {
        let queued = Queued {
            item: Item::Close(closing),
            reply: Reply::Nobody,
            place,
        };
        if self.send(queued).is_err() {
            // the hold is a row: the next boot of this node closes it
            tracing::error!("the ledger writer has stopped: a request's end is left to recovery");
        }
    }

    /// Queues the cost of a request whose hold was refused after it had been sent. There is no place reserved for it.
    pub fn push_refused_cost(&self, closing: Closing) -> Result<(), LedgerError> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| LedgerError::Overloaded)?;
        self.send(Queued {
            item: Item::Close(closing),
            reply: Reply::Nobody,
            place,
        })
    }

    /// Queues an end that has no hold of this process (recovery), and answers when it is durable.
    pub async fn push_recovered(
        &self,
        closing: Closing,
    ) -> Result<oneshot::Receiver<Result<(), LedgerError>>, LedgerError> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| LedgerError::Stopped)?;
        let (answer, receiver) = oneshot::channel();
        self.send(Queued {
            item: Item::Close(closing),
            reply: Reply::Durable(answer),
            place,
        })?;
        Ok(receiver)
    }

    fn send(&self, queued: Queued) -> Result<(), LedgerError> {
        self.sender.send(queued).map_err(|_| LedgerError::Stopped)
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
