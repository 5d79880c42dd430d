//! What holds for every price entry, usage and circumstance.

use std::sync::Arc;

use domain::{
    Amount,
    clock::UnixMs,
    pricing::{
        Circumstances, FrozenPrice, Modalities, Multipliers, PriceEntry, ServiceTiers, UsageBound,
        affordable_output_tokens, charge, quote,
    },
    usage::{MAX_PLAUSIBLE_COUNT, TokenClass, Units, Usage},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    generate::{circumstances, entries, instants, multipliers, plain_counts, plain_request, rising_entries, usages},
    reference::{Fraction, subtotal},
};

fn read(entry: &Value) -> Arc<PriceEntry> {
    Arc::new(serde_json::from_value(entry.clone()).unwrap())
}

fn frozen(entry: &Value, multipliers: Multipliers, admitted_at: UnixMs) -> FrozenPrice {
    FrozenPrice {
        version: 1,
        entry: read(entry),
        multipliers,
        cost: domain::pricing::Multiplier::ONE,
        admitted_at,
    }
}

/// The smallest bound that holds the usage, for a number of choices.
fn bound_of(usage: &Usage, choices: u64) -> UsageBound {
    let holds = |class| usage.tokens(class) > 0;
    UsageBound {
        input_tokens: usage.total_input_tokens(),
        input: Modalities {
            audio: holds(TokenClass::AudioInput) || holds(TokenClass::CachedAudioInput),
            image: holds(TokenClass::ImageInput) || holds(TokenClass::CachedImageInput),
        },
        output_tokens: usage.total_output_tokens().div_ceil(choices),
        output: Modalities {
            audio: holds(TokenClass::AudioOutput),
            image: holds(TokenClass::ImageOutput),
        },
        choices,
        units: usage.units,
    }
}

/// Web searches only where they have a price: others are refused before they are sent.
fn without_unpriced_searches(mut usage: Usage, offers: &[&Value]) -> Usage {
    let is_priced = |entry: &&Value| {
        entry["price"]
            .get("web_search_per_1k")
            .or(entry["price"].get("per_request"))
            .is_some()
    };
    if !offers.iter().all(is_priced) {
        usage.units.web_searches = 0;
    }
    usage
}

