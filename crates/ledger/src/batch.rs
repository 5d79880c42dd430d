//! A batch: what one transaction of the writer carries, and what came of it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::{Amount, RequestId, TenantId, clock::UnixMs};
use store::StoreError;

use crate::{
    items::{Closing, HoldRequest},
    rules::{BatchName, HoldOutcome},
};

/// One thing to do. Items of one request apply in the order in which they were queued.
#[derive(Debug, Clone)]
pub enum Item {
    /// Reserve credit.
    Hold(HoldRequest),
    /// End a request.
    Close(Closing),
}

impl Item {
    /// The request.
    pub const fn request(&self) -> RequestId {
        match self {
            Self::Hold(hold) => hold.request,
            Self::Close(closing) => closing.request,
        }
    }

    /// Who pays.
    pub const fn tenant(&self) -> TenantId {
        match self {
            Self::Hold(hold) => hold.tenant,
            Self::Close(closing) => closing.tenant,
        }
    }
}

/// Items that commit together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Node, boot and number: the same batch sent again is recognised by it.
    pub name: BatchName,
    /// In order of arrival.
    pub items: Vec<Item>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemOutcome {
    /// Of a hold.
    Hold(HoldOutcome),
    /// A closing was written, or had been.
    Closed,
    /// Its tenant was locked by somebody else: it goes into the next batch.
    Deferred,
}

/// What a committed batch tells.
#[derive(Debug, Clone)]
pub struct Committed {
    /// One for each item, in order.
    pub outcomes: Vec<ItemOutcome>,
    /// What the touched tenants have available now.
    pub available: BTreeMap<TenantId, Amount>,
    /// The database's clock at the commit.
    pub now: UnixMs,
    /// Requests that were closed without a hold.
    pub orphans: Vec<RequestId>,
}

/// How the writer waits for tenants that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// Wait for the lock, as long as the database lets us.
    Wait,
    /// Leave out whoever is locked.
    SkipLocked,
}

/// Where batches go. The database implements it; so may a simulation.
#[async_trait]
pub trait BatchStore: Send + Sync {
    /// Applies a batch in one transaction. A batch that had been applied before answers what came of it then.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when a lock was not to be had, a data error when an item cannot be written, anything
    /// else when the outcome is unknown: send the same batch again.
    async fn apply(&self, batch: &Batch, locking: Locking) -> Result<Committed, StoreError>;
}
