//! What the rules go by, and what they may do about it. The server implements it with the crates that own the rows.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::{Amount, OfferId, RequestId, TenantId, clock::UnixMs};
use store::{StoreError, Tx, audit::Actor};
use uuid::Uuid;

/// A request that another model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitution {
    /// The request.
    pub request: RequestId,
    /// Whose it was.
    pub tenant: TenantId,
    /// When it was admitted.
    pub admitted_at: UnixMs,
    /// The offer that was to serve it.
    pub offer: OfferId,
    /// The provider's slug.
    pub provider: String,
    /// The model that was sold.
    pub model: String,
    /// What the upstream named instead. It may be anything: not for the public.
    pub reported: String,
}

/// A request that one provider or several have failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The request.
    pub request: RequestId,
    /// Whose it was.
    pub tenant: TenantId,
    /// When it ended.
    pub ended_at: UnixMs,
    /// The slug of each provider that failed it, each once, and whether it was its answer that was relayed.
    pub providers: Vec<(String, bool)>,
}

/// A transparency log that began because the one before it could not be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartedLog {
    /// Its id.
    pub log: Uuid,
    /// The id of the one before it.
    pub before: Uuid,
    /// When it began.
    pub began_at: UnixMs,
    /// Why, as everybody may read it in `GET /v1/log`.
    pub reason: String,
}

/// The rows that the rules go by.
#[async_trait]
pub trait Evidence: Send + Sync {
    /// Requests that another model answered, admitted since, in the order of their ids.
    async fn substitutions(
        &self,
        since: UnixMs,
        after: Option<RequestId>,
        limit: u32,
    ) -> Result<Vec<Substitution>, StoreError>;

    /// Requests that an upstream has failed, admitted since, the newest first.
    async fn failures(&self, since: UnixMs, before: Option<RequestId>, limit: u32) -> Result<Vec<Failure>, StoreError>;

    /// How many requests a provider's answer won that were admitted since the first instant and ended since the second; it
    /// stops to count at a number.
    async fn won(&self, provider: &str, admitted: UnixMs, ended: UnixMs, at_most: u64) -> Result<u64, StoreError>;

    /// What requests were charged.
    async fn charged(&self, requests: &[RequestId]) -> Result<HashMap<RequestId, Amount>, StoreError>;

    /// What the ledger booked as owed to a provider in a period.
    async fn booked(&self, provider: &str, from: UnixMs, to: UnixMs) -> Result<Amount, StoreError>;

    /// When an offer was last put up for sale again, since an instant; `None` when it was not.
    async fn put_back_at(&self, tx: &Tx, offer: OfferId, since: UnixMs) -> Result<Option<UnixMs>, StoreError>;

    /// Every transparency log but the first, in order.
    async fn restarted_logs(&self) -> Result<Vec<RestartedLog>, StoreError>;

    /// Takes an offer out of sale on every node, in the caller's transaction. Answers whether it was for sale.
    async fn take_out(&self, tx: &Tx, actor: &Actor, offer: OfferId) -> Result<bool, StoreError>;

    /// What was taken out is durable: this node need not wait for its poll.
    async fn taken_out(&self);
}
