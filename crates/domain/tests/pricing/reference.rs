//! A second, naive calculator: big-integer fractions over the JSON of a price entry, written from the rules in words and
//! sharing no code with the one under test.

use std::collections::BTreeMap;

use domain::clock::UnixMs;
use num_bigint::BigUint;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Fraction {
    numerator: BigUint,
    denominator: BigUint,
}

impl Fraction {
    pub fn whole(value: u64) -> Self {
        Self {
            numerator: BigUint::from(value),
            denominator: BigUint::from(1_u8),
        }
    }

    /// From `12`, `1.25` or `7/3`.
    pub fn parse(text: &str) -> Self {
        if let Some((above, below)) = text.split_once('/') {
            return Self {
                numerator: above.parse().unwrap(),
                denominator: below.parse().unwrap(),
            };
        }
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        Self {
            numerator: format!("{whole}{decimals}").parse().unwrap(),
            denominator: BigUint::from(10_u8).pow(u32::try_from(decimals.len()).unwrap()),
        }
    }

    pub fn plus(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.denominator + &other.numerator * &self.denominator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    pub fn times(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.numerator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    pub fn over(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.denominator,
            denominator: &self.denominator * &other.numerator,
        }
    }

    pub fn equals(&self, other: &Self) -> bool {
        &self.numerator * &other.denominator == &other.numerator * &self.denominator
    }

    pub fn ceil(&self) -> BigUint {
        (&self.numerator + &self.denominator - 1_u8) / &self.denominator
    }
}

/// What decides a charge besides the entry, in plain form.
#[derive(Clone, Debug)]
pub struct Request {
    pub admitted_at: UnixMs,
    pub completed_at: UnixMs,
    pub service_tier: Option<&'static str>,
    pub region: Option<&'static str>,
    pub batch: bool,
    pub thinking: bool,
    pub search_context: &'static str,
    pub image_variant: Option<String>,
}

/// Counts by class name, `audio_ms` for time.
pub type Counts = BTreeMap<String, u64>;

const INPUT: [&str; 8] = [
    "input",
    "cached_input_read",
    "cache_write_5m",
    "cache_write_1h",
    "audio_input",
    "cached_audio_input",
    "image_input",
    "cached_image_input",
];
const OUTPUT: [&str; 5] = [
    "output",
    "reasoning_output",
    "citation_output",
    "audio_output",
    "image_output",
];

fn fallbacks(class: &str) -> &'static [&'static str] {
    match class {
        "cached_input_read" | "cache_write_5m" | "audio_input" | "image_input" => &["input"],
        "cache_write_1h" => &["cache_write_5m", "input"],
        "cached_audio_input" => &["cached_input_read", "audio_input", "input"],
        "cached_image_input" => &["cached_input_read", "image_input", "input"],
        "reasoning_output" | "citation_output" | "audio_output" | "image_output" => &["output"],
        _ => &[],
    }
}

type CardPrices = BTreeMap<String, Fraction>;

fn overlay(card: &mut CardPrices, over: &Value) {
    for (key, price) in over.as_object().unwrap() {
        let is_token_price =
            INPUT.contains(&key.as_str()) || OUTPUT.contains(&key.as_str()) || key == "thinking_mode_output";
        if let (true, Some(price)) = (is_token_price, price.as_str()) {
            card.insert(key.clone(), Fraction::parse(price));
        }
    }
}

fn list<'a>(entry: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    entry.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn card_in_force(entry: &Value, counts: &Counts, request: &Request) -> CardPrices {
    let mut base = CardPrices::new();
    overlay(&mut base, &entry["price"]);
    let admitted_on = request.admitted_at.to_utc().date().to_string();
    for change in list(entry, "scheduled") {
        if admitted_on.as_str() >= change["effective_from"].as_str().unwrap() {
            overlay(&mut base, &change["price"]);
        }
    }
    let completed = request.completed_at.to_utc();
    let day = completed.weekday().to_string()[..3].to_lowercase();
    let clock = format!("{:02}:{:02}", completed.hour(), completed.minute());
    for window in list(entry, "time_windows") {
        let on_that_day = window["days"]
            .as_array()
            .unwrap()
            .iter()
            .any(|name| name == day.as_str());
        let (start, end) = (
            window["start_utc"].as_str().unwrap(),
            window["end_utc"].as_str().unwrap(),
        );
        if on_that_day && start <= clock.as_str() && clock.as_str() < end {
            overlay(&mut base, &window["price"]);
        }
    }
    let mut card = base.clone();
    let mut has_step = false;
    let total_input: u64 = INPUT.iter().filter_map(|class| counts.get(*class)).sum();
    for step in list(entry, "tiers") {
        if total_input > step["above_input_tokens"].as_u64().unwrap() {
            card = base.clone();
            overlay(&mut card, &step["price"]);
            has_step = true;
        }
    }
    let Some(tier) = request
        .service_tier
        .and_then(|name| entry.get("service_tiers")?.get(name))
    else {
        return card;
    };
    if !has_step {
        overlay(&mut card, tier);
        return card;
    }
    for (key, price) in &mut card {
        if let Some(tier_price) = tier.get(key).and_then(Value::as_str) {
            *price = price.times(&Fraction::parse(tier_price)).over(&base[key]);
        }
    }
    card
}

