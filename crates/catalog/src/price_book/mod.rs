//! The price book: every list price and every multiplier, in versions that are only ever added.
//!
//! A version says what changes and from when. Versions take effect in the order of their instants, and of their numbers
//! where instants are the same; a cancelled one never does. So the price at any instant is well defined: it is what was
//! said last, in that order, up to then. A version is published before its instant, and cancelled well before it: what
//! held at a past instant never changes any more.

mod book;
mod cancel;
mod history;
mod listing;
mod model_history;
mod notice;
mod points;
mod preview;
mod publish;
mod rows;
mod timeline;

use std::sync::Arc;

use domain::{
    OfferId, PoolId,
    clock::UnixMs,
    pricing::{Multiplier, PriceEntry},
};
use serde::{Deserialize, Serialize};

pub(crate) use book::{PriceBook, Terms, step_at};
pub use cancel::{MIN_CANCEL_LEAD_MS, cancel_version};
pub(crate) use history::newest_items;
pub use history::{get_price_version, list_price_versions, price_at, price_history};
pub use listing::{ListedModel, ListedOffer, ListedPrice, ListedTier, PriceListing, listing_at};
pub(crate) use listing::{OfferNames, head as listing_head, listed_model, listed_offer};
pub use model_history::{HistoryOffer, HistoryPrice, ModelPriceHistory, model_price_history};
pub use notice::NoticePeriod;
pub(crate) use points::price_points;
pub use preview::{PricePreview, preview_prices};
pub use publish::{MIN_LEAD_MS, publish};
pub(crate) use rows::{BookRows, BookSpan, VersionPoint};
pub(crate) use timeline::Timeline;

/// What a line of the price book is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceKind {
    /// The list price of an offer; the subject is the offer's id.
    OfferPrice,
    /// The multiplier of a pool; the subject is the pool's id.
    PoolMultiplier,
    /// The multiplier of one model in a pool, in place of the pool's; the subject is `pool id|model id`.
    ModelMultiplier,
    /// The multiplier of a customer tier; the subject is the tier's name.
    TierMultiplier,
    /// A promotion's multiplier on a pool; the subject is the pool's id.
    PromotionMultiplier,
    /// What the operator pays in a pool relative to list price; the subject is the pool's id. Never public.
    CostMultiplier,
}

impl PriceKind {
    const ALL: [Self; 6] = [
        Self::OfferPrice,
        Self::PoolMultiplier,
        Self::ModelMultiplier,
        Self::TierMultiplier,
        Self::PromotionMultiplier,
        Self::CostMultiplier,
    ];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OfferPrice => "offer_price",
            Self::PoolMultiplier => "pool_multiplier",
            Self::ModelMultiplier => "model_multiplier",
            Self::TierMultiplier => "tier_multiplier",
            Self::PromotionMultiplier => "promotion_multiplier",
            Self::CostMultiplier => "cost_multiplier",
        }
    }

    fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One change to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PriceChange {
    /// The list price of an offer.
    OfferPrice {
        /// The offer.
        offer: OfferId,
        /// Its prices.
        price: Arc<PriceEntry>,
    },
    /// The multiplier of a pool.
    PoolMultiplier {
        /// The pool.
        pool: PoolId,
        /// What customers pay relative to list price.
        multiplier: Multiplier,
    },
    /// The multiplier of one model in a pool, in place of the pool's.
    ModelMultiplier {
        /// The pool.
        pool: PoolId,
        /// The model's id.
        model: String,
        /// What customers pay relative to list price; `None` gives the model the pool's multiplier again.
        multiplier: Option<Multiplier>,
    },
    /// The multiplier of a customer tier; a tier without one has 1.
    TierMultiplier {
        /// The tier's name.
        tier: String,
        /// The factor on top of the pool's.
        multiplier: Multiplier,
    },
    /// A promotion on a pool.
    PromotionMultiplier {
        /// The pool.
        pool: PoolId,
        /// The factor on top of the pool's and the tier's; `None` ends the promotion.
        multiplier: Option<Multiplier>,
    },
    /// What the operator pays in a pool; a pool without one costs the list price.
    CostMultiplier {
        /// The pool.
        pool: PoolId,
        /// What the provider bills relative to list price.
        multiplier: Multiplier,
    },
}

