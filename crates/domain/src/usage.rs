//! Usage of one request in disjoint classes: no token is counted twice, whatever the provider's own totals include.

use serde::{Deserialize, Serialize};

/// The largest count of any class that is believed. A provider that reports more is absurd.
pub const MAX_PLAUSIBLE_COUNT: u64 = 1_000_000_000;

/// A class of tokens with a price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Fresh text input.
    Input,
    /// Input read from the provider's prompt cache.
    CachedInputRead,
    /// Input written to the prompt cache for five minutes.
    #[serde(rename = "cache_write_5m")]
    CacheWrite5m,
    /// Input written to the prompt cache for an hour.
    #[serde(rename = "cache_write_1h")]
    CacheWrite1h,
    /// Output, including reasoning where the provider prices it alike.
    Output,
    /// Reasoning output that is priced on its own.
    ReasoningOutput,
    /// Citation output that is priced on its own.
    CitationOutput,
    /// Fresh audio input.
    AudioInput,
    /// Audio input read from the prompt cache.
    CachedAudioInput,
    /// Audio output.
    AudioOutput,
    /// Fresh image input that is priced apart from text.
    ImageInput,
    /// Image input read from the prompt cache.
    CachedImageInput,
    /// Image output.
    ImageOutput,
}

impl TokenClass {
    /// Every class, in the order in which charges list them.
    pub const ALL: [Self; 13] = [
        Self::Input,
        Self::CachedInputRead,
        Self::CacheWrite5m,
        Self::CacheWrite1h,
        Self::Output,
        Self::ReasoningOutput,
        Self::CitationOutput,
        Self::AudioInput,
        Self::CachedAudioInput,
        Self::AudioOutput,
        Self::ImageInput,
        Self::CachedImageInput,
        Self::ImageOutput,
    ];

    /// The class's name, which is also its price key in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CachedInputRead => "cached_input_read",
            Self::CacheWrite5m => "cache_write_5m",
            Self::CacheWrite1h => "cache_write_1h",
            Self::Output => "output",
            Self::ReasoningOutput => "reasoning_output",
            Self::CitationOutput => "citation_output",
            Self::AudioInput => "audio_input",
            Self::CachedAudioInput => "cached_audio_input",
            Self::AudioOutput => "audio_output",
            Self::ImageInput => "image_input",
            Self::CachedImageInput => "cached_image_input",
            Self::ImageOutput => "image_output",
        }
    }

    /// Whether tokens of the class count toward a long-context step.
    pub const fn is_input(self) -> bool {
        matches!(
            self,
            Self::Input
                | Self::CachedInputRead
                | Self::CacheWrite5m
                | Self::CacheWrite1h
                | Self::AudioInput
                | Self::CachedAudioInput
                | Self::ImageInput
                | Self::CachedImageInput
        )
    }
}

/// Quantities that are priced by something other than tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Units {
    /// Web searches run by the provider.
    #[serde(skip_serializing_if = "is_zero")]
    pub web_searches: u64,
    /// Requests, where a fee is taken per request.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests: u64,
    /// Images, where each has a price.
    #[serde(skip_serializing_if = "is_zero")]
    pub images: u64,
    /// Milliseconds of audio.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_ms: u64,
    /// Characters of text to speak.
    #[serde(skip_serializing_if = "is_zero")]
    pub characters: u64,
    /// Rerank search units.
    #[serde(skip_serializing_if = "is_zero")]
    pub search_units: u64,
}

// serde hands the field over by reference
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What one request used. Serialises as an object with the non-zero classes only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "WireUsage", from = "WireUsage")]
pub struct Usage {
    tokens: [u64; TokenClass::ALL.len()],
    /// What is not counted in tokens.
    pub units: Units,
}

impl Usage {
    /// Tokens of one class.
    pub const fn tokens(&self, class: TokenClass) -> u64 {
        self.tokens[class as usize]
    }

    /// Sets the tokens of one class.
    pub const fn set_tokens(&mut self, class: TokenClass, count: u64) {
        self.tokens[class as usize] = count;
    }

    /// The same usage with the tokens of one class set.
    #[must_use]
    pub const fn with_tokens(mut self, class: TokenClass, count: u64) -> Self {
        self.set_tokens(class, count);
        self
    }

    /// The same usage with everything that is not counted in tokens set.
    #[must_use]
    pub const fn with_units(mut self, units: Units) -> Self {
        self.units = units;
        self
    }

    /// Every input class together: what a long-context step is measured by. Saturating.
    pub fn total_input_tokens(&self) -> u64 {
        self.total(TokenClass::is_input)
    }

    /// Every output class together. Saturating.
    pub fn total_output_tokens(&self) -> u64 {
        self.total(|class| !class.is_input())
    }

    fn total(&self, counts: impl Fn(TokenClass) -> bool) -> u64 {
        TokenClass::ALL
            .into_iter()
            .filter(|class| counts(*class))
            .fold(0_u64, |total, class| total.saturating_add(self.tokens(class)))
    }
}

/// Who counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider's own report.
    Provider,
    /// Our estimate from the bytes that were relayed.
    Estimate,
    /// Nothing was used.
    None,
}

impl UsageSource {
    /// The stable name, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimate => "estimate",
            Self::None => "none",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireUsage {
    #[serde(default)]
    tokens: std::collections::BTreeMap<TokenClass, u64>,
    #[serde(default)]
    units: Units,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        let tokens = TokenClass::ALL
            .into_iter()
            .map(|class| (class, usage.tokens(class)))
            .filter(|(_, count)| *count > 0)
            .collect();
        Self {
            tokens,
            units: usage.units,
        }
    }
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        let mut usage = Self {
            units: wire.units,
            ..Self::default()
        };
        for (class, count) in wire.tokens {
            usage.set_tokens(class, count);
        }
        usage
    }
}
