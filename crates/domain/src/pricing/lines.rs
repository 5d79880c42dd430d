//! A price entry as a flat list: every price with its unit, the condition under which it holds, and what it comes to.

use ethnum::U256;
use serde::Serialize;

use super::{
    card::Card,
    decimal::{Decimal, UNITS_PER_ONE},
    entry::{BasePrice, PriceEntry},
    exact,
    multiplier::{MICROS_PER_ONE_CUBED, Multipliers},
};

/// The unit of token prices.
const MILLION_TOKENS: &str = "1M tokens";

/// One price of an entry, in USD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PriceLine {
    /// The key in the entry: `input`, `cached_input_read`, `per_image`, ...
    pub class: &'static str,
    /// What the price is for: `1M tokens`, `image`, `minute`, ...
    pub unit: &'static str,
    /// When it holds: `base`, `above 200000 input tokens`, `service tier flex`, ...
    pub condition: String,
    /// The list price, exact.
    #[serde(rename = "list_price_usd")]
    pub list: String,
    /// The list price times the multipliers, exact.
    #[serde(rename = "price_usd")]
    pub price: String,
}

/// Every price that an entry names, the base card first. Prices that a part leaves out are those of the base card.
pub fn price_lines(entry: &PriceEntry, multipliers: &Multipliers) -> Vec<PriceLine> {
    let mut lines = Vec::new();
    let mut add = |class, unit, condition: &str, list: Decimal| {
        lines.push(PriceLine {
            class,
            unit,
            condition: condition.to_owned(),
            list: list.to_string(),
            price: resulting(list, multipliers),
        });
    };
    let parts = entry.parts();
    for (class, price) in cards_of(&parts.price.tokens) {
        add(class, MILLION_TOKENS, "base", price);
    }
    for (class, unit, condition, price) in units_of(&parts.price) {
        add(class, unit, &condition, price);
    }
    for (condition, card) in conditional_cards(entry) {
        for (class, price) in cards_of(card) {
            add(class, MILLION_TOKENS, &condition, price);
        }
    }
    lines
}

fn cards_of(card: &Card) -> impl Iterator<Item = (&'static str, Decimal)> + '_ {
    card.iter().map(|(key, price)| (key.as_str(), price))
}

fn conditional_cards(entry: &PriceEntry) -> Vec<(String, &Card)> {
    let parts = entry.parts();
    let scheduled = parts.scheduled.iter();
    let scheduled = scheduled.map(|change| (format!("from {} 00:00 UTC", change.effective_from), &change.price));
    let windows = parts.time_windows.iter().map(|window| {
        let days: Vec<_> = window
            .days
            .iter()
            .map(|day| format!("{day:?}").to_lowercase())
            .collect();
        let days = days.join(" ");
        (
            format!("{days} {}-{} UTC", window.start_utc, window.end_utc),
            &window.price,
        )
    });
    let steps = parts.tiers.iter();
    let steps = steps.map(|step| (format!("above {} input tokens", step.above_input_tokens), &step.price));
    let tiers = parts.service_tiers.iter();
    let tiers = tiers.map(|(tier, card)| (format!("service tier {}", tier.as_str()), card));
    scheduled.chain(windows).chain(steps).chain(tiers).collect()
}

fn units_of(price: &BasePrice) -> Vec<(&'static str, &'static str, String, Decimal)> {
    let single = [
        ("per_image", "image", price.per_image),
        ("per_second", "second", price.per_second),
        ("per_minute", "minute", price.per_minute),
        ("per_hour", "hour", price.per_hour),
        ("per_1m_characters", "1M characters", price.per_1m_characters),
        ("per_search_unit", "search unit", price.per_search_unit),
        ("per_request", "request", price.per_request),
        ("web_search_per_1k", "1k web searches", price.web_search_per_1k),
    ];
    let base = |(class, unit, each): (_, _, Option<Decimal>)| Some((class, unit, "base".to_owned(), each?));
    let images = price.per_image_variants.iter();
    let images = images.map(|(name, each)| ("per_image", "image", format!("variant {name}"), *each));
    let searches = price.per_request_by_search_context.iter().map(|(context, each)| {
        let context = format!("{context:?}").to_lowercase();
        ("per_request", "request", format!("search context {context}"), *each)
    });
    let single = single.into_iter().filter_map(base);
    single.chain(images).chain(searches).collect()
}

/// The list price times the multipliers, not rounded.
fn resulting(list: Decimal, multipliers: &Multipliers) -> String {
    // below 1e21 times 1e27, far from 2^256
    let numerator = U256::from(list.units()) * U256::from(multipliers.micros());
    exact::text(numerator, U256::from(UNITS_PER_ONE) * U256::from(MICROS_PER_ONE_CUBED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_is_shown_with_its_condition_and_exactly_multiplied() {
        let entry = r#"{"price":{"input":"2.5","output":"10","per_image":"0.04","per_image_variants":{"hd":"0.08"}},
            "tiers":[{"above_input_tokens":200000,"price":{"input":"5"}}],
            "time_windows":[{"days":["mon","sun"],"start_utc":"01:00","end_utc":"02:00","price":{"output":"1"}}],
            "service_tiers":{"flex":{"input":"1.25"}},
            "scheduled":[{"effective_from":"2090-01-01","price":{"input":"3"}}]}"#;
        let entry: PriceEntry = serde_json::from_str(entry).unwrap();
        let multipliers = Multipliers {
            pool: "1.7".parse().unwrap(),
            tier: "0.333333".parse().unwrap(),
            ..Multipliers::ONE
        };
        let lines = price_lines(&entry, &multipliers);
        let shown: Vec<_> = lines
            .iter()
            .map(|line| format!("{} {} {} {}", line.class, line.condition, line.list, line.price))
            .collect();
        assert_eq!(
            shown,
            [
                "input base 2.5 1.41666525",
                "output base 10 5.666661",
                "per_image base 0.04 0.022666644",
                "per_image variant hd 0.08 0.045333288",
                "input from 2090-01-01 00:00 UTC 3 1.6999983",
                "output mon sun 01:00-02:00 UTC 1 0.5666661",
                "input above 200000 input tokens 5 2.8333305",
                "input service tier flex 1.25 0.708332625",
            ]
        );
    }
}
