//! Every worked example of the catalog: from normalised usage to lines, exact totals and the charge.

use std::sync::Arc;

use domain::{
    clock::UnixMs,
    pricing::{
        Charge, Circumstances, FrozenPrice, Multiplier, Multipliers, PriceEntry, SearchContext, ServiceTier,
        ServiceTiers, UsageBound, charge, quote,
    },
    refund_rules::Pays,
    request::Reason,
    usage::{TokenClass, Units, Usage},
};
use serde_json::Value;

use crate::reference::Fraction;

const CASES: &str = include_str!("../fixtures/pricing_cases.json");

fn cases() -> Vec<Value> {
    let file: Value = serde_json::from_str(CASES).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn usage_of(normalised: &Value) -> Usage {
    let mut usage = Usage::default();
    for (name, count) in normalised.as_object().unwrap() {
        let count = count.as_u64().unwrap();
        match name.as_str() {
            "web_search_calls" => usage.units.web_searches = count,
            "requests" => usage.units.requests = count,
            "images" => usage.units.images = count,
            "seconds" => usage.units.audio_ms = count * 1_000,
            "characters" => usage.units.characters = count,
            "search_units" => usage.units.search_units = count,
            _ => usage.set_tokens(
                serde_json::from_value::<TokenClass>(name.as_str().into()).unwrap(),
                count,
            ),
        }
    }
    usage
}

fn instant(request: &Value, key: &str) -> Option<UnixMs> {
    Some(UnixMs::from_rfc3339(request.get(key)?.as_str()?).unwrap())
}

fn circumstances_of(request: &Value) -> Circumstances {
    let known = [
        "admitted_at",
        "completed_at",
        "service_tier",
        "region",
        "batch",
        "thinking_mode",
        "search_context_size",
        "image_variant",
        // already in the normalised usage
        "images",
        "characters",
        "web_search_calls",
    ];
    for key in request.as_object().unwrap().keys() {
        assert!(known.contains(&key.as_str()), "the test does not read `{key}`");
    }
    let is_set = |key: &str| request.get(key).is_some_and(|value| value == true);
    let text = |key: &str| request.get(key).and_then(Value::as_str);
    Circumstances {
        service_tier: text("service_tier").and_then(ServiceTier::named),
        region: request
            .get("region")
            .map(|region| serde_json::from_value(region.clone()).unwrap()),
        batch: is_set("batch"),
        thinking: is_set("thinking_mode"),
        search_context: request
            .get("search_context_size")
            .map_or(SearchContext::Low, |size| serde_json::from_value(size.clone()).unwrap()),
        image_variant: text("image_variant").map(str::to_owned),
        ..Circumstances::at(instant(request, "completed_at").unwrap_or(UnixMs(0)))
    }
}

fn frozen(case: &Value) -> FrozenPrice {
    let factor = |name: &str| -> Multiplier {
        case["multipliers"]
            .get(name)
            .map_or(Multiplier::ONE, |factor| factor.as_str().unwrap().parse().unwrap())
    };
    let request = &case["request"];
    FrozenPrice {
        version: 7,
        entry: Arc::new(serde_json::from_value(case["price_entry"].clone()).unwrap()),
        multipliers: Multipliers {
            pool: factor("pool"),
            tier: factor("tier"),
            promotion: factor("promotion"),
        },
        cost: domain::pricing::Multiplier::ONE,
        admitted_at: instant(request, "admitted_at")
            .or(instant(request, "completed_at"))
            .unwrap_or(UnixMs(0)),
    }
}

fn reason_of(outcome: &str) -> Reason {
    match outcome {
        "completed" => Reason::Completed,
        "cancelled_by_client" => Reason::ClientGone,
        "upstream_error" => Reason::UpstreamFailed,
        "rejected_before_upstream" => Reason::UpstreamRejected,
        other => panic!("unknown outcome {other}"),
    }
}

fn is_free(case: &Value) -> bool {
    reason_of(case["outcome"].as_str().unwrap()).rule().pays == Pays::Nothing
}

fn charge_of(case: &Value) -> Charge {
    let price = frozen(case);
    if is_free(case) {
        return Charge::nothing(price.version);
    }
    let usage = usage_of(&case["expected"]["normalised"]);
    charge(&[price], &usage, &circumstances_of(&case["request"])).unwrap()
}

#[test]
fn every_worked_example_comes_out_exactly() {
    let cases = cases();
    assert_eq!(cases.len(), 69);
    for case in &cases {
        let id = &case["id"];
        let expected = &case["expected"];
        let charge = charge_of(case);
        let is_void = is_free(case);
        assert_eq!(serde_json::to_value(charge.lines()).unwrap(), expected["lines"], "{id}");
        assert_eq!(
            charge.subtotal_nano_usd_exact(),
            expected["subtotal_nano_usd_exact"],
            "{id}"
        );
        assert_eq!(charge.total_nano_usd_exact(), expected["total_nano_usd_exact"], "{id}");
        assert_eq!(
            charge.amount().nanos(),
            expected["charge_nano_usd"].as_i64().unwrap(),
            "{id}"
        );
        let list_cost = Fraction::parse(expected["subtotal_nano_usd_exact"].as_str().unwrap()).ceil();
        assert_eq!(charge.list_cost().nanos().to_string(), list_cost.to_string(), "{id}");
        assert_eq!(charge.version(), 7, "{id}");
        if !is_void {
            assert_eq!(charge.multiplier(), expected["multiplier"], "{id}");
            assert_eq!(serde_json::to_value(charge.card()).unwrap(), expected["card"], "{id}");
        }
    }
}

#[test]
fn every_example_entry_reads_and_writes_the_same_json() {
    for case in cases() {
        let entry: PriceEntry = serde_json::from_value(case["price_entry"].clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&entry).unwrap(),
            case["price_entry"],
            "{}",
            case["id"]
        );
    }
}

#[test]
fn no_example_exceeds_the_quote_of_its_own_usage() {
    for case in cases() {
        let usage = usage_of(&case["expected"]["normalised"]);
        let price = [frozen(&case)];
        let bound = UsageBound {
            input_tokens: usage.total_input_tokens(),
            output_tokens: usage.total_output_tokens(),
            choices: 1,
            input: domain::pricing::Modalities {
                audio: true,
                image: true,
            },
            output: domain::pricing::Modalities {
                audio: true,
                image: true,
            },
            units: Units { ..usage.units },
        };
        let quote = quote([price.as_slice()], &bound, ServiceTiers::Any).unwrap();
        let charge = charge_of(&case);
        assert!(charge.amount() <= quote.amount(), "{}", case["id"]);
        assert!(charge.provider_cost() <= quote.provider_cost(), "{}", case["id"]);
    }
}
