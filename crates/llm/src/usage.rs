//! A provider's usage object, read into disjoint classes. Pure: no stream, no price.
//!
//! A contradiction (more cached than prompt) is cut part to whole and flagged; a count that cannot be believed
//! (negative, fractional, beyond any model) refuses the whole object, so that the caller estimates instead.

use std::str::FromStr;

use domain::usage::{MAX_PLAUSIBLE_COUNT, TokenClass, Usage};

use crate::json::Object;

/// How a provider's usage object is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageProfile {
    /// OpenAI Chat Completions and most compatibles: `prompt_tokens` includes cached, written and audio tokens.
    OpenaiChat,
    /// xAI: reasoning tokens stand beside `completion_tokens` where the total says so.
    XaiChat,
    /// DeepSeek: `prompt_cache_hit_tokens`.
    Deepseek,
    /// Perplexity: reasoning and citation tokens apart, one request fee, searches by number.
    Perplexity,
    /// Anthropic Messages: `input_tokens` excludes cache reads and writes.
    Anthropic,
}

impl UsageProfile {
    /// The name in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai_chat",
            Self::XaiChat => "xai_chat",
            Self::Deepseek => "deepseek",
            Self::Perplexity => "perplexity",
            Self::Anthropic => "anthropic",
        }
    }
}

/// The catalog names a usage profile that this version does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("usage profile `{0}` is not supported: use one of openai_chat, xai_chat, deepseek, perplexity, anthropic")]
pub struct UnknownUsageProfile(pub String);

impl FromStr for UsageProfile {
    type Err = UnknownUsageProfile;

    fn from_str(name: &str) -> Result<Self, UnknownUsageProfile> {
        [
            Self::OpenaiChat,
            Self::XaiChat,
            Self::Deepseek,
            Self::Perplexity,
            Self::Anthropic,
        ]
        .into_iter()
        .find(|profile| profile.as_str() == name)
        .ok_or_else(|| UnknownUsageProfile(name.to_owned()))
    }
}

/// Usage in disjoint classes, and whether the provider contradicted itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NormalisedUsage {
    /// The counts.
    pub usage: Usage,
    /// Parts exceeded their whole and were cut; shown as the flag `usage_inconsistent`.
    pub inconsistent: bool,
}

/// Why a usage object cannot be used; the caller estimates instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Not an object, or none of the counts that the profile needs.
    #[error("the provider's usage object has no counts: estimate the usage")]
    Unreadable,
    /// A count that no request can have.
    #[error("the provider's usage field `{field}` is negative, fractional or beyond belief: estimate the usage")]
    Absurd {
        /// The field at fault.
        field: &'static str,
    },
}

/// Reads a provider's usage object.
pub fn normalise_usage(profile: UsageProfile, usage: &[u8]) -> Result<NormalisedUsage, UsageError> {
    let object = Object::parse_bytes(usage).ok_or(UsageError::Unreadable)?;
    normalise(profile, &object)
}

/// Reads a provider's usage object that stood in an answer.
pub(crate) fn normalise(profile: UsageProfile, object: &Object<'_>) -> Result<NormalisedUsage, UsageError> {
    let normalised = match profile {
        UsageProfile::OpenaiChat => openai_like(object)?.normalised(),
        UsageProfile::XaiChat => xai(object)?,
        UsageProfile::Deepseek => deepseek(object)?,
        UsageProfile::Perplexity => perplexity(object)?,
        UsageProfile::Anthropic => AnthropicUsage::read(object)?.normalised()?,
    };
    within_belief(normalised)
}

/// A whole number under a key; `None` when absent or `null`. `12.0` is whole: some providers pass through a float type.
fn count(object: &Object<'_>, field: &'static str) -> Result<Option<u64>, UsageError> {
    let Some(text) = object.get(field) else {
        return Ok(None);
    };
    let whole = text.strip_suffix(".0").unwrap_or(text);
    match whole.parse::<u64>() {
        Ok(count) if count <= MAX_PLAUSIBLE_COUNT => Ok(Some(count)),
        _ => Err(UsageError::Absurd { field }),
    }
}

