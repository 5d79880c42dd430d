//! What, besides usage, decides the price of a finished request.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;

/// A service tier with a card of its own. The ordinary tier is the absence of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    /// OpenAI `service_tier: flex`.
    Flex,
    /// OpenAI `service_tier: priority`.
    Priority,
    /// OpenAI `service_tier: ultrafast`.
    Ultrafast,
    /// Anthropic `speed: fast`.
    Fast,
}

impl ServiceTier {
    /// The tier as the wire formats and the catalog spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Ultrafast => "ultrafast",
            Self::Fast => "fast",
        }
    }

    /// The tier that a response names; `None` for the ordinary one (`default`, `standard`) and for names that no
    /// card can have.
    pub fn named(text: &str) -> Option<Self> {
        [Self::Flex, Self::Priority, Self::Ultrafast, Self::Fast]
            .into_iter()
            .find(|tier| tier.as_str() == text)
    }
}

/// A region to which a request is pinned at its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinnedRegion {
    /// The United States.
    Us,
    /// The European Union.
    Eu,
}

/// How much of the web a searching model reads per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchContext {
    /// The least; what a request without the setting gets.
    #[default]
    Low,
    /// The middle.
    Medium,
    /// The most.
    High,
}

/// How a request was served. `Circumstances::at(completed_at)` is the ordinary case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// When the request completed: chooses the time window, as providers bill.
    pub completed_at: UnixMs,
    /// The tier named by the response, not the one that was asked for.
    pub service_tier: Option<ServiceTier>,
    /// The region to which the request was pinned.
    pub region: Option<PinnedRegion>,
    /// Whether it ran in a batch.
    pub batch: bool,
    /// Whether thinking was switched on, for models that price the whole output by it.
    pub thinking: bool,
    /// The search context, for models with a fee per request.
    pub search_context: SearchContext,
    /// `quality/size` of images that are priced each.
    pub image_variant: Option<String>,
}

impl Circumstances {
    /// An ordinary request that completed at the given instant.
    pub const fn at(completed_at: UnixMs) -> Self {
        Self {
            completed_at,
            service_tier: None,
            region: None,
            batch: false,
            thinking: false,
            search_context: SearchContext::Low,
            image_variant: None,
        }
    }
}
