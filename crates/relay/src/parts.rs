//! What a request works with. Every part is made by the server and shared by its workers.

use std::sync::Arc;

use accounts::CallerCache;
use catalog::CatalogCache;
use ledger::Ledger;
use outbound::UpstreamClient;
use rate_limiter::RateLimiter;
use store::{Database, keyring::ServerKey};

use crate::{
    background::Background, budgets::BudgetView, gate::Gate, price_list::PriceList, public_reading::PublicReadings,
    retry_budget::RetryBudget, settings::RelaySettings,
};

/// The parts that all workers of a node share.
pub struct RelayParts {
    /// For reading: keys that are not cached, balances, the request log.
    pub database: Database,
    /// Holds and charges.
    pub ledger: Ledger,
    /// What budgets leave, as far as this node remembers.
    pub budgets: BudgetView,
    /// Models, offers, prices, and which credentials are out for a while.
    pub catalog: Arc<CatalogCache>,
    /// Virtual keys.
    pub callers: Arc<CallerCache>,
    /// Hashes presented keys.
    pub pepper: ServerKey,
    /// Request limits.
    pub limiter: Arc<RateLimiter>,
    /// Counts requests, and closes for a drain.
    pub gate: Gate,
    /// Work that outlives its request.
    pub background: Background,
    /// How many requests may be tried again at once.
    pub retries: RetryBudget,
    /// The price list as it was rendered last.
    pub price_list: PriceList,
    /// How much of the database everybody may read at once.
    pub readings: PublicReadings,
    /// Limits.
    pub settings: RelaySettings,
}

/// The parts of one worker: what all share, and its own connections to providers.
pub struct Relay {
    /// Shared.
    pub parts: Arc<RelayParts>,
    /// Connections live on the worker that uses them.
    pub client: UpstreamClient,
}
