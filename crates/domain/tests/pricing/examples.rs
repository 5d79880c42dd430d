//! Small figures that a reader can check by hand.

use std::sync::Arc;

use domain::{
    Amount,
    clock::UnixMs,
    pricing::{
        Charge, ChargeFlag, Circumstances, FrozenPrice, MAX_OUTPUT_LIMIT, Multipliers, PriceEntry, PricingError,
        ServiceTier, ServiceTiers, Unpriced, UsageBound, affordable_output_tokens, charge, quote,
    },
    usage::{TokenClass, Units, Usage},
};

fn at(text: &str) -> UnixMs {
    UnixMs::from_rfc3339(text).unwrap()
}

fn price(entry: &str, pool: &str) -> FrozenPrice {
    FrozenPrice {
        version: 1,
        entry: Arc::new(serde_json::from_str::<PriceEntry>(entry).unwrap()),
        multipliers: Multipliers {
            pool: pool.parse().unwrap(),
            ..Multipliers::ONE
        },
        cost: domain::pricing::Multiplier::ONE,
        admitted_at: at("2026-11-21T12:00:00Z"),
    }
}

fn most(prices: &[FrozenPrice], bound: &UsageBound) -> i64 {
    quote([prices], bound, ServiceTiers::Ordinary).unwrap().amount().nanos()
}

const PLAIN: &str = r#"{"price":{"input":"2.5","output":"10"}}"#;

#[test]
fn a_plain_quote_is_tight() {
    // (1000 x 2.5 + 500 x 10) x 1000 nano-USD x 1.7
    assert_eq!(most(&[price(PLAIN, "1.7")], &UsageBound::text(1_000, 500)), 12_750_000);
    let three = UsageBound {
        choices: 3,
        ..UsageBound::text(1_000, 500)
    };
    assert_eq!(most(&[price(PLAIN, "1")], &three), 17_500_000);
}

#[test]
fn a_quote_takes_the_dearest_class_that_may_occur() {
    let entry = r#"{"price":{"input":"1","cache_write_1h":"2","output":"3","reasoning_output":"4","audio_input":"9","audio_output":"20"}}"#;
    let text = UsageBound::text(1_000, 1_000);
    assert_eq!(most(&[price(entry, "1")], &text), 6_000_000);
    let audio = domain::pricing::Modalities {
        audio: true,
        image: false,
    };
    assert_eq!(
        most(&[price(entry, "1")], &UsageBound { input: audio, ..text }),
        13_000_000
    );
    assert_eq!(
        most(
            &[price(entry, "1")],
            &UsageBound {
                input: audio,
                output: audio,
                ..text
            }
        ),
        29_000_000
    );
}

#[test]
fn a_quote_takes_a_step_only_when_the_input_may_reach_it() {
    let entry = r#"{"price":{"input":"1","output":"1"},"tiers":[{"above_input_tokens":1000,"price":{"input":"2"}}]}"#;
    assert_eq!(most(&[price(entry, "1")], &UsageBound::text(1_000, 0)), 1_000_000);
    assert_eq!(most(&[price(entry, "1")], &UsageBound::text(1_001, 0)), 2_002_000);
    let falling = r#"{"price":{"input":"9","output":"1"},"tiers":[{"above_input_tokens":1000,"price":{"input":"2"}}]}"#;
    assert_eq!(
        most(&[price(falling, "1")], &UsageBound::text(1_001, 0)),
        9_000_000,
        "1000 tokens below the step"
    );
}

#[test]
fn a_quote_takes_windows_always_and_tiers_when_they_may_be_met() {
    let entry = r#"{"price":{"input":"1"},"service_tiers":{"priority":{"input":"5"}},
        "time_windows":[{"days":["mon"],"start_utc":"01:00","end_utc":"02:00","price":{"input":"2"}}]}"#;
    let prices = [price(entry, "1")];
    let bound = UsageBound::text(1_000, 0);
    let amount = |asked| {
        quote([prices.as_slice()], &bound, ServiceTiers::asked(asked))
            .unwrap()
            .amount()
            .nanos()
    };
    assert_eq!(amount(None), 2_000_000);
    assert_eq!(amount(Some("default")), 2_000_000);
    assert_eq!(
        amount(Some("flex")),
        5_000_000,
        "whatever was asked for, priority may serve"
    );
    assert_eq!(amount(Some("auto")), 5_000_000);
}

