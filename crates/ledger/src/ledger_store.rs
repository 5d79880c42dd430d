//! The seam to the database: everything that the writer, admission and recovery ask of it. The tables implement it
//! ([`crate::SqlBatchStore`]), and so does the model of a database that the simulation runs on.

use std::time::Duration;

use async_trait::async_trait;
use domain::{Amount, NodeId, RequestId, TenantId, clock::UnixMs};
use store::StoreError;
use uuid::Uuid;

use crate::{
    batch::{Batch, Committed, Item, Locking},
    items::AbandonedHold,
};

/// Which node this is, and which of its boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Kept in the node's data folder.
    pub id: NodeId,
    /// New at every start.
    pub boot: Uuid,
}

/// Holds that nobody will end any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// Of earlier boots of this node.
    EarlierBoots(NodeIdentity),
    /// Of anybody, placed longer ago than this.
    OlderThan(Duration),
    /// Of nodes that an operator has retired, placed before that.
    Retired,
}

/// What is kept in the database.
#[async_trait]
pub trait LedgerStore: Send + Sync {
    /// Registers a boot, whose first batch has number 1. Answers the database's clock.
    ///
    /// # Errors
    /// What the database says.
    async fn register_boot(&self, node: &NodeIdentity) -> Result<UnixMs, StoreError>;

    /// Applies a batch in one transaction. A batch that had been applied before answers what came of it then. Progress
    /// below what has been noted already is left out.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when a lock was not to be had, a data error when an item cannot be written, anything
    /// else when the outcome is unknown: send the same batch again.
    async fn apply(&self, batch: &Batch, locking: Locking) -> Result<Committed, StoreError>;

    /// Keeps an item that can never be written for somebody to look at.
    ///
    /// # Errors
    /// What the database says.
    async fn quarantine(&self, node: &NodeIdentity, item: &Item, error: &StoreError) -> Result<(), StoreError>;

    /// One page of abandoned holds, in order of request ids, after the given one.
    ///
    /// # Errors
    /// What the database says.
    async fn abandoned(&self, which: Abandoned, after: RequestId, limit: u32)
    -> Result<Vec<AbandonedHold>, StoreError>;

    /// What the tenant has available.
    ///
    /// # Errors
    /// What the database says.
    async fn available(&self, tenant: TenantId) -> Result<Amount, StoreError>;

    /// The database's clock.
    ///
    /// # Errors
    /// What the database says.
    async fn now(&self) -> Result<UnixMs, StoreError>;
}
