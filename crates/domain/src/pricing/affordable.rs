//! The largest output limit that an available amount covers.

use ethnum::U256;

use super::{
    bound::{ServiceTiers, UsageBound},
    charge::denominator,
    frozen::FrozenPrice,
    multiplier::{MICROS_PER_ONE, MICROS_PER_ONE_CUBED, Multiplier},
    quote::{WorstCase, for_each_worst_case},
};
use crate::{Amount, usage::MAX_PLAUSIBLE_COUNT};

/// The answer where the available amount covers any output, for instance because it is free.
pub const MAX_OUTPUT_LIMIT: u64 = MAX_PLAUSIBLE_COUNT;

/// The largest output limit whose quote does not exceed `available`, at most [`MAX_OUTPUT_LIMIT`]; exact. The output
/// limit in the bound is ignored.
///
/// `None` when not even the input fits, and when the request cannot be priced: then [`quote`](super::quote) says why.
pub fn affordable_output_tokens<'a>(
    offers: impl IntoIterator<Item = &'a [FrozenPrice]>,
    bound: &UsageBound,
    available: Amount,
    service_tiers: ServiceTiers,
) -> Option<u64> {
    let available = u64::try_from(available.nanos()).ok()?;
    // any limit above zero, so that a missing output price is noticed
    let bound = UsageBound {
        output_tokens: MAX_OUTPUT_LIMIT,
        ..*bound
    };
    let mut is_priced = false;
    let mut limit = MAX_OUTPUT_LIMIT;
    for price in offers.into_iter().flatten() {
        is_priced = true;
        let budget = largest_total(price, available);
        let mut fits = true;
        let visited = for_each_worst_case(price, &bound, service_tiers, &mut |worst| {
            match limit_within(worst, budget) {
                Some(most) => limit = limit.min(most),
                None => fits = false,
            }
            Ok(())
        });
        if visited.is_err() || !fits {
            return None;
        }
    }
    is_priced.then_some(limit)
}

/// The largest sum of lines of which both the amount fits `available` and the the list cost and the operator's cost
/// fit 64 bits. As amounts are
/// rounded up and `available` is whole, a sum fits exactly if its exact amount does.
fn largest_total(price: &FrozenPrice, available: u64) -> U256 {
    let denominator = denominator(price.entry.lattice());
    // what the operator pays must fit as well, should that be more than the list price
    let dearest = u128::from(price.cost.max(Multiplier::ONE).micros());
    let by_list_cost =
        denominator * U256::from(i64::MAX.unsigned_abs()) * U256::from(MICROS_PER_ONE) / U256::from(dearest);
    // below 2^249
    let scaled = denominator * U256::from(MICROS_PER_ONE_CUBED) * U256::from(available);
    match scaled.checked_div(U256::from(price.multipliers.micros())) {
        Some(by_amount) => by_amount.min(by_list_cost),
        None => by_list_cost,
    }
}

/// The largest output limit at which a case stays within a sum, `None` when its fixed part alone exceeds it.
fn limit_within(worst: WorstCase, budget: U256) -> Option<u64> {
    let left = budget.checked_sub(worst.fixed)?;
    let most = left.checked_div(worst.per_output_token);
    Some(
        most.and_then(|most| u64::try_from(most).ok())
            .unwrap_or(MAX_OUTPUT_LIMIT),
    )
}
