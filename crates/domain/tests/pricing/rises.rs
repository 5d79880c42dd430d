//! Which changes of a price are found to be rises: all that can make any charge higher, and no others.

use std::sync::Arc;

use domain::{
    clock::UnixMs,
    pricing::{FrozenPrice, Multiplier, Multipliers, charge, rises},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::generate::{circumstances, entries, instants, multipliers, usages};

fn frozen(entry: &Value, multipliers: Multipliers, admitted_at: UnixMs) -> FrozenPrice {
    FrozenPrice {
        version: 1,
        entry: Arc::new(serde_json::from_value(entry.clone()).unwrap()),
        multipliers,
        cost: Multiplier::ONE,
        admitted_at,
    }
}

fn lines(old: &str, new: &str) -> Vec<String> {
    let price = |json: &str| frozen(&serde_json::from_str(json).unwrap(), Multipliers::ONE, UnixMs(0));
    let rises = rises(&price(old), &price(new));
    rises
        .into_iter()
        .map(|rise| format!("{}: {} -> {}", rise.line, rise.before, rise.after))
        .collect()
}

#[test]
fn the_lines_that_rise_are_named_and_those_that_fall_are_not() {
    let old = r#"{"price":{"input":"1","output":"2"}}"#;
    assert_eq!(lines(old, old), [""; 0]);
    assert_eq!(lines(old, r#"{"price":{"input":"0.5","output":"2"}}"#), [""; 0]);
    let dearer_output = lines(old, r#"{"price":{"input":"0.5","output":"2.5"}}"#);
    assert_eq!(dearer_output[0], "output: 2 -> 2.5");
    assert!(
        dearer_output.iter().all(|line| !line.starts_with("input")),
        "{dearer_output:?}"
    );
    // what fell back on another price counts with what it had cost
    assert_eq!(
        lines(old, r#"{"price":{"input":"1","output":"2","cached_input_read":"0.1"}}"#),
        [""; 0]
    );
    assert_eq!(
        lines(old, r#"{"price":{"input":"1","output":"2","cached_input_read":"1.1"}}"#)[0],
        "cached_input_read: 1 -> 1.1"
    );
    // a free thing gets a price
    let searches = lines(old, r#"{"price":{"input":"1","output":"2","web_search_per_1k":"10"}}"#);
    assert_eq!(searches, ["web_searches: 0 -> 0.01"]);
    let free = r#"{"price":{"input":"0","output":"0"}}"#;
    assert_eq!(lines(free, old)[0], "input: 0 -> 1");
    assert_eq!(lines(old, free), [""; 0]);
}

#[test]
fn rises_in_special_circumstances_are_found() {
    let old = r#"{"price":{"input":"1","output":"2"}}"#;
    let case = |new: &str, says: &str| {
        let found = lines(old, new);
        assert_eq!(found.first().map(String::as_str), Some(says), "{new}: {found:?}");
    };
    case(
        r#"{"price":{"input":"1","output":"2"},"tiers":[{"above_input_tokens":1000,"price":{"output":"3"}}]}"#,
        "output (above 1000 input tokens): 2 -> 3",
    );
    case(
        r#"{"price":{"input":"1","output":"2"},"service_tiers":{"priority":{"input":"2"}}}"#,
        "input (service tier priority): 1 -> 2",
    );
    case(
        r#"{"price":{"input":"1","output":"2"},"region_multipliers":{"eu":"1.1"}}"#,
        "input (region eu): 1 -> 1.1",
    );
    case(
        r#"{"price":{"input":"1","output":"2","thinking_mode_output":"4"}}"#,
        "output (thinking): 2 -> 4",
    );
    let window = r#"{"price":{"input":"1","output":"2"},
        "time_windows":[{"days":["sat"],"start_utc":"10:00","end_utc":"11:00","price":{"input":"1.5"}}]}"#;
    case(window, "input (window 10:00-11:00): 1 -> 1.5");
    let per_minute = |price: &str| format!(r#"{{"price":{{"per_minute":"0.006"{price}}}}}"#);
    assert_eq!(
        lines(&per_minute(""), &per_minute(r#","minimum_seconds":10"#)),
        ["audio: 0.006 -> 60"],
        "a millisecond costs ten seconds"
    );
}

#[test]
fn a_multiplier_rises_everything_but_what_is_free() {
    let times = |entry: &str, pool: &str, tier: &str| {
        let multipliers = Multipliers {
            pool: pool.parse().unwrap(),
            tier: tier.parse().unwrap(),
            ..Multipliers::ONE
        };
        frozen(&serde_json::from_str(entry).unwrap(), multipliers, UnixMs(0))
    };
    let entry = r#"{"price":{"input":"1","output":"2"}}"#;
    let found = rises(&times(entry, "1.7", "1"), &times(entry, "2", "0.9"));
    assert_eq!((found[0].before.as_str(), found[0].after.as_str()), ("1.7", "1.8"));
    assert!(rises(&times(entry, "1.7", "1"), &times(entry, "2", "0.85")).is_empty());
    let free = r#"{"price":{"input":"0","output":"0"}}"#;
    assert!(rises(&times(free, "1", "1"), &times(free, "2", "1")).is_empty());
    // a dearer list price under a lower multiplier is no rise if nothing costs more
    let dearer = r#"{"price":{"input":"2","output":"2"}}"#;
    assert!(rises(&times(entry, "2", "1"), &times(dearer, "1", "1")).is_empty());
    assert_eq!(
        rises(&times(entry, "2", "1"), &times(dearer, "1.1", "1"))[0].line,
        "input"
    );
}

/// Every price in the entry, by its place.
fn prices_of<'a>(value: &'a mut Value, found: &mut Vec<&'a mut Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if !key.contains("utc") && !key.contains("from") && !key.contains("on") && key != "time_of" {
                    prices_of(value, found);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|value| prices_of(value, found)),
        Value::String(text) if text.parse::<domain::pricing::Decimal>().is_ok() => found.push(value),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn where_nothing_rises_no_charge_is_higher(
        entry in entries(), factors in (multipliers(), multipliers()), same in any::<bool>(), admitted_at in instants(),
        usage in usages(), met in circumstances(), place in 0_usize..40, raised in any::<bool>(),
    ) {
        let mut changed = entry.clone();
        let mut prices = Vec::new();
        prices_of(&mut changed, &mut prices);
        let count = prices.len();
        let price = &mut prices[place % count];
        let text = price.as_str().unwrap();
        // more by a digit, or free
        **price = Value::from(if raised {
            format!("1{}", text.split('.').next().unwrap_or("0"))
        } else {
            "0".to_owned()
        });
        let new_factors = if same { factors.0 } else { factors.1 };
        let old = frozen(&entry, factors.0, admitted_at);
        // a change may contradict other parts of the entry; then it is no entry
        let Ok(read) = serde_json::from_value(changed) else { return Ok(()) };
        let new = FrozenPrice { entry: Arc::new(read), multipliers: new_factors, ..old.clone() };
        let (Ok(before), Ok(after)) = (charge(std::slice::from_ref(&old), &usage, &met), charge(std::slice::from_ref(&new), &usage, &met)) else {
            return Ok(());
        };
        let found = rises(&old, &new);
        prop_assert!(!found.is_empty() || after.amount() <= before.amount(), "{} > {}", after.amount(), before.amount());
    }
}
