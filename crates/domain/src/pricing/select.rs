//! Which card is in force: announced change and time window first, then the long-context step, then the service tier.

use ethnum::U256;

use super::{
    calendar::{ClockMinute, Weekday},
    card::{Card, CardKey, KEYS, prices_of},
    circumstances::ServiceTier,
    entry::PriceEntry,
    error::PricingError,
};
use crate::{clock::UnixMs, usage::TokenClass};

/// The parts of an entry that together make the card in force, by their places in the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Selection {
    /// How many announced changes had happened.
    pub scheduled: usize,
    /// The time window.
    pub window: Option<usize>,
    /// The long-context step.
    pub step: Option<usize>,
    /// The service tier, if the entry has a card for it.
    pub service_tier: Option<ServiceTier>,
}

impl Selection {
    /// Chooses by the times of admission and completion, the total input and the tier that served the request.
    pub fn choose(
        entry: &PriceEntry,
        admitted_at: UnixMs,
        completed_at: UnixMs,
        total_input_tokens: u64,
        service_tier: Option<ServiceTier>,
    ) -> Self {
        let parts = entry.parts();
        Self {
            scheduled: scheduled_by(entry, admitted_at),
            window: window_at(entry, completed_at),
            step: parts
                .tiers
                .iter()
                .rposition(|step| total_input_tokens > step.above_input_tokens),
            service_tier: service_tier.filter(|tier| parts.service_tiers.contains_key(tier)),
        }
    }

    /// The parts by name, for receipts: `base`, `window 06:00-10:00`, `above 200000`, `service tier flex`.
    pub fn names(self, entry: &PriceEntry) -> Vec<String> {
        let parts = entry.parts();
        let ground = match self.window.and_then(|index| parts.time_windows.get(index)) {
            Some(window) => format!("window {}-{}", window.start_utc, window.end_utc),
            None => match self
                .scheduled
                .checked_sub(1)
                .and_then(|index| parts.scheduled.get(index))
            {
                Some(change) => format!("scheduled {}", change.effective_from),
                None => "base".to_owned(),
            },
        };
        let step = self.step.and_then(|index| parts.tiers.get(index));
        let step = step.map(|step| format!("above {}", step.above_input_tokens));
        let tier = self.service_tier.map(|tier| format!("service tier {}", tier.as_str()));
        [Some(ground), step, tier].into_iter().flatten().collect()
    }
}

/// How many announced changes of the entry have happened at an instant.
pub(super) fn scheduled_by(entry: &PriceEntry, instant: UnixMs) -> usize {
    entry
        .scheduled()
        .iter()
        .take_while(|change| change.effective_from.starts_at() <= instant)
        .count()
}

/// The time window that holds an instant, by its place in the entry.
pub(super) fn window_at(entry: &PriceEntry, instant: UnixMs) -> Option<usize> {
    let windows = &entry.parts().time_windows;
    if windows.is_empty() {
        return None;
    }
    let (day, minute) = (Weekday::of(instant), ClockMinute::of(instant));
    windows
        .iter()
        .position(|window| window.days.contains(&day) && window.start_utc <= minute && minute < window.end_utc)
}

/// A card in force, its prices in steps of 1e-12 USD divided by the entry's lattice. Each is below 2^126.
#[derive(Debug, Clone)]
pub(super) struct RatedCard {
    prices: [u128; KEYS],
    named: u16,
}

impl RatedCard {
    /// Works out the card that a selection stands for.
    pub fn of(entry: &PriceEntry, selection: Selection) -> Result<Self, PricingError> {
        let parts = entry.parts();
        let mut ground = parts.price.tokens;
        for change in parts.scheduled.iter().take(selection.scheduled) {
            ground = ground.overlaid(&change.price);
        }
        if let Some(window) = selection.window.and_then(|index| parts.time_windows.get(index)) {
            ground = ground.overlaid(&window.price);
        }
        let step = selection.step.and_then(|index| parts.tiers.get(index));
        let tier = selection.service_tier.and_then(|tier| parts.service_tiers.get(&tier));
        match (step, tier) {
            (None, None) => Ok(Self::scaled(&ground, entry.lattice())),
            (None, Some(tier)) => Ok(Self::scaled(&ground.overlaid(tier), entry.lattice())),
            (Some(step), None) => Ok(Self::scaled(&ground.overlaid(&step.price), entry.lattice())),
            (Some(step), Some(tier)) => {
                Self::scaled(&ground.overlaid(&step.price), entry.lattice()).times_tier_over_base(tier, &ground)
            }
        }
    }

    fn scaled(card: &Card, lattice: u64) -> Self {
        let mut prices = [0; KEYS];
        for (key, price) in card.iter() {
            prices[key as usize] = price.units() * u128::from(lattice);
        }
        Self {
            prices,
            named: card.named(),
        }
    }

    /// Scales class by class: what the tier is to the base card, it is to the step. Whole by the choice of lattice.
    fn times_tier_over_base(mut self, tier: &Card, base: &Card) -> Result<Self, PricingError> {
        for (key, tier_price) in tier.iter().filter(|(key, _)| self.named & key.bit() != 0) {
            let base_price = base.get(key).map_or(0, |price| price.units());
            let product = U256::from(self.prices[key as usize]) * U256::from(tier_price.units());
            let scaled = product
                .checked_div(U256::from(base_price))
                .ok_or(PricingError::Overflow)?;
            self.prices[key as usize] = u128::try_from(scaled).map_err(|_| PricingError::Overflow)?;
        }
        Ok(self)
    }

    /// The price of a class and the key under which it was found.
    pub fn price(&self, class: TokenClass, thinking: bool) -> Option<(u128, CardKey)> {
        let thinking_price = (thinking && class == TokenClass::Output).then_some(CardKey::ThinkingModeOutput);
        let mut keys = thinking_price.into_iter().chain(prices_of(class).iter().copied());
        keys.find(|key| self.named & key.bit() != 0)
            .map(|key| (self.prices[key as usize], key))
    }
}
