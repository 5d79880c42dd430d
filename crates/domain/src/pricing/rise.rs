//! Which prices rise from one frozen price to another, class by class.
//!
//! Both are asked what a little of every class costs, under every circumstance that either of them distinguishes, by the
//! same code that charges requests: whatever can make a charge higher is found, whichever part of an entry causes it.

use std::{collections::BTreeSet, sync::Arc};

use ethnum::U256;

use super::{
    charge::{Charge, charge_at},
    circumstances::{Circumstances, PinnedRegion, SearchContext, ServiceTier},
    entry::{PriceEntry, TimeWindow},
    exact,
    frozen::FrozenPrice,
    select::window_at,
};
use crate::{
    clock::UnixMs,
    usage::{TokenClass, Units, Usage},
};

const MS_PER_MINUTE: i64 = 60_000;
const MINUTES_PER_DAY: i64 = 1_440;
/// Monday, 1970-01-05 00:00 UTC: only weekday and minute of a completion choose a window.
const A_MONDAY: i64 = 4 * MINUTES_PER_DAY * MS_PER_MINUTE;
/// Longer than any minimum duration.
const LONG_AUDIO_MS: u64 = 1_000_000_000;

/// A price that rises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rise {
    /// The usage class; `None` for every class together.
    pub class: Option<&'static str>,
    /// The class and the circumstances: `output`, `input (above 200000 input tokens)`, `every price`, ...
    pub line: String,
    /// What it was: USD per million tokens or per unit, or the multiplier; exact.
    pub before: String,
    /// What it becomes.
    pub after: String,
    /// The price by which the class is charged, which others may fall back on too; `None` where a class has its own.
    pub price_key: Option<String>,
}

/// One rise for each price that rises: of classes that fall back on one price, the first. For people who read them only,
/// as another class may have had a price of its own before.
pub fn named_once(rises: Vec<Rise>) -> Vec<Rise> {
    let mut keys = BTreeSet::new();
    let mut named = rises;
    named.retain(|rise| rise.price_key.as_ref().is_none_or(|key| keys.insert(key.clone())));
    named
}

/// Every class of which something costs more under `new` than under `old`, each with the plainest circumstances in which
/// it does. A class that `old` did not charge for, as it had no price, counts as free there.
pub fn rises(old: &FrozenPrice, new: &FrozenPrice) -> Vec<Rise> {
    let same_cards = old.admitted_at == new.admitted_at || new.entry.scheduled().is_empty();
    if old.entry == new.entry && same_cards {
        return multiplier_rise(old, new).into_iter().collect();
    }
    let mut found = Found {
        old,
        new,
        classes: BTreeSet::new(),
        rises: Vec::new(),
    };
    for (met, words) in circumstances(&old.entry, &new.entry) {
        found.token_classes(&met, &words);
        found.units(&met, &words);
    }
    found.rises
}

fn multiplier_rise(old: &FrozenPrice, new: &FrozenPrice) -> Option<Rise> {
    let rises = new.multipliers.micros() > old.multipliers.micros() && !new.entry.is_free();
    rises.then(|| Rise {
        class: None,
        line: "every price (multiplier)".to_owned(),
        before: old.multipliers.product(),
        after: new.multipliers.product(),
        price_key: None,
    })
}

struct Found<'a> {
    old: &'a FrozenPrice,
    new: &'a FrozenPrice,
    /// Classes that are known to rise; one case of each is enough.
    classes: BTreeSet<&'static str>,
    rises: Vec<Rise>,
}

