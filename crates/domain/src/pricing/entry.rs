//! The price part of a catalog offer: a base card and everything that may replace parts of it.
//!
//! The JSON form is the catalog's own. A [`PriceEntry`] has been checked as a whole; nothing re-checks it later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    calendar::{ClockMinute, Day, Weekday},
    card::{Card, CardKey},
    circumstances::{PinnedRegion, SearchContext, ServiceTier},
    decimal::Decimal,
    error::PricingError,
    lattice::lattice,
    multiplier::Multiplier,
    validate::validate,
};

/// What a price per time is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeOf {
    /// The audio that was sent.
    InputAudio,
    /// The audio that was made.
    OutputAudio,
}

/// The base card: token prices, and the prices of what is not counted in tokens, in USD.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BasePrice {
    /// Token prices. Holds every key that is none of the other fields, and refuses those that are no token price.
    #[serde(flatten)]
    pub tokens: Card,
    /// Per image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_image: Option<Decimal>,
    /// Per image, by `quality/size`; other images cost `per_image`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_image_variants: BTreeMap<String, Decimal>,
    /// Per second of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<Decimal>,
    /// Per minute of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<Decimal>,
    /// Per hour of audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<Decimal>,
    /// Which audio the time is measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_of: Option<TimeOf>,
    /// Shorter audio is billed as this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_seconds: Option<u32>,
    /// Per 1,000,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_1m_characters: Option<Decimal>,
    /// Per rerank search unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_search_unit: Option<Decimal>,
    /// Per request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<Decimal>,
    /// Per request, by search context; other contexts cost `per_request`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_request_by_search_context: BTreeMap<SearchContext, Decimal>,
    /// Per 1,000 web searches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search_per_1k: Option<Decimal>,
    /// Factor on everything but fees per call, for requests in a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_multiplier: Option<Multiplier>,
}

/// A long-context step: its prices hold for the whole request when the total input exceeds a number of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextStep {
    /// The step applies above this many tokens of input of all classes together.
    pub above_input_tokens: u64,
    /// What it replaces on the card.
    pub price: Card,
}

/// Prices for certain hours, chosen by the time of completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeWindow {
    /// Weekdays in UTC.
    pub days: Vec<Weekday>,
    /// First minute inside.
    pub start_utc: ClockMinute,
    /// First minute outside again.
    pub end_utc: ClockMinute,
    /// What it replaces on the card.
    pub price: Card,
}

/// An announced change, from 00:00 UTC of a day, chosen by the time of admission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledCard {
    /// The first day of the new prices.
    pub effective_from: Day,
    /// What it replaces on the card.
    pub price: Card,
}

/// Says that the base card is a promotion. For people; it decides no price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// The last day, where one has been announced.
    pub ends_on: Option<Day>,
    /// The prices after it.
    pub reverts_to: Card,
}

/// The parts of a price entry as they are written, not yet checked against each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceEntryParts {
    /// The base card.
    pub price: BasePrice,
    /// Long-context steps, rising.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<ContextStep>,
    /// Prices for certain hours; they do not overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_windows: Vec<TimeWindow>,
    /// Prices of service tiers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_tiers: BTreeMap<ServiceTier, Card>,
    /// Announced changes, rising by day; a later one builds on the earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduled: Vec<ScheduledCard>,
    /// Whether the base card is a promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// Factors on everything but fees per call, for requests pinned to a region.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub region_multipliers: BTreeMap<PinnedRegion, Multiplier>,
}

/// A price entry whose parts fit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PriceEntryParts", into = "PriceEntryParts")]
pub struct PriceEntry {
    parts: PriceEntryParts,
    lattice: u64,
}

impl TryFrom<PriceEntryParts> for PriceEntry {
    type Error = PricingError;

    fn try_from(parts: PriceEntryParts) -> Result<Self, PricingError> {
        validate(&parts)?;
        let lattice = lattice(&parts)?;
        Ok(Self { parts, lattice })
    }
}

impl From<PriceEntry> for PriceEntryParts {
    fn from(entry: PriceEntry) -> Self {
        entry.parts
    }
}

impl PriceEntry {
    /// Everything in the entry, to show or to edit a copy.
    pub const fn parts(&self) -> &PriceEntryParts {
        &self.parts
    }

    /// The base card.
    pub const fn price(&self) -> &BasePrice {
        &self.parts.price
    }

    /// Announced changes, rising by day.
    pub fn scheduled(&self) -> &[ScheduledCard] {
        &self.parts.scheduled
    }

    /// Whether every price in it is zero, at every time and in every tier.
    pub fn is_free(&self) -> bool {
        let parts = &self.parts;
        let cards = std::iter::once(&parts.price.tokens)
            .chain(parts.tiers.iter().map(|step| &step.price))
            .chain(parts.time_windows.iter().map(|window| &window.price))
            .chain(parts.service_tiers.values())
            .chain(parts.scheduled.iter().map(|change| &change.price));
        cards
            .flat_map(Card::iter)
            .map(|(_, price)| price)
            .chain(parts.price.unit_prices())
            .all(Decimal::is_zero)
    }

    /// Whether tokens have a price at all; otherwise everything is priced by images, time, characters or calls.
    pub const fn is_token_priced(&self) -> bool {
        !self.parts.price.tokens.is_empty()
    }

    /// Every token price is a whole number of steps of 1e-12 USD divided by this.
    pub(super) const fn lattice(&self) -> u64 {
        self.lattice
    }
}

impl BasePrice {
    /// The price per length of audio and that length in seconds, if there is one.
    pub fn per_time(&self) -> Option<(&'static str, Decimal, u32)> {
        let lengths = [
            ("per_second", self.per_second, 1),
            ("per_minute", self.per_minute, 60),
            ("per_hour", self.per_hour, 3600),
        ];
        lengths
            .into_iter()
            .find_map(|(key, price, seconds)| Some((key, price?, seconds)))
    }

    /// Every price that is not one of tokens.
    fn unit_prices(&self) -> impl Iterator<Item = Decimal> + '_ {
        let single = [
            self.per_image,
            self.per_second,
            self.per_minute,
            self.per_hour,
            self.per_1m_characters,
            self.per_search_unit,
            self.per_request,
            self.web_search_per_1k,
        ];
        let by_name = self
            .per_image_variants
            .values()
            .chain(self.per_request_by_search_context.values());
        single.into_iter().flatten().chain(by_name.copied())
    }

    /// Whether the card names any price at all.
    pub(super) fn names_a_price(&self) -> bool {
        !self.tokens.is_empty() || self.unit_prices().next().is_some()
    }

    /// Whether tokens of output are priced in some class, so that what they make needs no price of its own.
    pub(super) fn prices_output_tokens(&self) -> bool {
        [CardKey::Output, CardKey::AudioOutput, CardKey::ImageOutput]
            .into_iter()
            .any(|key| self.tokens.get(key).is_some())
    }
}
