//! Lines of a charge for what is not counted in tokens: images, time, characters, calls.
//!
//! The same rules serve charge and quote; they differ only in which variant of a price they look for.

use ethnum::U256;

use super::{
    circumstances::Circumstances,
    decimal::{Decimal, UNITS_PER_ONE},
    entry::PriceEntry,
    error::PricingError,
    exact::product,
};
use crate::usage::Units;

/// Amounts are counted in nano-USD divided by this and by the entry's lattice: 1e9 steps of a token's price at 1e-12
/// USD per million, and 1e12 for the batch and the region factor at six places each.
pub(super) const DENOMINATOR: u128 = 10_u128.pow(21);

/// One line of a charge: exact, before pool, tier and promotion multipliers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    /// The usage class.
    pub class: &'static str,
    /// How many units of the class were billed.
    pub quantity: u64,
    /// The price that applied.
    pub price_key: &'static str,
    /// The amount, over [`DENOMINATOR`] and the entry's lattice.
    pub numerator: U256,
}

/// Which variant of a price applies.
pub(super) enum Variant<'a> {
    /// The one that the request met.
    Met(&'a Circumstances),
    /// The dearest that it may meet.
    Dearest,
}

impl Variant<'_> {
    fn image(&self, entry: &PriceEntry, per_image: Decimal) -> Decimal {
        let variants = &entry.price().per_image_variants;
        match self {
            Self::Met(met) => met
                .image_variant
                .as_ref()
                .and_then(|name| variants.get(name))
                .copied()
                .unwrap_or(per_image),
            Self::Dearest => variants.values().copied().fold(per_image, Decimal::max),
        }
    }

    fn request(&self, entry: &PriceEntry, per_request: Decimal) -> Decimal {
        let contexts = &entry.price().per_request_by_search_context;
        match self {
            Self::Met(met) => contexts.get(&met.search_context).copied().unwrap_or(per_request),
            Self::Dearest => contexts.values().copied().fold(per_request, Decimal::max),
        }
    }
}

/// How one quantity turns into a line.
struct Rule {
    class: &'static str,
    quantity: u64,
    price_key: &'static str,
    unit: Option<Decimal>,
    /// A million divided by what the price is for: 1 where it is per million, 1e6 where it is per piece.
    weight: u128,
    /// The batch and region factor, in steps of 1e-12; one for fees per call, which keep their price.
    scale: u128,
    /// Whether something else pays for the same thing, so that no price is no mistake.
    is_paid_otherwise: bool,
}

impl Rule {
    fn line(&self, lattice: u128) -> Result<Option<Line>, PricingError> {
        if self.quantity == 0 {
            return Ok(None);
        }
        let Some(unit) = self.unit else {
            return if self.is_paid_otherwise {
                Ok(None)
            } else {
                Err(PricingError::units(self.class))
            };
        };
        let numerator = product([self.quantity.into(), unit.units() * self.weight, self.scale, lattice])?;
        Ok(Some(Line {
            class: self.class,
            quantity: self.quantity,
            price_key: self.price_key,
            numerator,
        }))
    }
}

/// Calls `push` with every line. `scale` is the batch and region factor in steps of 1e-12. Refuses quantities without a
/// price, except where tokens or another fee already pay for the same thing.
pub(super) fn unit_lines(
    entry: &PriceEntry,
    units: &Units,
    variant: &Variant<'_>,
    scale: u128,
    push: &mut impl FnMut(Line) -> Result<(), PricingError>,
) -> Result<(), PricingError> {
    if units.audio_ms > 0 {
        match entry.price().per_time() {
            Some(per_time) => push(time_line(entry, units.audio_ms, per_time, scale)?)?,
            None if entry.is_token_priced() => {}
            None => return Err(PricingError::units("audio_ms")),
        }
    }
    for rule in media_rules(entry, units, variant, scale)
        .into_iter()
        .chain(fee_rules(entry, units, variant))
    {
        if let Some(line) = rule.line(u128::from(entry.lattice()))? {
            push(line)?;
        }
    }
    Ok(())
}

fn media_rules(entry: &PriceEntry, units: &Units, variant: &Variant<'_>, scale: u128) -> [Rule; 2] {
    let price = entry.price();
    let is_paid_otherwise = price.prices_output_tokens();
    [
        Rule {
            class: "characters",
            quantity: units.characters,
            price_key: "per_1m_characters",
            unit: price.per_1m_characters,
            weight: 1,
            scale,
            is_paid_otherwise,
        },
        Rule {
            class: "images",
            quantity: units.images,
            price_key: "per_image",
            unit: price.per_image.map(|each| variant.image(entry, each)),
            weight: 1_000_000,
            scale,
            is_paid_otherwise,
        },
    ]
}

fn fee_rules(entry: &PriceEntry, units: &Units, variant: &Variant<'_>) -> [Rule; 3] {
    let price = entry.price();
    // a fee per request takes its searches in; searches that happened without a price are not the customer's to pay
    let searches_are_paid = price.per_request.is_some() || matches!(variant, Variant::Met(_));
    [
        Rule {
            class: "search_units",
            quantity: units.search_units,
            price_key: "per_search_unit",
            unit: price.per_search_unit,
            weight: 1_000_000,
            scale: UNITS_PER_ONE,
            is_paid_otherwise: entry.is_token_priced(),
        },
        Rule {
            class: "requests",
            quantity: units.requests,
            price_key: "per_request",
            unit: price.per_request.map(|each| variant.request(entry, each)),
            weight: 1_000_000,
            scale: UNITS_PER_ONE,
            is_paid_otherwise: true,
        },
        Rule {
            class: "web_search_calls",
            quantity: units.web_searches,
            price_key: "web_search_per_1k",
            unit: price.web_search_per_1k,
            weight: 1_000,
            scale: UNITS_PER_ONE,
            is_paid_otherwise: searches_are_paid,
        },
    ]
}

/// Audio by its length. Billed in whole seconds where it is whole seconds, in milliseconds otherwise.
fn time_line(
    entry: &PriceEntry,
    audio_ms: u64,
    (price_key, unit, seconds): (&'static str, Decimal, u32),
    scale: u128,
) -> Result<Line, PricingError> {
    let minimum_ms = u64::from(entry.price().minimum_seconds.unwrap_or_default()) * 1_000;
    let billed_ms = audio_ms.max(minimum_ms);
    // the lattice is a multiple of the length
    let per_length = u128::from(entry.lattice()) / u128::from(seconds);
    let numerator = product([billed_ms.into(), unit.units() * 1_000, scale, per_length])?;
    let (class, quantity) = if billed_ms.is_multiple_of(1_000) {
        ("seconds", billed_ms / 1_000)
    } else {
        ("audio_ms", billed_ms)
    };
    Ok(Line {
        class,
        quantity,
        price_key,
        numerator,
    })
}
