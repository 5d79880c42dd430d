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

/// Calls `push` with every line. `scale` is the batch and region factor in steps of 1e-12; fees per call keep their
/// price. Refuses quantities without a price, except where tokens already pay for the same thing.
pub(super) fn unit_lines(
    entry: &PriceEntry,
    units: &Units,
    variant: &Variant<'_>,
    scale: u128,
    push: &mut impl FnMut(Line) -> Result<(), PricingError>,
) -> Result<(), PricingError> {
    let price = entry.price();
    let lattice = u128::from(entry.lattice());
    let paid_by_output_tokens = price.prices_output_tokens();
    if units.audio_ms > 0 {
        match price.per_time() {
            Some(per_time) => push(time_line(entry, units.audio_ms, per_time, scale)?)?,
            None => covered(entry.is_token_priced(), "audio_ms")?,
        }
    }
    let scaled = [
        (
            "characters",
            units.characters,
            price.per_1m_characters,
            "per_1m_characters",
            1,
            paid_by_output_tokens,
        ),
        (
            "images",
            units.images,
            price.per_image.map(|each| variant.image(entry, each)),
            "per_image",
            1_000_000,
            paid_by_output_tokens,
        ),
    ];
    for (class, quantity, unit_price, price_key, weight, is_paid_otherwise) in scaled {
        match unit_price {
            _ if quantity == 0 => {}
            Some(unit) => {
                let numerator = product([quantity.into(), unit.units() * weight, scale, lattice])?;
                push(Line {
                    class,
                    quantity,
                    price_key,
                    numerator,
                })?;
            }
            None => covered(is_paid_otherwise, class)?,
        }
    }
    let per_request = price.per_request.map(|each| variant.request(entry, each));
    // a fee per request takes the request's searches in
    let searches_are_paid = per_request.is_some() || matches!(variant, Variant::Met(_));
    let fees = [
        (
            "search_units",
            units.search_units,
            price.per_search_unit,
            "per_search_unit",
            1_000_000,
            entry.is_token_priced(),
        ),
        ("requests", units.requests, per_request, "per_request", 1_000_000, true),
        (
            "web_search_calls",
            units.web_searches,
            price.web_search_per_1k,
            "web_search_per_1k",
            1_000,
            searches_are_paid,
        ),
    ];
    for (class, quantity, unit_price, price_key, weight, is_paid_otherwise) in fees {
        match unit_price {
            _ if quantity == 0 => {}
            Some(unit) => {
                let numerator = product([quantity.into(), unit.units() * weight, UNITS_PER_ONE, lattice])?;
                push(Line {
                    class,
                    quantity,
                    price_key,
                    numerator,
                })?;
            }
            None => covered(is_paid_otherwise, class)?,
        }
    }
    Ok(())
}

fn covered(is_paid_otherwise: bool, class: &'static str) -> Result<(), PricingError> {
    if is_paid_otherwise {
        Ok(())
    } else {
        Err(PricingError::units(class))
    }
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