impl PriceChange {
    /// What the change is about.
    pub const fn kind(&self) -> PriceKind {
        match self {
            Self::OfferPrice { .. } => PriceKind::OfferPrice,
            Self::PoolMultiplier { .. } => PriceKind::PoolMultiplier,
            Self::ModelMultiplier { .. } => PriceKind::ModelMultiplier,
            Self::TierMultiplier { .. } => PriceKind::TierMultiplier,
            Self::PromotionMultiplier { .. } => PriceKind::PromotionMultiplier,
            Self::CostMultiplier { .. } => PriceKind::CostMultiplier,
        }
    }

    /// Which object it is about, as the price book names it.
    pub fn subject(&self) -> String {
        match self {
            Self::OfferPrice { offer, .. } => offer.to_string(),
            Self::PoolMultiplier { pool, .. }
            | Self::PromotionMultiplier { pool, .. }
            | Self::CostMultiplier { pool, .. } => pool.to_string(),
            Self::ModelMultiplier { pool, model, .. } => override_subject(*pool, model),
            Self::TierMultiplier { tier, .. } => tier.clone(),
        }
    }

    fn value(&self) -> Result<serde_json::Value, serde_json::Error> {
        match self {
            Self::OfferPrice { price, .. } => serde_json::to_value(price.as_ref()),
            Self::PoolMultiplier { multiplier, .. }
            | Self::TierMultiplier { multiplier, .. }
            | Self::CostMultiplier { multiplier, .. } => serde_json::to_value(multiplier),
            Self::ModelMultiplier { multiplier, .. } | Self::PromotionMultiplier { multiplier, .. } => {
                serde_json::to_value(multiplier)
            }
        }
    }
}

pub(crate) fn override_subject(pool: PoolId, model: &str) -> String {
    format!("{pool}|{model}")
}

/// A version of the price book, with what it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceVersionView {
    /// Counts up by one.
    pub version: i64,
    /// From when it holds.
    pub effective_at: UnixMs,
    /// When it was published.
    pub published_at: UnixMs,
    /// Who published it.
    pub actor: String,
    /// Why, for people.
    pub note: String,
    /// By which notice period, in days, it was checked when it was published; 0 where none applied, as for first prices.
    /// `None` for versions of releases that did not note it.
    pub notice_days: Option<u32>,
    /// That it was cancelled before its instant, and so never holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<CancellationView>,
    /// What it changed.
    pub items: Vec<PriceItemView>,
    /// How many lines more it changed, which a list of versions leaves out.
    #[serde(skip_serializing_if = "is_zero")]
    pub items_left_out: u64,
}

// serde gives a reference
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The cancellation of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CancellationView {
    /// When.
    pub cancelled_at: UnixMs,
    /// Who cancelled it.
    pub actor: String,
    /// Why, for people.
    pub reason: String,
}

/// One line of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceItemView {
    /// What it is about.
    pub kind: PriceKind,
    /// Which object.
    pub subject: String,
    /// A price entry, a multiplier as a decimal string, or null where an override or a promotion ends.
    pub value: serde_json::Value,
}

/// Every price and multiplier in effect at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceBookView {
    /// The version in effect; 0 before the first.
    pub version: i64,
    /// Since when; `None` before the first version.
    pub effective_at: Option<UnixMs>,
    /// List prices.
    pub offers: Vec<OfferPrice>,
    /// Multipliers of pools.
    pub pools: Vec<PoolMultiplier>,
    /// Multipliers of single models in pools.
    pub overrides: Vec<ModelOverride>,
    /// Multipliers of customer tiers.
    pub tiers: Vec<TierMultiplier>,
    /// Promotions that run.
    pub promotions: Vec<PoolMultiplier>,
    /// What the operator pays relative to list price.
    pub costs: Vec<PoolMultiplier>,
}

/// The list price of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferPrice {
    /// The offer.
    pub offer: OfferId,
    /// Its prices.
    pub price: Arc<PriceEntry>,
}

/// A multiplier on a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolMultiplier {
    /// The pool.
    pub pool: PoolId,
    /// The factor.
    pub multiplier: Multiplier,
}

/// The multiplier of one model in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelOverride {
    /// The pool.
    pub pool: PoolId,
    /// The model's id.
    pub model: String,
    /// The factor, in place of the pool's.
    pub multiplier: Multiplier,
}

/// The multiplier of a customer tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TierMultiplier {
    /// The tier's name.
    pub tier: String,
    /// The factor on top of the pool's.
    pub multiplier: Multiplier,
}
