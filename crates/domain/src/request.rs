//! What happened to one request, in the words that ledger, request log and API share.

use std::fmt;

pub use crate::refund_rules::{Reason, UnknownReason};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Amount, CredentialId, KeyId, OfferId, PoolId, RequestId, TenantId,
    clock::UnixMs,
    pricing::{Circumstances, Multipliers, PinnedRegion, SearchContext, ServiceTier},
    usage::{Usage, UsageSource},
};

/// The dialect in which a client speaks, and in which it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI Chat Completions.
    OpenaiChat,
    /// Anthropic Messages.
    AnthropicMessages,
}

impl Dialect {
    /// The name of the wire format, as the catalog's `apis` spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai_chat",
            Self::AnthropicMessages => "anthropic_messages",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One try of a request against one credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The offer that was tried.
    pub offer: OfferId,
    /// The pool whose credential was used.
    pub pool: PoolId,
    /// The credential that was used.
    pub credential: CredentialId,
    /// The provider's slug.
    pub provider: String,
    /// The upstream's HTTP status; `None` when no head arrived.
    pub status: Option<u16>,
    /// How the attempt ended: `won`, or a code such as `connect_failed`, `first_byte_timeout`, `status_429`.
    pub outcome: String,
    /// From dispatch to the head or to the failure, in milliseconds.
    pub elapsed_ms: u32,
}

/// One line of a charge: a quantity of one class at one price, exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeLine {
    /// The usage class, as the catalog's price keys spell it.
    pub class: String,
    /// Tokens, images, seconds, searches: whole units of the class.
    pub quantity: u64,
    /// The price key that applied after fallbacks.
    pub price_key: String,
    /// The exact amount before multipliers, in nano-USD, as a decimal string or a fraction `a/b`.
    pub nano_usd_exact: String,
}

/// Everything the request log keeps of one request. It holds no prompt, no completion and no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The request.
    pub id: RequestId,
    /// Whose request it was.
    pub tenant: TenantId,
    /// With which virtual key.
    pub key: KeyId,
    /// The dialect of the client.
    pub dialect: Dialect,
    /// The model name that the client sent.
    pub requested_model: String,
    /// The catalog's model id.
    pub model: String,
    /// The model that the upstream reported; `None` when it reported none.
    pub served_model: Option<String>,
    /// The provider's slug of the winning attempt.
    pub provider: Option<String>,
    /// The pool of the winning attempt.
    pub pool: Option<PoolId>,
    /// The offer of the winning attempt.
    pub offer: Option<OfferId>,
    /// The price-book version that the request was admitted with.
    pub price_version: i64,
    /// The multiplier product that was applied, as a decimal string.
    pub multiplier: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// The HTTP status that the client got.
    pub status: u16,
    /// How it ended.
    pub reason: Reason,
    /// Usage in disjoint classes.
    pub usage: Usage,
    /// Who counted the usage.
    pub usage_source: UsageSource,
    /// Things worth knowing: `usage_inconsistent`, `estimated`, `overrun`, ...
    pub flags: Vec<String>,
    /// The charge, line by line.
    pub lines: Vec<ChargeLine>,
    /// What was held.
    pub held: Amount,
    /// When the request was admitted.
    pub started_at: UnixMs,
    /// From admission to the first byte of the answer, in milliseconds.
    pub first_byte_ms: Option<u32>,
    /// From admission to the end, in milliseconds.
    pub duration_ms: u32,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptRecord>,
    /// What decided the price beside the usage; `None` in records of earlier releases, and without a charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priced_by: Option<PricedBy>,
    /// SHA-256 of the body that the client sent, in hexadecimal digits; `None` in records of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_sha256: Option<String>,
    /// SHA-256 of the answer as it was relayed, in hexadecimal digits: up to where the client left, without an error event
    /// of ours behind it. `None` where nothing was relayed, for requests that recovery ended, and as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_sha256: Option<String>,
    /// The budgets in which the charge was counted: a correction counts it there no more. None in records of earlier
    /// releases, and of requests without a budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetKey>,
}

/// A budget in one period: one scope (a virtual key or a tenant) from one instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BudgetKey {
    /// Whose budget.
    pub scope: Uuid,
    /// When the period began.
    pub period_start: UnixMs,
}

/// What decides what a request costs, beside usage and price version: with these three the charge can be computed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedBy {
    /// The customer's tier; empty without one.
    pub tier: String,
    /// The factors that were applied.
    pub multipliers: Multipliers,
    /// The tier of service that the provider says it applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    /// The region that the request was pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<PinnedRegion>,
    /// Whether the thinking mode was on.
    pub thinking: bool,
    /// How much of the web it searched.
    pub search_context: SearchContext,
    /// The instant that chose the time window.
    pub completed_at: UnixMs,
}

impl PricedBy {
    /// As the pricing rules take it.
    pub fn circumstances(&self) -> Circumstances {
        Circumstances {
            service_tier: self.service_tier,
            region: self.region,
            thinking: self.thinking,
            search_context: self.search_context,
            ..Circumstances::at(self.completed_at)
        }
    }
}
