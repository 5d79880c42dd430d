//! A card of token prices, and which price stands in for one that is missing.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::MapAccess, ser::SerializeMap};

use super::decimal::Decimal;
use crate::usage::TokenClass;

/// A token price on a card. Nearly the token classes; the thinking mode is a price without a class of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CardKey {
    /// Fresh text input.
    Input,
    /// Input read from the prompt cache.
    CachedInputRead,
    /// Input written to the prompt cache for five minutes.
    #[serde(rename = "cache_write_5m")]
    CacheWrite5m,
    /// Input written to the prompt cache for an hour.
    #[serde(rename = "cache_write_1h")]
    CacheWrite1h,
    /// Output.
    Output,
    /// Reasoning output that is priced on its own.
    ReasoningOutput,
    /// The whole output when thinking is switched on.
    ThinkingModeOutput,
    /// Citation output that is priced on its own.
    CitationOutput,
    /// Fresh audio input.
    AudioInput,
    /// Audio input read from the prompt cache.
    CachedAudioInput,
    /// Audio output.
    AudioOutput,
    /// Fresh image input.
    ImageInput,
    /// Image input read from the prompt cache.
    CachedImageInput,
    /// Image output.
    ImageOutput,
}

/// How many keys a card has.
pub(super) const KEYS: usize = CardKey::ALL.len();

impl CardKey {
    /// Every key, in the order in which cards are written.
    pub const ALL: [Self; 14] = [
        Self::Input,
        Self::CachedInputRead,
        Self::CacheWrite5m,
        Self::CacheWrite1h,
        Self::Output,
        Self::ReasoningOutput,
        Self::ThinkingModeOutput,
        Self::CitationOutput,
        Self::AudioInput,
        Self::CachedAudioInput,
        Self::AudioOutput,
        Self::ImageInput,
        Self::CachedImageInput,
        Self::ImageOutput,
    ];

    /// The key as the catalog spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CachedInputRead => "cached_input_read",
            Self::CacheWrite5m => "cache_write_5m",
            Self::CacheWrite1h => "cache_write_1h",
            Self::Output => "output",
            Self::ReasoningOutput => "reasoning_output",
            Self::ThinkingModeOutput => "thinking_mode_output",
            Self::CitationOutput => "citation_output",
            Self::AudioInput => "audio_input",
            Self::CachedAudioInput => "cached_audio_input",
            Self::AudioOutput => "audio_output",
            Self::ImageInput => "image_input",
            Self::CachedImageInput => "cached_image_input",
            Self::ImageOutput => "image_output",
        }
    }

    pub(super) const fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// The prices that may stand for a class, best first: its own, then those of the classes it falls back to.
pub(super) const fn prices_of(class: TokenClass) -> &'static [CardKey] {
    use CardKey as K;
    match class {
        TokenClass::Input => &[K::Input],
        TokenClass::CachedInputRead => &[K::CachedInputRead, K::Input],
        TokenClass::CacheWrite5m => &[K::CacheWrite5m, K::Input],
        TokenClass::CacheWrite1h => &[K::CacheWrite1h, K::CacheWrite5m, K::Input],
        TokenClass::Output => &[K::Output],
        TokenClass::ReasoningOutput => &[K::ReasoningOutput, K::Output],
        TokenClass::CitationOutput => &[K::CitationOutput, K::Output],
        TokenClass::AudioInput => &[K::AudioInput, K::Input],
        TokenClass::CachedAudioInput => &[K::CachedAudioInput, K::CachedInputRead, K::AudioInput, K::Input],
        TokenClass::AudioOutput => &[K::AudioOutput, K::Output],
        TokenClass::ImageInput => &[K::ImageInput, K::Input],
        TokenClass::CachedImageInput => &[K::CachedImageInput, K::CachedInputRead, K::ImageInput, K::Input],
        TokenClass::ImageOutput => &[K::ImageOutput, K::Output],
    }
}

/// Token prices in USD per 1,000,000 tokens. A card may leave keys out.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Card {
    prices: [Decimal; KEYS],
    named: u16,
}

impl Card {
    /// The price under a key, if the card names it.
    pub fn get(&self, key: CardKey) -> Option<Decimal> {
        (self.named & key.bit() != 0).then(|| self.prices[key as usize])
    }

    /// Whether the card names no price.
    pub const fn is_empty(&self) -> bool {
        self.named == 0
    }

    /// The prices that the card names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (CardKey, Decimal)> + '_ {
        CardKey::ALL
            .into_iter()
            .filter_map(|key| self.get(key).map(|price| (key, price)))
    }

    /// Names a price, replacing the one that was there.
    pub const fn set(&mut self, key: CardKey, price: Decimal) {
        self.prices[key as usize] = price;
        self.named |= key.bit();
    }

    /// This card with the keys that `over` names replaced by its prices.
    #[must_use]
    pub fn overlaid(&self, over: &Self) -> Self {
        let mut card = *self;
        for (key, price) in over.iter() {
            card.set(key, price);
        }
        card
    }

    pub(super) const fn named(&self) -> u16 {
        self.named
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(key, price)| (key.as_str(), price)))
            .finish()
    }
}

impl Serialize for Card {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, price) in self.iter() {
            map.serialize_entry(key.as_str(), &price)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Card {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CardVisitor)
    }
}

struct CardVisitor;

impl<'de> serde::de::Visitor<'de> for CardVisitor {
    type Value = Card;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of token prices as decimal strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Card, A::Error> {
        let mut card = Card::default();
        while let Some((key, price)) = map.next_entry::<CardKey, Decimal>()? {
            if card.get(key).is_some() {
                return Err(serde::de::Error::duplicate_field(key.as_str()));
            }
            card.set(key, price);
        }
        Ok(card)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_price_key_of_its_own_name() {
        for class in TokenClass::ALL {
            assert_eq!(prices_of(class)[0].as_str(), class.as_str());
        }
        for (index, key) in CardKey::ALL.into_iter().enumerate() {
            assert_eq!(key as usize, index);
            assert_eq!(serde_json::to_value(key).unwrap(), key.as_str());
        }
    }

    #[test]
    fn refuses_unknown_repeated_and_numeric_prices() {
        for bad in [
            r#"{"inptu":"1"}"#,
            r#"{"input":"1","input":"2"}"#,
            r#"{"input":1}"#,
            r#"{"input":null}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<Card>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_overlay_replaces_only_what_it_names() {
        let base: Card = serde_json::from_str(r#"{"input":"1","output":"2"}"#).unwrap();
        let over: Card = serde_json::from_str(r#"{"output":"3","audio_input":"0"}"#).unwrap();
        let expected: Card = serde_json::from_str(r#"{"input":"1","output":"3","audio_input":"0"}"#).unwrap();
        assert_eq!(base.overlaid(&over), expected);
    }
}
