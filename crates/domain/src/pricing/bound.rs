//! How much a request may use at most, as far as it is known before it is sent.

use crate::usage::Units;

/// Kinds of content, besides text, that tokens of one direction may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modalities {
    /// Audio.
    pub audio: bool,
    /// Images that are priced apart from text.
    pub image: bool,
}

/// An upper bound of what a request can use. Usage within it never charges more than its quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageBound {
    /// Tokens of input, all classes together.
    pub input_tokens: u64,
    /// What the input may contain besides text.
    pub input: Modalities,
    /// Tokens of output per choice, all classes together: the output limit that the upstream enforces.
    pub output_tokens: u64,
    /// What the output may contain besides text.
    pub output: Modalities,
    /// How many answers were asked for.
    pub choices: u64,
    /// What is not counted in tokens, for the whole request. A fee per request is quoted even where `requests` is 0.
    pub units: Units,
}

impl UsageBound {
    /// A request for one answer in text.
    pub fn text(input_tokens: u64, output_tokens: u64) -> Self {
        Self {
            input_tokens,
            output_tokens,
            choices: 1,
            ..Self::default()
        }
    }
}

/// Which service tiers may serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceTiers {
    /// The ordinary tier only.
    #[default]
    Ordinary,
    /// The ordinary tier and every one that an offer lists: a request for one may be served as another.
    Any,
}

impl ServiceTiers {
    /// The tiers that a request may meet by what it asks for: a request that names none, or the ordinary one, meets no
    /// other; any other name may be served as anything.
    pub fn asked(service_tier: Option<&str>) -> Self {
        match service_tier {
            None | Some("default" | "standard" | "standard_only") => Self::Ordinary,
            Some(_) => Self::Any,
        }
    }

    /// Whether tiers other than the ordinary one may serve.
    pub(super) const fn include_listed(self) -> bool {
        matches!(self, Self::Any)
    }
}
