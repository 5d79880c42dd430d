//! The common denominator of every token price that an entry can lead to.
//!
//! Only one rule divides: a service tier together with a long-context step scales the step's price, class by class, by
//! tier/base. With one denominator per entry, found when the entry is read, every later sum is one of whole numbers,
//! and prices too crooked for 256-bit sums are refused while somebody can still correct them.

use ethnum::U256;

use super::{
    card::{Card, CardKey},
    decimal::{Decimal, MAX_UNITS},
    entry::PriceEntryParts,
    error::PricingError,
    exact::gcd,
};

/// The largest denominator with which no sum in pricing overflows before its amount exceeds 64 bits: the price (70
/// bits) times this stays below 2^128, and 1e21 (70 bits) x this x three multipliers (60 bits) x an amount (63 bits)
/// below 2^256.
const MAX_LATTICE: u64 = 1 << 56;

/// The least common denominator, in steps of 1e-12 USD. It is also a multiple of the length, in seconds, that a price
/// per time is quoted for.
pub(super) fn lattice(parts: &PriceEntryParts) -> Result<u64, PricingError> {
    let mut lattice = parts.price.per_time().map_or(1, |(_, _, seconds)| u64::from(seconds));
    if parts.tiers.is_empty() || parts.service_tiers.is_empty() {
        return Ok(lattice);
    }
    for ground in grounds(parts) {
        for step in &parts.tiers {
            let stepped = ground.overlaid(&step.price);
            for (key, tier_price) in parts.service_tiers.values().flat_map(Card::iter) {
                let Some(step_price) = stepped.get(key) else {
                    continue;
                };
                let denominator = denominator(key, step_price, tier_price, ground.get(key))?;
                lattice = least_common_multiple(lattice, denominator).ok_or_else(too_crooked)?;
            }
        }
    }
    Ok(lattice)
}

/// Every card to which steps and service tiers may apply: each announced state, in and out of each window.
fn grounds(parts: &PriceEntryParts) -> Vec<Card> {
    let mut scheduled = vec![parts.price.tokens];
    let mut latest = parts.price.tokens;
    for change in &parts.scheduled {
        latest = latest.overlaid(&change.price);
        scheduled.push(latest);
    }
    let windowed: Vec<Card> = scheduled
        .iter()
        .flat_map(|card| parts.time_windows.iter().map(|window| card.overlaid(&window.price)))
        .collect();
    scheduled.extend(windowed);
    scheduled
}

fn denominator(key: CardKey, step: Decimal, tier: Decimal, base: Option<Decimal>) -> Result<U256, PricingError> {
    let base = base.filter(|base| !base.is_zero()).ok_or_else(|| {
        PricingError::entry(format!(
            "`{}` has a service-tier price and a long-context step but no base price above zero to scale by",
            key.as_str()
        ))
    })?;
    // below 2^140
    let numerator = U256::from(step.units()) * U256::from(tier.units());
    let base = U256::from(base.units());
    if numerator > U256::from(MAX_UNITS) * base {
        return Err(PricingError::entry(format!(
            "the step price of `{}` in a service tier exceeds 1e9 USD",
            key.as_str()
        )));
    }
    Ok(base / gcd(numerator, base))
}

fn least_common_multiple(lattice: u64, denominator: U256) -> Option<u64> {
    let lattice = U256::from(lattice);
    let multiple = (lattice / gcd(lattice, denominator)).checked_mul(denominator)?;
    u64::try_from(multiple).ok().filter(|multiple| *multiple <= MAX_LATTICE)
}

fn too_crooked() -> PricingError {
    PricingError::entry(
        "service-tier prices divided by base prices give too many different fractions: use prices with fewer digits",
    )
}

#[cfg(test)]
mod tests {
    use super::super::entry::PriceEntry;

    fn entry(base: &str, tier: &str) -> Result<PriceEntry, serde_json::Error> {
        serde_json::from_str(&format!(
            r#"{{"price":{base},"tiers":[{{"above_input_tokens":9,"price":{{"input":"7","output":"13"}}}}],"service_tiers":{{"flex":{tier}}}}}"#
        ))
    }

    #[test]
    fn holds_every_scaled_step_price() {
        assert_eq!(entry(r#"{"input":"2"}"#, r#"{"input":"1"}"#).unwrap().lattice(), 1);
        assert_eq!(entry(r#"{"input":"3"}"#, r#"{"input":"1"}"#).unwrap().lattice(), 3);
        assert_eq!(
            entry(r#"{"input":"3","output":"11"}"#, r#"{"input":"1","output":"2"}"#)
                .unwrap()
                .lattice(),
            33,
            "two thirds and two elevenths of the prices"
        );
    }

    #[test]
    fn refuses_what_could_not_be_computed_exactly() {
        assert!(
            entry(r#"{"input":"0"}"#, r#"{"input":"1"}"#)
                .unwrap_err()
                .to_string()
                .contains("no base price")
        );
        let crooked = entry(
            r#"{"input":"0.999999999989","output":"0.999999999961"}"#,
            r#"{"input":"0.123456789011","output":"0.123456789013"}"#,
        );
        assert!(crooked.unwrap_err().to_string().contains("fewer digits"));
        assert!(
            entry(r#"{"input":"0.000000000001"}"#, r#"{"input":"1000000000"}"#)
                .unwrap_err()
                .to_string()
                .contains("exceeds")
        );
    }
}
