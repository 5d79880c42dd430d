//! A batch: what one transaction of the writer carries, and what came of it.

use std::collections::BTreeMap;

use domain::{Amount, RequestId, TenantId, clock::UnixMs};

use crate::{
    items::{Closing, HoldRequest, Progress},
    rules::{BatchName, HoldOutcome},
};

/// One thing to do. Items of one request apply in the order in which they were queued.
#[derive(Debug, Clone)]
pub enum Item {
    /// Reserve credit.
    Hold(HoldRequest),
    /// Note how far an answer has come.
    Progress(Progress),
    /// End a request.
    Close(Closing),
}

impl Item {
    /// The request.
    pub const fn request(&self) -> RequestId {
        match self {
            Self::Hold(hold) => hold.request,
            Self::Progress(progress) => progress.request,
            Self::Close(closing) => closing.request,
        }
    }

    /// Who pays.
    pub const fn tenant(&self) -> TenantId {
        match self {
            Self::Hold(hold) => hold.tenant,
            Self::Progress(progress) => progress.tenant,
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
    /// The progress was noted, or came after the end.
    Noted,
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