impl Found<'_> {
    fn token_classes(&mut self, met: &Circumstances, words: &[String]) {
        let thresholds = [self.old, self.new].map(|price| price.entry.parts().tiers.iter());
        let above: BTreeSet<u64> = thresholds
            .into_iter()
            .flatten()
            .map(|step| step.above_input_tokens)
            .collect();
        for class in TokenClass::ALL {
            self.compare(class, None, met, words);
            for above in &above {
                self.compare(class, Some(*above), met, words);
            }
        }
    }

    fn compare(&mut self, class: TokenClass, above: Option<u64>, met: &Circumstances, words: &[String]) {
        if self.classes.contains(class.as_str()) {
            return;
        }
        let fillers = [TokenClass::Input, TokenClass::AudioInput, TokenClass::ImageInput];
        for filler in fillers.into_iter().take(if above.is_some() { 3 } else { 1 }) {
            let mut usage = Usage::default();
            if let Some(above) = above {
                usage = usage.with_tokens(filler, above.saturating_add(1));
            }
            let quantity = usage.tokens(class).saturating_add(1);
            let usage = usage.with_tokens(class, quantity);
            let Ok(new) = charge_at(self.new, &usage, met) else {
                continue;
            };
            let old = charge_at(self.old, &usage, met).ok();
            let step = above.map(|above| format!("above {above} input tokens"));
            let words = words.iter().cloned().chain(step).collect();
            // per million tokens
            self.note(
                class.as_str(),
                Some(class.as_str()),
                (old, new),
                (1_000_000, quantity),
                words,
            );
            return;
        }
    }

    fn units(&mut self, met: &Circumstances, words: &[String]) {
        let minimums = [self.old, self.new].map(|price| price.entry.price().minimum_seconds);
        let minimums = minimums.into_iter().flatten().map(|seconds| u64::from(seconds) * 1_000);
        let lengths: BTreeSet<u64> = [1, LONG_AUDIO_MS].into_iter().chain(minimums).collect();
        let audio = lengths.into_iter().map(|audio_ms| {
            (
                "audio",
                Units {
                    audio_ms,
                    ..Units::default()
                },
            )
        });
        let one = Units::default();
        let single = [
            ("images", Units { images: 1, ..one }),
            ("requests", Units { requests: 1, ..one }),
            ("web_searches", Units { web_searches: 1, ..one }),
            ("characters", Units { characters: 1, ..one }),
            ("search_units", Units { search_units: 1, ..one }),
        ];
        for (name, units) in single.into_iter().chain(audio) {
            let usage = Usage::default().with_units(units);
            if self.classes.contains(name) {
                continue;
            }
            let Ok(new) = charge_at(self.new, &usage, met) else {
                continue;
            };
            let old = charge_at(self.old, &usage, met).ok();
            let quantity = if name == "audio" { units.audio_ms } else { 1 };
            // a minute of audio
            let unit = if name == "audio" { 60_000 } else { 1 };
            self.note(name, None, (old, new), (unit, quantity), words.to_vec());
        }
    }

    fn note(
        &mut self,
        name: &'static str,
        class: Option<&str>,
        (old, new): (Option<Charge>, Charge),
        (unit, quantity): (u64, u64),
        words: Vec<String>,
    ) {
        let free = Some((U256::ZERO, U256::ONE));
        let before = old.map_or(free, |charge| charge.exact_of(class));
        let after = new.exact_of(class);
        if !is_more(after, before) {
            return;
        }
        self.classes.insert(name);
        let line = new.lines().into_iter().find(|line| Some(line.class.as_str()) == class);
        let words = words.join(", ");
        self.rises.push(Rise {
            class: Some(name),
            line: if words.is_empty() {
                name.to_owned()
            } else {
                format!("{name} ({words})")
            },
            before: usd_per(before, unit, quantity),
            after: usd_per(after, unit, quantity),
            price_key: line.map(|line| line.price_key),
        });
    }
}

/// Whether a fraction is larger than another; one that cannot be told counts as larger.
fn is_more(one: Option<(U256, U256)>, other: Option<(U256, U256)>) -> bool {
    let (Some((one, below_one)), Some((other, below_other))) = (one, other) else {
        return true;
    };
    let ((one, below_one), (other, below_other)) = (lowest(one, below_one), lowest(other, below_other));
    match (one.checked_mul(below_other), other.checked_mul(below_one)) {
        (Some(one), Some(other)) => one > other,
        // beyond 256 bits the whole parts decide, and equal ones count as larger
        _ => one / below_one >= other / below_other,
    }
}

fn lowest(numerator: U256, denominator: U256) -> (U256, U256) {
    let common = exact::gcd(numerator, denominator).max(U256::ONE);
    (numerator / common, denominator / common)
}

/// Nano-USD for a quantity as USD per unit.
fn usd_per(amount: Option<(U256, U256)>, unit: u64, quantity: u64) -> String {
    let scaled = amount.and_then(|(numerator, denominator)| {
        let numerator = numerator.checked_mul(U256::from(unit))?;
        let denominator = denominator
            .checked_mul(U256::from(quantity))?
            .checked_mul(U256::new(1_000_000_000))?;
        Some(exact::text(numerator, denominator))
    });
    scaled.unwrap_or_else(|| "too large to show".to_owned())
}

