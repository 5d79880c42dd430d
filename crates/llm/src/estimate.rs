//! Usage by our own count, for when a provider reports none that can be believed.

use domain::usage::{TokenClass, Usage, UsageSource};

use crate::{
    observed::{Observed, UsageReport},
    request::ChatRequest,
    tokens::count_tokens,
    usage::NormalisedUsage,
};

/// Bytes for each token of text that was too long to keep: English runs at four, code and other scripts at less.
pub(crate) const BYTES_PER_TOKEN: u64 = 3;
/// Tokens that a chat template wraps around each message, and around the answer (OpenAI's own counting recipe).
const TOKENS_PER_MESSAGE: u64 = 3;

/// Input tokens of a request as far as its text goes. Images and documents are not in it: without the provider's report
/// nobody knows their size, and the doubt is the customer's.
pub fn estimate_input_tokens(request: &ChatRequest) -> u64 {
    request
        .text_tokens()
        .saturating_add(request.shape().messages.saturating_mul(TOKENS_PER_MESSAGE))
        .saturating_add(TOKENS_PER_MESSAGE)
}

/// Output tokens of what was seen: text, visible reasoning and tool arguments by the tokenizer, the rest by bytes. At
/// least one token once output began, and none before. Hidden reasoning cannot be seen and is not guessed.
pub fn estimate_output_tokens(observed: &Observed) -> u64 {
    if !observed.output_began {
        return 0;
    }
    count_tokens(&observed.output.text)
        .saturating_add(observed.output.beyond_bytes.div_ceil(BYTES_PER_TOKEN))
        .max(1)
}

/// What a request used, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounted {
    /// The counts.
    pub usage: Usage,
    /// Who counted them.
    pub source: UsageSource,
    /// What is worth knowing: `usage_inconsistent`, `usage_absurd`, `estimated`.
    pub flags: Vec<&'static str>,
}

/// The provider's report where it is whole; else our own count, with the input side of a partial report kept. Reports
/// beyond belief were given up when the answer was read (`UsageLimits`).
pub fn usage_or_estimate(request: &ChatRequest, observed: &Observed) -> Accounted {
    account(request, observed, || estimate_output_tokens(observed))
}

/// As `usage_or_estimate` of an answer in mid-stream, whose output was metered
/// ([`StreamObserver::metered_output`](crate::StreamObserver::metered_output)).
pub fn usage_so_far(request: &ChatRequest, observed: &Observed, metered_output: u64) -> Accounted {
    account(request, observed, || metered_output)
}

fn account(request: &ChatRequest, observed: &Observed, output_tokens: impl FnOnce() -> u64) -> Accounted {
    let (known_input, mut flags) = match &observed.usage {
        UsageReport::Reported(normalised) => {
            return Accounted {
                usage: normalised.usage,
                source: UsageSource::Provider,
                flags: inconsistent_flag(normalised),
            };
        }
        UsageReport::InputOnly(normalised) => (Some(normalised.usage), inconsistent_flag(normalised)),
        UsageReport::Missing => (None, Vec::new()),
        UsageReport::Unusable(_) => (None, vec!["usage_absurd"]),
    };
    flags.push("estimated");
    let input = || Usage::default().with_tokens(TokenClass::Input, estimate_input_tokens(request));
    let usage = known_input
        .unwrap_or_else(input)
        .with_tokens(TokenClass::Output, output_tokens());
    Accounted {
        usage,
        source: UsageSource::Estimate,
        flags,
    }
}

fn inconsistent_flag(normalised: &NormalisedUsage) -> Vec<&'static str> {
    if normalised.inconsistent {
        vec!["usage_inconsistent"]
    } else {
        Vec::new()
    }
}
