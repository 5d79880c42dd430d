//! Random price entries and requests.

use domain::{
    clock::UnixMs,
    pricing::{Circumstances, Multiplier, Multipliers, PriceEntry, SearchContext, ServiceTier},
    usage::{TokenClass, Units, Usage},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::reference::{Counts, Request};

/// 2027-01-01, a Friday, the day of the first announced change.
pub const CHANGE_MS: i64 = 1_798_761_600_000;

const OPTIONAL_KEYS: [&str; 12] = [
    "cached_input_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning_output",
    "thinking_mode_output",
    "citation_output",
    "audio_input",
    "cached_audio_input",
    "audio_output",
    "image_input",
    "cached_image_input",
    "image_output",
];

fn any_price() -> BoxedStrategy<String> {
    (0_u32..100_000, 2_u32..7)
        .prop_map(|(digits, places)| decimal(digits, places))
        .boxed()
}

/// Prices that divide others without making denominators too long.
fn round_price() -> BoxedStrategy<String> {
    select(vec!["0.5", "0.75", "1", "1.2", "2", "2.5", "3", "6", "7", "11", "15"])
        .prop_map(str::to_owned)
        .boxed()
}

/// In the canonical form, so that entries can be compared as JSON.
fn decimal(digits: u32, places: u32) -> String {
    let scale = 10_u32.pow(places);
    let text = format!("{}.{:0width$}", digits / scale, digits % scale, width = places as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn keys_of(card: &Value) -> Vec<String> {
    card.as_object().unwrap().keys().cloned().collect()
}

fn base_card(price: BoxedStrategy<String>) -> impl Strategy<Value = Value> {
    let others = vec(option::weighted(0.3, price.clone()), OPTIONAL_KEYS.len());
    (price.clone(), price, others).prop_map(|(input, output, others)| {
        let mut card = Map::from_iter([("input".to_owned(), json!(input)), ("output".to_owned(), json!(output))]);
        for (key, price) in OPTIONAL_KEYS.into_iter().zip(others) {
            card.extend(price.map(|price| (key.to_owned(), json!(price))));
        }
        Value::Object(card)
    })
}

/// A card that replaces some of the given keys.
fn overlay_of(keys: Vec<String>, price: impl Strategy<Value = String>) -> impl Strategy<Value = Value> {
    let count = keys.len();
    (vec(price, count), vec(any::<bool>(), count), 0..count).prop_map(move |(prices, named, always)| {
        let cards = keys
            .iter()
            .zip(prices)
            .enumerate()
            .filter(|(at, _)| named[*at] || *at == always);
        Value::Object(cards.map(|(_, (key, price))| (key.clone(), json!(price))).collect())
    })
}

fn units() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let fee = || option::weighted(0.4, any_price());
    let per_time = select(vec!["per_second", "per_minute", "per_hour"]);
    let factor = select(vec!["0.5", "0.333333", "1", "1.25"]);
    (
        fee(),
        fee(),
        fee(),
        fee(),
        fee(),
        fee(),
        per_time,
        factor,
        any::<bool>(),
    )
        .prop_map(
            |(image, time, characters, search_unit, request, web, per_time, batch, more)| {
                let mut found = Vec::new();
                let mut add = |key, price: Option<String>| found.extend(price.map(|price| (key, json!(price))));
                add("per_image", image.clone());
                add(per_time, time.clone());
                add("per_1m_characters", characters);
                add("per_search_unit", search_unit);
                add("per_request", request.clone());
                add("web_search_per_1k", web);
                add("batch_multiplier", more.then(|| batch.to_owned()));
                if more {
                    found.extend(image.map(|_| ("per_image_variants", json!({"hd": "0.12", "low": "0.002"}))));
                    found.extend(request.map(|_| {
                        (
                            "per_request_by_search_context",
                            json!({"low": "0.005", "high": "0.014"}),
                        )
                    }));
                    found.extend(time.map(|_| ("minimum_seconds", json!(10))));
                }
                found
            },
        )
}

/// An entry with every kind of part, as JSON.
pub fn entries() -> impl Strategy<Value = Value> {
    (any::<bool>(), base_card(any_price()), base_card(round_price()))
        .prop_flat_map(|(has_tiers, crooked, round)| {
            let base = if has_tiers { round } else { crooked };
            let keys = keys_of(&base);
            let every_key = || {
                let names = OPTIONAL_KEYS.iter().map(|key| (*key).to_owned());
                names.chain(["input".to_owned(), "output".to_owned()]).collect::<Vec<_>>()
            };
            let most_steps = if has_tiers { 3 } else { 1 };
            let steps = vec(overlay_of(keys.clone(), round_price()), 0..most_steps);
            let service = vec(option::of(overlay_of(keys, round_price())), 4);
            let windows = vec(overlay_of(every_key(), round_price()), 0..3);
            let changes = vec(overlay_of(every_key(), round_price()), 0..3);
            let region = option::of(select(vec!["0.9", "1.1", "1.000001"]));
            (Just(base), units(), steps, service, windows, changes, region)
        })
        .prop_map(|(mut base, units, steps, service, windows, changes, region)| {
            let thresholds = [100, 1_000, 50_000];
            let hours = [("01:00", "04:00"), ("06:30", "23:59")];
            let days = ["2027-01-01", "2027-01-02"];
            base.as_object_mut().unwrap().extend(units.into_iter().map(|(key, value)| (key.to_owned(), value)));
            let mut entry = json!({ "price": base });
            let mut put = |key: &str, value: Value, is_empty: bool| {
                if !is_empty {
                    entry[key] = value;
                }
            };
            let steps: Vec<Value> = thresholds.into_iter().zip(steps).map(|(above, price)| json!({"above_input_tokens": above, "price": price})).collect();
            put("tiers", json!(steps), steps.is_empty());
            let windows: Vec<Value> = hours
                .into_iter()
                .zip(windows)
                .map(|((start, end), price)| json!({"days": ["fri", "mon"], "start_utc": start, "end_utc": end, "price": price}))
                .collect();
            put("time_windows", json!(windows), windows.is_empty());
            let changes: Vec<Value> = days.into_iter().zip(changes).map(|(day, price)| json!({"effective_from": day, "price": price})).collect();
            put("scheduled", json!(changes), changes.is_empty());
            let names = ["flex", "priority", "ultrafast", "fast"];
            let service: Map<String, Value> = names.into_iter().zip(service).filter_map(|(name, card)| Some((name.to_owned(), card?))).collect();
            put("service_tiers", json!(service), service.is_empty());
            put("region_multipliers", json!({"us": region}), region.is_none());
            entry
        })
        .prop_filter("prices that divide into too many fractions", |entry| {
            serde_json::from_value::<PriceEntry>(entry.clone()).is_ok()
        })
}

/// An entry whose steps only ever raise prices, for rules that hold only there.
pub fn rising_entries() -> impl Strategy<Value = Value> {
    entries().prop_map(|mut entry| {
        let base = entry["price"].clone();
        let raised = |factor: u32| -> Map<String, Value> {
            let token_keys = OPTIONAL_KEYS.into_iter().chain(["input", "output"]);
            let price = |key: &str| Some((key.to_owned(), json!(times(base.get(key)?.as_str()?, factor))));
            token_keys.filter_map(price).collect()
        };
        let parts = entry.as_object_mut().unwrap();
        for other in ["time_windows", "scheduled", "service_tiers"] {
            parts.remove(other);
        }
        entry["tiers"] = json!([
            {"above_input_tokens": 100, "price": raised(2)},
            {"above_input_tokens": 1_000, "price": raised(3)},
        ]);
        entry
    })
}

fn times(price: &str, factor: u32) -> String {
    let (whole, decimals) = price.split_once('.').unwrap_or((price, ""));
    let digits: u32 = format!("{whole}{decimals}").parse().unwrap();
    decimal(digits * factor, u32::try_from(decimals.len()).unwrap())
}

/// Up to ten each, so that no generated amount exceeds 64 bits.
pub fn multipliers() -> impl Strategy<Value = Multipliers> {
    let factor = || {
        let text = (0_u32..10_000, 3_u32..7).prop_map(|(digits, places)| decimal(digits, places));
        text.prop_map(|text| text.parse::<Multiplier>().unwrap())
    };
    (factor(), factor(), factor()).prop_map(|(pool, tier, promotion)| Multipliers { pool, tier, promotion })
}

pub fn usages() -> impl Strategy<Value = Usage> {
    let counts = prop_oneof![3 => Just(0_u64), 3 => 1_u64..200, 1 => 1_u64..100_000];
    (
        vec(counts, 13),
        vec(prop_oneof![3 => Just(0_u64), 1 => 1_u64..200], 5),
        0_u64..2,
    )
        .prop_map(|(tokens, units, requests)| {
            let mut usage = Usage::default().with_units(Units {
                web_searches: units[0],
                requests,
                images: units[1],
                audio_ms: units[2] * 97,
                characters: units[3] * 89,
                search_units: units[4],
            });
            for (class, count) in TokenClass::ALL.into_iter().zip(tokens) {
                usage.set_tokens(class, count);
            }
            usage
        })
}

/// Instants around the announced changes and in and out of the windows.
pub fn instants() -> impl Strategy<Value = UnixMs> {
    prop_oneof![
        (-400_000_000_i64..400_000_000).prop_map(|offset| UnixMs(CHANGE_MS + offset)),
        (-2_000_i64..2_000).prop_map(|offset| UnixMs(CHANGE_MS + offset)),
    ]
}

pub fn circumstances() -> impl Strategy<Value = Circumstances> {
    let tier = select(vec![
        None,
        Some(ServiceTier::Flex),
        Some(ServiceTier::Priority),
        Some(ServiceTier::Ultrafast),
        Some(ServiceTier::Fast),
    ]);
    let region = select(vec![
        None,
        Some(domain::pricing::PinnedRegion::Us),
        Some(domain::pricing::PinnedRegion::Eu),
    ]);
    let context = select(vec![SearchContext::Low, SearchContext::Medium, SearchContext::High]);
    let variant = select(vec![None, Some("hd"), Some("low"), Some("unknown")]);
    (instants(), tier, region, any::<bool>(), any::<bool>(), context, variant).prop_map(
        |(completed_at, service_tier, region, batch, thinking, search_context, variant)| Circumstances {
            completed_at,
            service_tier,
            region,
            batch,
            thinking,
            search_context,
            image_variant: variant.map(str::to_owned),
        },
    )
}

/// The same request for the naive calculator.
pub fn plain_request(met: &Circumstances, admitted_at: UnixMs) -> Request {
    Request {
        admitted_at,
        completed_at: met.completed_at,
        service_tier: met.service_tier.map(ServiceTier::as_str),
        region: met.region.map(|region| match region {
            domain::pricing::PinnedRegion::Us => "us",
            domain::pricing::PinnedRegion::Eu => "eu",
        }),
        batch: met.batch,
        thinking: met.thinking,
        search_context: match met.search_context {
            SearchContext::Low => "low",
            SearchContext::Medium => "medium",
            SearchContext::High => "high",
        },
        image_variant: met.image_variant.clone(),
    }
}

/// The same usage for the naive calculator.
pub fn plain_counts(usage: &Usage) -> Counts {
    let units = usage.units;
    let by_unit = [
        ("web_search_calls", units.web_searches),
        ("requests", units.requests),
        ("images", units.images),
        ("audio_ms", units.audio_ms),
        ("characters", units.characters),
        ("search_units", units.search_units),
    ];
    let by_class = TokenClass::ALL.map(|class| (class.as_str(), usage.tokens(class)));
    by_unit
        .into_iter()
        .chain(by_class)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