/// Every combination that either entry tells apart, with the words for it, the plainest first.
fn circumstances(old: &Arc<PriceEntry>, new: &Arc<PriceEntry>) -> Vec<(Circumstances, Vec<String>)> {
    let (one, other) = (old.parts(), new.parts());
    let keys = one.service_tiers.keys().chain(other.service_tiers.keys());
    let tiers = options(keys.copied(), |tier: &ServiceTier| {
        format!("service tier {}", tier.as_str())
    });
    let keys = one.region_multipliers.keys().chain(other.region_multipliers.keys());
    let regions = options(keys.copied(), |region: &PinnedRegion| {
        format!("region {region:?}").to_lowercase()
    });
    let keys = one
        .price
        .per_image_variants
        .keys()
        .chain(other.price.per_image_variants.keys());
    let variants = options(keys.cloned(), |name: &String| format!("variant {name}"));
    let keys = one.price.per_request_by_search_context.keys();
    let keys = keys.chain(other.price.per_request_by_search_context.keys());
    let contexts = options(keys.copied(), |context: &SearchContext| {
        format!("search context {context:?}").to_lowercase()
    });
    let batches = [
        false,
        one.price.batch_multiplier.is_some() || other.price.batch_multiplier.is_some(),
    ];
    let batches: BTreeSet<bool> = batches.into_iter().collect();
    let mut all = Vec::new();
    for (completed_at, window) in completions(old, new) {
        for (service_tier, tier) in &tiers {
            for (region, place) in &regions {
                for batch in &batches {
                    for thinking in [false, true] {
                        let met = Circumstances {
                            service_tier: *service_tier,
                            region: *region,
                            batch: *batch,
                            thinking,
                            ..Circumstances::at(completed_at)
                        };
                        let batch = batch.then(|| "batch".to_owned());
                        let thinking = thinking.then(|| "thinking".to_owned());
                        let words = [window.clone(), tier.clone(), place.clone(), batch, thinking];
                        all.push((met, words.into_iter().flatten().collect()));
                    }
                }
            }
        }
    }
    // what concerns fees alone is not combined with the rest
    for (variant, words) in variants.iter().filter(|(variant, _)| variant.is_some()) {
        let met = Circumstances {
            image_variant: variant.clone(),
            ..Circumstances::at(UnixMs(A_MONDAY))
        };
        all.push((met, words.iter().cloned().collect()));
    }
    for (context, words) in contexts
        .iter()
        .filter_map(|(context, words)| Some(((*context)?, words)))
    {
        let met = Circumstances {
            search_context: context,
            ..Circumstances::at(UnixMs(A_MONDAY))
        };
        all.push((met, words.iter().cloned().collect()));
    }
    all
}

/// None, and each of the keys once, with its words.
fn options<K: Ord + Clone>(
    keys: impl Iterator<Item = K>,
    words: impl Fn(&K) -> String,
) -> Vec<(Option<K>, Option<String>)> {
    let keys: BTreeSet<K> = keys.collect();
    let named = keys.into_iter().map(|key| {
        let words = words(&key);
        (Some(key), Some(words))
    });
    std::iter::once((None, None)).chain(named).collect()
}

/// An instant of completion in every combination of time windows of the two entries.
fn completions(old: &PriceEntry, new: &PriceEntry) -> Vec<(UnixMs, Option<String>)> {
    let windows = || old.parts().time_windows.iter().chain(&new.parts().time_windows);
    let edges = |window: &TimeWindow| [window.start_utc, window.end_utc].map(|edge| i64::from(edge.minutes()));
    let minutes: BTreeSet<i64> = windows().flat_map(edges).chain([0]).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for day in 0..7 {
        for minute in &minutes {
            let instant = UnixMs(A_MONDAY + (day * MINUTES_PER_DAY + minute) * MS_PER_MINUTE);
            let pair = (window_at(old, instant), window_at(new, instant));
            if seen.insert(pair) {
                let window = pair.1.and_then(|index| new.parts().time_windows.get(index));
                let words = window.map(|window| format!("window {}-{}", window.start_utc, window.end_utc));
                found.push((instant, words));
            }
        }
    }
    found.sort_by_key(|(_, words)| words.is_some());
    found
}