/// As `count`, 0 when absent.
fn count_or_none(object: &Object<'_>, field: &'static str) -> Result<u64, UsageError> {
    Ok(count(object, field)?.unwrap_or(0))
}

/// Splits parts off a whole in order, each cut to what is left. Answers the rest and whether anything was cut.
fn fit<const N: usize>(whole: u64, parts: &mut [u64; N]) -> (u64, bool) {
    let mut left = whole;
    let mut cut = false;
    for part in parts {
        if *part > left {
            *part = left;
            cut = true;
        }
        left -= *part;
    }
    (left, cut)
}

struct OpenaiLike {
    prompt: u64,
    completion: u64,
    total: Option<u64>,
    cached: u64,
    written: u64,
    audio_in: u64,
    audio_out: u64,
    reasoning: u64,
}

fn openai_like(object: &Object<'_>) -> Result<OpenaiLike, UsageError> {
    let prompt = count(object, "prompt_tokens")?;
    let completion = count(object, "completion_tokens")?;
    if prompt.is_none() && completion.is_none() {
        return Err(UsageError::Unreadable);
    }
    let of_prompt = object.object("prompt_tokens_details").unwrap_or_default();
    let of_completion = object.object("completion_tokens_details").unwrap_or_default();
    // Moonshot reports cached tokens at the top
    let cached = match count_or_none(&of_prompt, "cached_tokens")? {
        0 => count_or_none(object, "cached_tokens")?,
        cached => cached,
    };
    Ok(OpenaiLike {
        prompt: prompt.unwrap_or(0),
        completion: completion.unwrap_or(0),
        total: count(object, "total_tokens")?,
        cached,
        written: count_or_none(&of_prompt, "cache_write_tokens")?,
        audio_in: count_or_none(&of_prompt, "audio_tokens")?,
        audio_out: count_or_none(&of_completion, "audio_tokens")?,
        reasoning: count_or_none(&of_completion, "reasoning_tokens")?,
    })
}

impl OpenaiLike {
    fn normalised(&self) -> NormalisedUsage {
        // Mistral leaves audio out of prompt_tokens; its total has it
        let beside = self.audio_in > 0
            && self.total
                == Some(
                    self.prompt
                        .saturating_add(self.completion)
                        .saturating_add(self.audio_in),
                );
        let prompt = if beside {
            self.prompt.saturating_add(self.audio_in)
        } else {
            self.prompt
        };
        let mut parts = [self.cached, self.written, self.audio_in];
        let (input, cut_in) = fit(prompt, &mut parts);
        let mut audio_out = [self.audio_out];
        let (output, cut_out) = fit(self.completion, &mut audio_out);
        let usage = Usage::default()
            .with_tokens(TokenClass::Input, input)
            .with_tokens(TokenClass::CachedInputRead, parts[0])
            .with_tokens(TokenClass::CacheWrite5m, parts[1])
            .with_tokens(TokenClass::AudioInput, parts[2])
            .with_tokens(TokenClass::Output, output)
            .with_tokens(TokenClass::AudioOutput, audio_out[0]);
        NormalisedUsage {
            usage,
            inconsistent: cut_in || cut_out,
        }
    }
}

fn xai(object: &Object<'_>) -> Result<NormalisedUsage, UsageError> {
    let mut read = openai_like(object)?;
    let beside = read
        .prompt
        .saturating_add(read.completion)
        .saturating_add(read.reasoning);
    if read.reasoning > 0 && read.total == Some(beside) {
        read.completion = read.completion.saturating_add(read.reasoning);
    }
    Ok(read.normalised())
}

fn deepseek(object: &Object<'_>) -> Result<NormalisedUsage, UsageError> {
    let mut read = openai_like(object)?;
    if let Some(hit) = count(object, "prompt_cache_hit_tokens")?.filter(|hit| *hit > 0) {
        read.cached = hit;
    }
    Ok(read.normalised())
}