/// The exact amount that the customer pays for a sum of lines.
fn exact_product(subtotal: &Fraction, multipliers: Multipliers) -> Fraction {
    [multipliers.pool, multipliers.tier, multipliers.promotion]
        .iter()
        .fold(subtotal.clone(), |product, factor| {
            product.times(&Fraction::parse(&factor.to_string()))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn charge_agrees_with_a_naive_calculator(
        entry in entries(), multipliers in multipliers(), admitted_at in instants(), usage in usages(), met in circumstances(),
    ) {
        let charge = charge(&[frozen(&entry, multipliers, admitted_at)], &usage, &met).unwrap();
        let expected = subtotal(&entry, &plain_counts(&usage), &plain_request(&met, admitted_at));
        prop_assert!(Fraction::parse(&charge.subtotal_nano_usd_exact()).equals(&expected));
        prop_assert_eq!(charge.list_cost().nanos().to_string(), expected.ceil().to_string());
        let total = exact_product(&expected, multipliers);
        prop_assert!(Fraction::parse(&charge.total_nano_usd_exact()).equals(&total));
        prop_assert_eq!(charge.amount().nanos().to_string(), total.ceil().to_string());
        let lines = charge.lines().iter().fold(Fraction::whole(0), |sum, line| sum.plus(&Fraction::parse(&line.nano_usd_exact)));
        prop_assert!(lines.equals(&expected));
    }

    #[test]
    fn no_charge_exceeds_its_quote(
        served in entries(), other in entries(), factors in (multipliers(), multipliers()), admitted_at in instants(),
        usage in usages(), met in circumstances(), choices in 1_u64..5, slack in 0_u64..200, any_tier in any::<bool>(),
    ) {
        let usage = without_unpriced_searches(usage, &[&served, &other]);
        let prices = FrozenPrice::candidates_at(1, read(&served), factors.0, domain::pricing::Multiplier::ONE, admitted_at);
        let others = FrozenPrice::candidates_at(1, read(&other), factors.1, domain::pricing::Multiplier::ONE, admitted_at);
        let exact = bound_of(&usage, choices);
        let bound = UsageBound {
            input_tokens: exact.input_tokens + slack,
            output_tokens: exact.output_tokens + slack % 7,
            ..exact
        };
        let tiers = if any_tier || met.service_tier.is_some() { ServiceTiers::Any } else { ServiceTiers::Ordinary };
        let quote = quote([others.as_slice(), prices.as_slice()], &bound, tiers).unwrap();
        let charge = charge(&prices, &usage, &met).unwrap();
        prop_assert!(charge.amount() <= quote.amount(), "{} > {}", charge.amount(), quote.amount());
        prop_assert!(charge.provider_cost() <= quote.provider_cost());
    }

    #[test]
    fn a_charge_is_that_of_its_cheapest_candidate(
        entry in entries(), multipliers in multipliers(), admitted_at in instants(), usage in usages(), met in circumstances(),
    ) {
        let prices = FrozenPrice::candidates_at(1, read(&entry), multipliers, domain::pricing::Multiplier::ONE, admitted_at);
        let each = prices.iter().map(|price| charge(std::slice::from_ref(price), &usage, &met).unwrap().amount());
        prop_assert_eq!(charge(&prices, &usage, &met).unwrap().amount(), each.min().unwrap());
    }

    #[test]
    fn more_tokens_of_any_class_never_cost_less(
        entry in rising_entries(), multipliers in multipliers(), usage in usages(), met in circumstances(),
        more in 1_u64..2_000, class in proptest::sample::select(TokenClass::ALL.to_vec()),
    ) {
        let prices = [frozen(&entry, multipliers, UnixMs(0))];
        let larger = usage.with_tokens(class, usage.tokens(class) + more);
        let (before, after) = (charge(&prices, &usage, &met).unwrap(), charge(&prices, &larger, &met).unwrap());
        prop_assert!(before.amount() <= after.amount());
        prop_assert!(before.list_cost() <= after.list_cost());
    }

    #[test]
    fn quotes_grow_with_their_bound(
        entry in entries(), multipliers in multipliers(), admitted_at in instants(), input in 0_u64..60_000,
        output in 1_u64..5_000, choices in 1_u64..4, more in (0_u64..2_000, 0_u64..2_000, 0_u64..3),
    ) {
        let prices = [frozen(&entry, multipliers, admitted_at)];
        let bound = UsageBound { choices, ..UsageBound::text(input, output) };
        let wider = UsageBound { choices: choices + more.2, ..UsageBound::text(input + more.0, output + more.1) };
        let amount = |bound: &UsageBound| quote([prices.as_slice()], bound, ServiceTiers::Any).unwrap().amount();
        prop_assert!(amount(&bound) <= amount(&wider));
    }

    #[test]
    fn the_affordable_limit_is_exact(
        one in entries(), other in entries(), factors in (multipliers(), multipliers()), admitted_at in instants(),
        input in 0_u64..60_000, choices in 1_u64..5, images in 0_u64..3, available in 0_i64..400_000_000_000, any_tier in any::<bool>(),
    ) {
        let prices = FrozenPrice::candidates_at(1, read(&one), factors.0, domain::pricing::Multiplier::ONE, admitted_at);
        let others = FrozenPrice::candidates_at(1, read(&other), factors.1, domain::pricing::Multiplier::ONE, admitted_at);
        let offers = || [prices.as_slice(), others.as_slice()];
        let tiers = if any_tier { ServiceTiers::Any } else { ServiceTiers::Ordinary };
        let units = Units { images, ..Units::default() };
        let bound = UsageBound { choices, units, ..UsageBound::text(input, 12_345) };
        let cost = |output_tokens| quote(offers(), &UsageBound { output_tokens, ..bound }, tiers).map(|quote| quote.amount());
        let available = Amount::from_nanos(available);
        match affordable_output_tokens(offers(), &bound, available, tiers) {
            None => prop_assert!(cost(0).unwrap() > available),
            Some(limit) => {
                prop_assert!(cost(limit).unwrap() <= available);
                prop_assert!(limit == MAX_PLAUSIBLE_COUNT || cost(limit + 1).unwrap() > available);
            }
        }
    }

    #[test]
    fn an_entry_writes_the_json_it_was_read_from(entry in entries()) {
        prop_assert_eq!(serde_json::to_value(&*read(&entry)).unwrap(), entry);
    }

    #[test]
    fn no_usage_makes_a_charge_panic(entry in entries(), multipliers in multipliers(), counts in proptest::collection::vec(any::<u64>(), 19)) {
        let mut usage = Usage::default();
        for (class, count) in TokenClass::ALL.into_iter().zip(&counts) {
            usage.set_tokens(class, *count);
        }
        usage.units = Units {
            web_searches: counts[13],
            requests: counts[14],
            images: counts[15],
            audio_ms: counts[16],
            characters: counts[17],
            search_units: counts[18],
        };
        let prices = [frozen(&entry, multipliers, UnixMs(counts[0].cast_signed()))];
        if let Ok(charge) = charge(&prices, &usage, &Circumstances::at(UnixMs(counts[1].cast_signed()))) {
            prop_assert!(!charge.amount().is_negative());
        }
        let _ = quote([prices.as_slice()], &bound_of(&usage, 1), ServiceTiers::Any);
        let _ = affordable_output_tokens([prices.as_slice()], &bound_of(&usage, 2), Amount::MAX, ServiceTiers::Any);
    }
}