#[test]
fn a_quote_covers_every_offer_and_every_fee() {
    let searching = r#"{"price":{"input":"1","web_search_per_1k":"10","per_request":"0.005","per_request_by_search_context":{"high":"0.012"}},"region_multipliers":{"us":"1.1"}}"#;
    let searches = UsageBound {
        units: Units {
            web_searches: 2,
            ..Units::default()
        },
        ..UsageBound::text(1_000, 0)
    };
    // 1000 tokens x 1.1, one fee of 0.012 USD, two searches at 0.01 USD
    assert_eq!(
        most(&[price(searching, "1")], &searches),
        1_100_000 + 12_000_000 + 20_000_000
    );
    let cheap = [price(PLAIN, "1")];
    let dear = [price(PLAIN, "2")];
    let bound = UsageBound::text(1_000, 0);
    let both = quote([cheap.as_slice(), dear.as_slice()], &bound, ServiceTiers::Ordinary).unwrap();
    assert_eq!(both.amount().nanos(), 5_000_000);
    assert_eq!(both.provider_cost().nanos(), 2_500_000);
}

#[test]
fn what_has_no_price_is_refused_and_never_free() {
    let prices = [price(r#"{"price":{"input":"1"}}"#, "1")];
    let quoted =
        |bound: &UsageBound| quote([prices.as_slice()], bound, ServiceTiers::Ordinary).map(|quote| quote.amount());
    let unpriced = |class| Err(PricingError::Unpriced { class });
    assert_eq!(quoted(&UsageBound::text(5, 0)), Ok(Amount::from_nanos(5_000)));
    assert_eq!(
        quoted(&UsageBound::text(5, 5)),
        unpriced(Unpriced::Tokens(TokenClass::Output))
    );
    let units = |units| UsageBound {
        units,
        ..UsageBound::text(5, 0)
    };
    assert_eq!(
        quoted(&units(Units {
            web_searches: 1,
            ..Units::default()
        })),
        unpriced(Unpriced::Units("web_search_calls"))
    );
    assert_eq!(
        quoted(&units(Units {
            images: 1,
            ..Units::default()
        })),
        unpriced(Unpriced::Units("images"))
    );
    let usage = Usage::default().with_tokens(TokenClass::ReasoningOutput, 1);
    let charged = charge(&prices, &usage, &Circumstances::at(UnixMs(0))).map(|charge| charge.amount());
    assert_eq!(charged, unpriced(Unpriced::Tokens(TokenClass::ReasoningOutput)));
    assert_eq!(
        quote([], &UsageBound::text(1, 1), ServiceTiers::Any),
        Err(PricingError::NoPrice)
    );
    assert_eq!(
        charge(&[], &Usage::default(), &Circumstances::at(UnixMs(0))).err(),
        Some(PricingError::NoPrice)
    );
    assert_eq!(
        affordable_output_tokens(
            [prices.as_slice()],
            &UsageBound::text(5, 0),
            Amount::MAX,
            ServiceTiers::Any
        ),
        None
    );
}

#[test]
fn searches_without_a_price_cost_nothing_and_say_so() {
    let usage = Usage::default().with_units(Units {
        web_searches: 4,
        ..Units::default()
    });
    let charge = charge(&[price(PLAIN, "1")], &usage, &Circumstances::at(UnixMs(0))).unwrap();
    assert_eq!(
        (charge.amount(), charge.flags()),
        (Amount::ZERO, [ChargeFlag::UnpricedWebSearches].as_slice())
    );
}

#[test]
fn around_a_change_the_dearer_is_quoted_and_the_cheaper_charged() {
    let entry = r#"{"price":{"input":"1"},"scheduled":[{"effective_from":"2027-01-01","price":{"input":"3"}}]}"#;
    let entry: Arc<PriceEntry> = Arc::new(serde_json::from_str(entry).unwrap());
    for admitted_at in ["2026-12-31T23:59:59.500Z", "2027-01-01T00:00:00.500Z"] {
        let prices = FrozenPrice::candidates_at(
            4,
            Arc::clone(&entry),
            Multipliers::ONE,
            domain::pricing::Multiplier::ONE,
            at(admitted_at),
        );
        assert_eq!(most(&prices, &UsageBound::text(1_000, 0)), 3_000_000);
        let usage = Usage::default().with_tokens(TokenClass::Input, 1_000);
        let charge = charge(&prices, &usage, &Circumstances::at(at("2027-01-01T00:00:09Z"))).unwrap();
        assert_eq!(charge.amount().nanos(), 1_000_000);
        assert_eq!(charge.card(), ["base"]);
        assert_eq!(charge.flags(), [ChargeFlag::CheaperOfTwoPrices]);
    }
}

#[test]
fn a_tier_together_with_a_step_scales_the_step() {
    let entry = r#"{"price":{"input":"3","output":"11"},"tiers":[{"above_input_tokens":10,"price":{"input":"7","output":"13"}}],
        "service_tiers":{"flex":{"input":"1","output":"2"}}}"#;
    let usage = Usage::default()
        .with_tokens(TokenClass::Input, 11)
        .with_tokens(TokenClass::Output, 1);
    let met = Circumstances {
        service_tier: Some(ServiceTier::Flex),
        ..Circumstances::at(UnixMs(0))
    };
    let charge = charge(&[price(entry, "1")], &usage, &met).unwrap();
    let exact: Vec<String> = charge.lines().into_iter().map(|line| line.nano_usd_exact).collect();
    assert_eq!(exact, ["77000/3", "26000/11"]);
    assert_eq!(
        charge.amount().nanos(),
        28_031,
        "25666.67 and 2363.64, rounded up together"
    );
}

#[test]
fn the_affordable_limit_leaves_nothing_over() {
    let prices = [price(PLAIN, "1")];
    let limit = |available| {
        let bound = UsageBound {
            choices: 2,
            ..UsageBound::text(1_000, 0)
        };
        affordable_output_tokens(
            [prices.as_slice()],
            &bound,
            Amount::from_nanos(available),
            ServiceTiers::Ordinary,
        )
    };
    assert_eq!(limit(2_499_999), None, "the input alone costs 2500000");
    assert_eq!(limit(-1), None);
    assert_eq!(limit(2_500_000), Some(0));
    assert_eq!(limit(2_519_999), Some(0));
    assert_eq!(limit(2_520_000), Some(1));
    assert_eq!(limit(i64::MAX), Some(MAX_OUTPUT_LIMIT));
}

#[test]
fn amounts_beyond_64_bits_are_refused() {
    let prices = [price(r#"{"price":{"input":"1000000000","output":"0"}}"#, "1000")];
    let bound = UsageBound::text(u64::MAX, u64::MAX);
    assert_eq!(
        quote([prices.as_slice()], &bound, ServiceTiers::Any),
        Err(PricingError::Overflow)
    );
    let usage = Usage::default().with_tokens(TokenClass::Input, u64::MAX);
    assert_eq!(
        charge(&prices, &usage, &Circumstances::at(UnixMs(0))).err(),
        Some(PricingError::Overflow)
    );
    // 9223 tokens at 1000 USD each, times 1000: just below 9.22337e18 nano-USD
    let usage = Usage::default().with_tokens(TokenClass::Input, 9_223);
    let charge = charge(&prices, &usage, &Circumstances::at(UnixMs(0))).unwrap();
    assert_eq!(charge.amount().nanos(), 9_223_000_000_000_000_000);
}

#[test]
fn free_is_what_the_entry_calls_free() {
    let is_free = |entry: &str| serde_json::from_str::<PriceEntry>(entry).unwrap().is_free();
    assert!(is_free(r#"{"price":{"input":"0","output":"0"}}"#));
    assert!(!is_free(PLAIN));
    assert!(!is_free(
        r#"{"price":{"input":"0"},"scheduled":[{"effective_from":"2027-01-01","price":{"input":"1"}}]}"#
    ));
    assert!(!is_free(r#"{"price":{"input":"0","per_request":"0.01"}}"#));
    assert!(
        !serde_json::from_str::<PriceEntry>(r#"{"price":{"per_image":"0.04"}}"#)
            .unwrap()
            .is_token_priced()
    );
}

#[test]
fn nothing_is_nothing() {
    let nothing = Charge::nothing(9);
    assert_eq!(
        (nothing.amount(), nothing.list_cost(), nothing.version()),
        (Amount::ZERO, Amount::ZERO, 9)
    );
    assert!(nothing.lines().is_empty() && nothing.card().is_empty());
    assert_eq!(nothing.total_nano_usd_exact(), "0");
}