fn perplexity(object: &Object<'_>) -> Result<NormalisedUsage, UsageError> {
    let read = openai_like(object)?;
    let mut usage = Usage::default()
        .with_tokens(TokenClass::Input, read.prompt)
        .with_tokens(TokenClass::Output, read.completion)
        .with_tokens(TokenClass::ReasoningOutput, count_or_none(object, "reasoning_tokens")?)
        .with_tokens(TokenClass::CitationOutput, count_or_none(object, "citation_tokens")?);
    usage.units.web_searches = count_or_none(object, "num_search_queries")?;
    usage.units.requests = 1;
    Ok(NormalisedUsage {
        usage,
        inconsistent: false,
    })
}

/// Anthropic's usage fields, each as last reported. A stream reports them in parts: the input side first, then
/// cumulative counts that replace what they name and leave the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnthropicUsage {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    written_5m: Option<u64>,
    written_1h: Option<u64>,
    output: Option<u64>,
    web_searches: Option<u64>,
}

impl AnthropicUsage {
    /// Reads one usage object.
    pub fn read(object: &Object<'_>) -> Result<Self, UsageError> {
        let mut read = Self {
            input: count(object, "input_tokens")?,
            cache_read: count(object, "cache_read_input_tokens")?,
            cache_written: count(object, "cache_creation_input_tokens")?,
            output: count(object, "output_tokens")?,
            ..Self::default()
        };
        if let Some(split) = object.object("cache_creation") {
            read.written_5m = count(&split, "ephemeral_5m_input_tokens")?;
            read.written_1h = count(&split, "ephemeral_1h_input_tokens")?;
        }
        if let Some(tools) = object.object("server_tool_use") {
            read.web_searches = count(&tools, "web_search_requests")?;
        }
        Ok(read)
    }

    /// Takes over what a later report names. Reports are cumulative: the last one counts, nothing is added up.
    pub fn update(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.cache_read = later.cache_read.or(self.cache_read);
        self.cache_written = later.cache_written.or(self.cache_written);
        self.written_5m = later.written_5m.or(self.written_5m);
        self.written_1h = later.written_1h.or(self.written_1h);
        self.output = later.output.or(self.output);
        self.web_searches = later.web_searches.or(self.web_searches);
    }

    /// The same without the output count: the one in `message_start` is a placeholder.
    #[must_use]
    pub const fn input_side(mut self) -> Self {
        self.output = None;
        self
    }

    /// The counts in disjoint classes.
    pub fn normalised(self) -> Result<NormalisedUsage, UsageError> {
        if self.input.is_none() && self.output.is_none() {
            return Err(UsageError::Unreadable);
        }
        let split_total = self
            .written_5m
            .unwrap_or(0)
            .saturating_add(self.written_1h.unwrap_or(0));
        let written = self.cache_written.unwrap_or(split_total);
        // without a split every write is one of five minutes; a split that is too large is cut to the whole
        let mut hour = [self.written_1h.unwrap_or(0)];
        let (five_minutes, cut) = fit(written, &mut hour);
        let mut usage = Usage::default()
            .with_tokens(TokenClass::Input, self.input.unwrap_or(0))
            .with_tokens(TokenClass::CachedInputRead, self.cache_read.unwrap_or(0))
            .with_tokens(TokenClass::CacheWrite5m, five_minutes)
            .with_tokens(TokenClass::CacheWrite1h, hour[0])
            .with_tokens(TokenClass::Output, self.output.unwrap_or(0));
        usage.units.web_searches = self.web_searches.unwrap_or(0);
        Ok(NormalisedUsage {
            usage,
            inconsistent: cut || (self.cache_written.is_some() && split_total > written),
        })
    }
}

/// Refuses sums that no request can have, each part being plausible alone.
pub fn within_belief(normalised: NormalisedUsage) -> Result<NormalisedUsage, UsageError> {
    let usage = &normalised.usage;
    if usage.total_input_tokens() > MAX_PLAUSIBLE_COUNT || usage.total_output_tokens() > MAX_PLAUSIBLE_COUNT {
        return Err(UsageError::Absurd { field: "total" });
    }
    Ok(normalised)
}
