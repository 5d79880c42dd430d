//! What the writer has taken from the queue and not written yet: an item, and whom to tell.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    answer::HoldTeller,
    batch::Item,
    error::LedgerError,
    queue::{Queued, Work},
};

/// An item that waits to be written.
pub struct Waiting {
    pub item: Item,
    pub tag: Tag,
}

/// What belongs to an item and is not for the database.
pub struct Tag {
    pub reply: Reply,
    /// Gives the item's place in the queue free when the item is done, or safe on disk.
    pub place: Option<OwnedSemaphorePermit>,
    /// The item is in the spool too, until it is done.
    pub is_spooled: bool,
}

/// Whom to tell.
pub enum Reply {
    /// The caller that waits for its hold, and the place of its end.
    Hold {
        answer: HoldTeller,
        end_place: OwnedSemaphorePermit,
    },
    /// The caller has been told that the database is away. Should the hold have been placed all the same, it must end.
    Withdrawn,
    /// Nobody.
    Nobody,
    /// A caller that wants to know that the item is durable.
    Durable(oneshot::Sender<Result<(), LedgerError>>),
}

impl Waiting {
    /// What was queued; `None` for progress that has been taken already.
    pub fn received(queued: Queued) -> Option<Self> {
        let (item, reply) = match queued.work {
            Work::Hold {
                request,
                answer,
                end_place,
            } => (Item::Hold(request), Reply::Hold { answer, end_place }),
            Work::Progress(cell) => (Item::Progress(cell.take()?), Reply::Nobody),
            Work::End(closing) => (Item::Close(closing), Reply::Nobody),
            Work::Recover { item, answer } => (item, Reply::Durable(answer)),
        };
        Some(Self {
            item,
            tag: Tag {
                reply,
                place: Some(queued.place),
                is_spooled: false,
            },
        })
    }

    /// An item of the writer's own.
    pub const fn own(item: Item) -> Self {
        Self {
            item,
            tag: Tag {
                reply: Reply::Nobody,
                place: None,
                is_spooled: false,
            },
        }
    }
}
