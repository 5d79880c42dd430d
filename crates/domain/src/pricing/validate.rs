//! What must hold between the parts of a price entry.

use super::{
    card::Card,
    entry::{BasePrice, PriceEntryParts, TimeWindow},
    error::PricingError,
};

/// More steps, windows or announced changes than this are a mistake, and would make quotes slow.
const MOST_PARTS: usize = 32;
/// A longest minimum duration that a provider could mean, in seconds.
const LONGEST_MINIMUM_SECONDS: u32 = 86_400;

pub(super) fn validate(parts: &PriceEntryParts) -> Result<(), PricingError> {
    base(&parts.price)?;
    cards_name_prices(parts)?;
    steps_rise(parts)?;
    windows_are_well_formed(&parts.time_windows)?;
    changes_rise(parts)
}

fn ensure(holds: bool, problem: &str) -> Result<(), PricingError> {
    if holds {
        Ok(())
    } else {
        Err(PricingError::entry(problem))
    }
}

fn base(price: &BasePrice) -> Result<(), PricingError> {
    ensure(
        price.names_a_price(),
        "`price` names no price: give at least one, \"0\" if the offer is free",
    )?;
    let per_time = [price.per_second, price.per_minute, price.per_hour];
    let times = per_time.iter().flatten().count();
    ensure(
        times <= 1,
        "`per_second`, `per_minute` and `per_hour` exclude each other: keep one",
    )?;
    ensure(
        times == 1 || (price.time_of.is_none() && price.minimum_seconds.is_none()),
        "`time_of` and `minimum_seconds` need a price per second, minute or hour",
    )?;
    ensure(
        price
            .minimum_seconds
            .is_none_or(|seconds| (1..=LONGEST_MINIMUM_SECONDS).contains(&seconds)),
        "`minimum_seconds` must be from 1 to 86400",
    )?;
    ensure(
        price.per_image_variants.is_empty() || price.per_image.is_some(),
        "`per_image_variants` needs `per_image`, the price of all other images",
    )?;
    ensure(
        price.per_request_by_search_context.is_empty() || price.per_request.is_some(),
        "`per_request_by_search_context` needs `per_request`, the price of all other requests",
    )
}

fn cards_name_prices(parts: &PriceEntryParts) -> Result<(), PricingError> {
    let cards = [
        (
            "tiers",
            parts.tiers.iter().map(|step| &step.price).collect::<Vec<&Card>>(),
        ),
        (
            "time_windows",
            parts.time_windows.iter().map(|window| &window.price).collect(),
        ),
        (
            "scheduled",
            parts.scheduled.iter().map(|change| &change.price).collect(),
        ),
        ("service_tiers", parts.service_tiers.values().collect()),
    ];
    for (name, cards) in cards {
        if cards.len() > MOST_PARTS {
            return Err(PricingError::entry(format!(
                "`{name}` has more than {MOST_PARTS} parts"
            )));
        }
        if cards.iter().any(|card| card.is_empty()) {
            return Err(PricingError::entry(format!(
                "a card in `{name}` names no token price: give one or remove it"
            )));
        }
    }
    Ok(())
}

fn steps_rise(parts: &PriceEntryParts) -> Result<(), PricingError> {
    ensure(
        parts.tiers.iter().all(|step| step.above_input_tokens > 0),
        "`above_input_tokens` must be at least 1",
    )?;
    ensure(
        parts
            .tiers
            .is_sorted_by(|earlier, later| earlier.above_input_tokens < later.above_input_tokens),
        "`tiers` must rise: sort them by `above_input_tokens`, each number once",
    )
}

fn changes_rise(parts: &PriceEntryParts) -> Result<(), PricingError> {
    ensure(
        parts
            .scheduled
            .is_sorted_by(|earlier, later| earlier.effective_from < later.effective_from),
        "`scheduled` must rise: sort it by `effective_from`, each day once",
    )
}

fn windows_are_well_formed(windows: &[TimeWindow]) -> Result<(), PricingError> {
    for (index, window) in windows.iter().enumerate() {
        ensure(!window.days.is_empty(), "a time window has no days: name at least one")?;
        ensure(window.days.len() <= 7, "a time window names a day twice")?;
        let repeated = window
            .days
            .iter()
            .enumerate()
            .any(|(at, day)| window.days[..at].contains(day));
        ensure(!repeated, "a time window names a day twice")?;
        ensure(
            window.start_utc < window.end_utc,
            "a time window must start before it ends: split one that crosses midnight",
        )?;
        ensure(
            !windows[..index].iter().any(|other| overlap(window, other)),
            "time windows overlap: make them disjoint",
        )?;
    }
    Ok(())
}

fn overlap(one: &TimeWindow, other: &TimeWindow) -> bool {
    let share_a_day = one.days.iter().any(|day| other.days.contains(day));
    share_a_day && one.start_utc < other.end_utc && other.start_utc < one.end_utc
}

#[cfg(test)]
mod tests {
    use super::super::entry::PriceEntry;

    fn problem(json: &str) -> String {
        serde_json::from_str::<PriceEntry>(json).expect_err(json).to_string()
    }

    #[test]
    fn refuses_entries_whose_parts_contradict_each_other() {
        let window = r#"{"days":["mon"],"start_utc":"06:00","end_utc":"10:00","price":{"input":"2"}}"#;
        for (json, says) in [
            (r#"{"price":{}}"#.to_owned(), "names no price"),
            (r#"{"price":{"per_second":"1","per_hour":"1"}}"#.to_owned(), "exclude each other"),
            (r#"{"price":{"input":"1","time_of":"input_audio"}}"#.to_owned(), "need a price per second"),
            (r#"{"price":{"per_second":"1","minimum_seconds":0}}"#.to_owned(), "minimum_seconds"),
            (r#"{"price":{"input":"1","per_image_variants":{"hd":"1"}}}"#.to_owned(), "needs `per_image`"),
            (r#"{"price":{"input":"1","per_request_by_search_context":{"low":"1"}}}"#.to_owned(), "needs `per_request`"),
            (r#"{"price":{"input":"1"},"tiers":[{"above_input_tokens":1,"price":{}}]}"#.to_owned(), "names no token price"),
            (
                r#"{"price":{"input":"1"},"tiers":[{"above_input_tokens":9,"price":{"input":"2"}},{"above_input_tokens":9,"price":{"input":"3"}}]}"#.to_owned(),
                "`tiers` must rise",
            ),
            (
                r#"{"price":{"input":"1"},"scheduled":[{"effective_from":"2027-02-01","price":{"input":"2"}},{"effective_from":"2027-01-01","price":{"input":"3"}}]}"#.to_owned(),
                "`scheduled` must rise",
            ),
            (format!(r#"{{"price":{{"input":"1"}},"time_windows":[{window},{window}]}}"#), "overlap"),
            (
                format!(r#"{{"price":{{"input":"1"}},"time_windows":[{}]}}"#, window.replace("06:00", "10:00")),
                "start before it ends",
            ),
            (
                format!(r#"{{"price":{{"input":"1"}},"time_windows":[{}]}}"#, window.replace(r#""mon""#, r#""mon","mon""#)),
                "a day twice",
            ),
            (r#"{"price":{"input":"1"},"tires":[]}"#.to_owned(), "unknown field"),
            (r#"{"price":{"inptu":"1"}}"#.to_owned(), "unknown variant `inptu`"),
            (r#"{"price":{"input":"1","per_image":1.5}}"#.to_owned(), "string"),
        ] {
            let problem = problem(&json);
            assert!(problem.contains(says), "{json}: {problem}");
        }
    }
}