/// The exact amount before multipliers, in nano-USD.
pub fn subtotal(entry: &Value, counts: &Counts, request: &Request) -> Fraction {
    let card = card_in_force(entry, counts, request);
    let price = &entry["price"];
    let text = |key: &str| price.get(key).and_then(Value::as_str).map(Fraction::parse);
    let mut scale = Fraction::whole(1);
    if request.batch {
        scale = scale.times(&text("batch_multiplier").unwrap_or(Fraction::whole(1)));
    }
    if let Some(factor) = request
        .region
        .and_then(|region| entry.get("region_multipliers")?.get(region))
    {
        scale = scale.times(&Fraction::parse(factor.as_str().unwrap()));
    }
    let nano = Fraction::whole(1_000_000_000);
    let mut total = Fraction::whole(0);
    let mut add = |quantity: &Fraction, unit: &Fraction, per: u64, scale: &Fraction| {
        let line = quantity
            .times(unit)
            .times(&nano)
            .over(&Fraction::whole(per))
            .times(scale);
        total = total.plus(&line);
    };
    let count = |class: &str| {
        counts
            .get(class)
            .copied()
            .filter(|count| *count > 0)
            .map(Fraction::whole)
    };
    for class in INPUT.into_iter().chain(OUTPUT) {
        let Some(quantity) = count(class) else { continue };
        let thinking = (class == "output" && request.thinking).then_some("thinking_mode_output");
        let own = thinking
            .into_iter()
            .chain([class])
            .chain(fallbacks(class).iter().copied());
        let unit = own.filter_map(|key| card.get(key)).next();
        match unit {
            Some(unit) => add(&quantity, unit, 1_000_000, &scale),
            None => assert!(
                class == "input" && text("per_search_unit").is_some(),
                "{class} has no price"
            ),
        }
    }
    if let Some(audio_ms) = counts.get("audio_ms").filter(|audio_ms| **audio_ms > 0) {
        let minimum = price.get("minimum_seconds").and_then(Value::as_u64).unwrap_or(0) * 1_000;
        for (key, length) in [("per_second", 1_000), ("per_minute", 60_000), ("per_hour", 3_600_000)] {
            if let Some(unit) = text(key) {
                add(&Fraction::whole(minimum.max(*audio_ms)), &unit, length, &scale);
            }
        }
    }
    if let (Some(quantity), Some(unit)) = (count("characters"), text("per_1m_characters")) {
        add(&quantity, &unit, 1_000_000, &scale);
    }
    if let (Some(quantity), Some(unit)) = (count("images"), text("per_image")) {
        let variant = request
            .image_variant
            .as_ref()
            .and_then(|name| price.get("per_image_variants")?.get(name));
        let unit = variant.and_then(Value::as_str).map_or(unit, Fraction::parse);
        add(&quantity, &unit, 1, &scale);
    }
    let unscaled = Fraction::whole(1);
    if let (Some(quantity), Some(unit)) = (count("search_units"), text("per_search_unit")) {
        add(&quantity, &unit, 1, &unscaled);
    }
    if let (Some(quantity), Some(unit)) = (count("requests"), text("per_request")) {
        let by_context = price
            .get("per_request_by_search_context")
            .and_then(|map| map.get(request.search_context));
        let unit = by_context.and_then(Value::as_str).map_or(unit, Fraction::parse);
        add(&quantity, &unit, 1, &unscaled);
    }
    if let (Some(quantity), Some(unit)) = (count("web_search_calls"), text("web_search_per_1k")) {
        add(&quantity, &unit, 1_000, &unscaled);
    }
    total
}
