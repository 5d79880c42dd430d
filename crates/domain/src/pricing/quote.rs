//! What a request may cost at most: the dearest class, card, window, tier, region, price and offer that it may meet.

use ethnum::U256;

use super::{
    bound::{ServiceTiers, UsageBound},
    charge::{Amounts, amounts},
    entry::PriceEntry,
    error::PricingError,
    exact::{product, sum},
    frozen::FrozenPrice,
    multiplier::{MICROS_PER_ONE, Multiplier},
    select::{RatedCard, Selection, scheduled_by},
    unit_lines::{Line, Variant, unit_lines},
};
use crate::{
    Amount,
    usage::{TokenClass, Units},
};

/// An upper bound of what a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    amount: Amount,
    provider_cost: Amount,
}

impl Quote {
    /// The most that the customer can be charged: what to hold.
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// The most that the operator can owe the provider.
    pub const fn provider_cost(&self) -> Amount {
        self.provider_cost
    }
}

/// The most that a request can cost over all offers that may serve it, each with its candidates.
///
/// # Errors
/// [`PricingError::Unpriced`] when the request may use something that one of the offers does not price: leave the offer
/// out or refuse the request; `Overflow` beyond 9.2 billion USD; `NoPrice` without offers.
pub fn quote<'a>(
    offers: impl IntoIterator<Item = &'a [FrozenPrice]>,
    bound: &UsageBound,
    service_tiers: ServiceTiers,
) -> Result<Quote, PricingError> {
    let mut dearest: Option<Quote> = None;
    for price in offers.into_iter().flatten() {
        let mut most = U256::ZERO;
        for_each_worst_case(price, bound, service_tiers, &mut |worst| {
            most = most.max(worst.at(bound.output_tokens)?);
            Ok(())
        })?;
        let Amounts {
            amount, provider_cost, ..
        } = amounts(most, price)?;
        let so_far = dearest.unwrap_or(Quote { amount, provider_cost });
        dearest = Some(Quote {
            amount: so_far.amount.max(amount),
            provider_cost: so_far.provider_cost.max(provider_cost),
        });
    }
    dearest.ok_or(PricingError::NoPrice)
}

/// The cost of one card that a request may meet, as a function of its output limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorstCase {
    /// Input and fees.
    pub fixed: U256,
    /// What each token of the output limit adds, in all choices together.
    pub per_output_token: U256,
}

impl WorstCase {
    /// The cost at an output limit.
    pub fn at(&self, output_tokens: u64) -> Result<U256, PricingError> {
        let output = self
            .per_output_token
            .checked_mul(U256::from(output_tokens))
            .ok_or(PricingError::Overflow)?;
        sum(self.fixed, output)
    }
}

/// Visits every card that the request may meet under one price. The output limit in the bound is not looked at, except
/// that a limit of zero asks for no output price.
pub(super) fn for_each_worst_case(
    price: &FrozenPrice,
    bound: &UsageBound,
    service_tiers: ServiceTiers,
    visit: &mut impl FnMut(WorstCase) -> Result<(), PricingError>,
) -> Result<(), PricingError> {
    let entry = &*price.entry;
    let parts = entry.parts();
    let scale = dearest_scale(entry);
    let fees = fees(entry, bound, scale)?;
    let scheduled = scheduled_by(entry, price.admitted_at);
    let windows = || std::iter::once(None).chain((0..parts.time_windows.len()).map(Some));
    let tiers = || {
        let met = parts
            .service_tiers
            .keys()
            .copied()
            .filter(|_| service_tiers.include_listed());
        std::iter::once(None).chain(met.map(Some))
    };
    for (step, input_tokens) in reachable_steps(entry, bound.input_tokens) {
        for window in windows() {
            for service_tier in tiers() {
                let selection = Selection {
                    scheduled,
                    window,
                    step,
                    service_tier,
                };
                let card = RatedCard::of(entry, selection)?;
                let input = product([input_tokens.into(), dearest_input(entry, &card, bound)?, scale, 1])?;
                let output = product([bound.choices.into(), dearest_output(&card, bound)?, scale, 1])?;
                visit(WorstCase {
                    fixed: sum(fees, input)?,
                    per_output_token: output,
                })?;
            }
        }
    }
    Ok(())
}

/// The base card and every long-context step that the input may reach, each with the most tokens it can hold for.
fn reachable_steps(entry: &PriceEntry, input_tokens: u64) -> impl Iterator<Item = (Option<usize>, u64)> + '_ {
    let steps = &entry.parts().tiers;
    let reached = steps
        .iter()
        .take_while(move |step| input_tokens > step.above_input_tokens)
        .count();
    (0..=reached).map(move |count| {
        let most = steps
            .get(count)
            .map_or(input_tokens, |next| next.above_input_tokens.min(input_tokens));
        (count.checked_sub(1), most)
    })
}

/// The largest batch and region factor, in steps of 1e-12.
fn dearest_scale(entry: &PriceEntry) -> u128 {
    let at_least_one = |micros: u64, factor: &Multiplier| micros.max(factor.micros());
    let batch = entry.price().batch_multiplier.iter().fold(MICROS_PER_ONE, at_least_one);
    let region = entry
        .parts()
        .region_multipliers
        .values()
        .fold(MICROS_PER_ONE, at_least_one);
    u128::from(batch) * u128::from(region)
}

fn fees(entry: &PriceEntry, bound: &UsageBound, scale: u128) -> Result<U256, PricingError> {
    let units = Units {
        requests: bound.units.requests.max(1),
        ..bound.units
    };
    let mut total = U256::ZERO;
    unit_lines(entry, &units, &Variant::Dearest, scale, &mut |line: Line| {
        total = sum(total, line.numerator)?;
        Ok(())
    })?;
    Ok(total)
}

fn dearest_input(entry: &PriceEntry, card: &RatedCard, bound: &UsageBound) -> Result<u128, PricingError> {
    if bound.input_tokens == 0 {
        return Ok(0);
    }
    let text = [
        TokenClass::Input,
        TokenClass::CachedInputRead,
        TokenClass::CacheWrite5m,
        TokenClass::CacheWrite1h,
    ];
    let audio = [TokenClass::AudioInput, TokenClass::CachedAudioInput];
    let image = [TokenClass::ImageInput, TokenClass::CachedImageInput];
    let is_paid_by_units = entry.price().per_search_unit.is_some();
    if card.price(TokenClass::Input, false).is_none() && !is_paid_by_units {
        return Err(PricingError::tokens(TokenClass::Input));
    }
    let classes = text
        .into_iter()
        .chain(audio.into_iter().filter(|_| bound.input.audio))
        .chain(image.into_iter().filter(|_| bound.input.image));
    Ok(classes
        .filter_map(|class| card.price(class, false))
        .map(|(unit, _)| unit)
        .max()
        .unwrap_or_default())
}

fn dearest_output(card: &RatedCard, bound: &UsageBound) -> Result<u128, PricingError> {
    if bound.output_tokens == 0 || bound.choices == 0 {
        return Ok(0);
    }
    let text = [
        TokenClass::Output,
        TokenClass::ReasoningOutput,
        TokenClass::CitationOutput,
    ];
    let classes = text
        .into_iter()
        .chain(bound.output.audio.then_some(TokenClass::AudioOutput))
        .chain(bound.output.image.then_some(TokenClass::ImageOutput));
    let prices = classes.flat_map(|class| [card.price(class, false), card.price(class, true)]);
    let dearest = prices.flatten().map(|(unit, _)| unit).max();
    dearest.ok_or(PricingError::tokens(TokenClass::Output))
}
