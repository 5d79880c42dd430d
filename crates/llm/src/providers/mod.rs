//! Who runs models, and what is peculiar to each: endpoint, authentication, request spelling, usage profile, whether a
//! cancelled request stops costing, how errors are to be read. Data and pure rules; no connection is made here.

mod anthropic;
mod fault;
mod images;
mod openai_compatible;

use domain::{request::Dialect, secret::SecretText};

pub use fault::{FaultKind, UpstreamFault, classify};
pub use images::image_tokens_max;

use crate::{
    request::{BoundRules, OutputLimitField, WireRules},
    usage::UsageProfile,
};

/// How a credential is shown to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthScheme {
    /// `authorization: Bearer ...`
    Bearer,
    /// `x-api-key: ...` (Anthropic)
    XApiKey,
    /// `api-key: ...` (Azure OpenAI)
    ApiKey,
}

impl AuthScheme {
    /// The header's name.
    pub const fn header_name(self) -> &'static str {
        match self {
            Self::Bearer => "authorization",
            Self::XApiKey => "x-api-key",
            Self::ApiKey => "api-key",
        }
    }

    /// The header's value. It holds the secret: mark the header as sensitive.
    pub fn header_value(self, credential: &SecretText) -> SecretText {
        match self {
            Self::Bearer => SecretText::new(format!("Bearer {}", credential.expose())),
            Self::XApiKey | Self::ApiKey => credential.clone(),
        }
    }
}

/// What becomes of the bill when a request is cancelled in mid-stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelPolicy {
    /// Closing the connection stops generation and billing.
    Cancellable,
    /// The provider goes on and bills all of it: read to the end for the usage.
    Drain,
}

/// One provider as spoken to in one dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderProfile {
    /// The dialect that is spoken.
    pub dialect: Dialect,
    /// How the credential is shown.
    pub auth: AuthScheme,
    /// What becomes of the bill after a cancellation.
    pub cancel: CancelPolicy,
    /// How requests are spelled.
    pub wire: WireRules,
    /// How usage objects are read.
    pub usage_profile: UsageProfile,
    /// Whether a search option has a published fee per request.
    pub search_option_priced: bool,
    /// What a count by OpenAI's tokenizer is multiplied by, in percent, to cover the provider's own.
    pub tokenizer_margin_percent: u64,
}

impl ProviderProfile {
    /// The profile of a provider by its slug in the catalog. An unknown one is a plain compatible of the dialect, and is
    /// drained: whether it stops billing is not known.
    pub fn find(slug: &str, dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenaiChat => openai_compatible::profile(slug),
            Dialect::AnthropicMessages => anthropic::profile(slug),
        }
    }

    /// The URL of an upstream call. An OpenAI-compatible base ends where `/chat/completions` is to follow
    /// (`https://api.openai.com/v1`); an Anthropic base may end with or without `/v1`.
    pub fn endpoint(&self, base_url: &str) -> String {
        let base = base_url.trim_end_matches('/');
        match self.dialect {
            Dialect::OpenaiChat => format!("{base}/chat/completions"),
            Dialect::AnthropicMessages => {
                format!("{}/v1/messages", base.strip_suffix("/v1").unwrap_or(base))
            }
        }
    }

    /// Headers that every call carries unless the client sent its own value of them.
    pub const fn default_headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.dialect {
            Dialect::OpenaiChat => &[],
            Dialect::AnthropicMessages => &[("anthropic-version", anthropic::API_VERSION)],
        }
    }

    /// The client's headers that may be forwarded, in lower case; every other one stays here.
    pub const fn forwarded_headers(&self) -> &'static [&'static str] {
        match self.dialect {
            Dialect::OpenaiChat => &[],
            Dialect::AnthropicMessages => &["anthropic-version", "anthropic-beta"],
        }
    }

    /// What the provider and one of its models contribute to an input bound. `model` is the upstream's id or the
    /// catalog's.
    pub fn bound_rules(&self, model: &str, context_window_tokens: u64) -> BoundRules {
        BoundRules {
            context_window_tokens,
            image_tokens: image_tokens_max(model),
            search_option_priced: self.search_option_priced,
            tokenizer_margin_percent: self.tokenizer_margin_percent,
        }
    }

    /// Whether the limit of an answer's length is read from `max_tokens` alone.
    pub fn reads_max_tokens_only(&self) -> bool {
        self.wire.output_limit_field == OutputLimitField::MaxTokens
    }
}

/// Providers whose billing stops when a stream is cancelled, and those known to go on, as OpenRouter documents them
/// ("Stream cancellation"). Not named: treated as going on.
pub(crate) fn cancel_policy(slug: &str) -> CancelPolicy {
    match slug {
        "openai" | "azure" | "azure_openai" | "anthropic" | "together" | "fireworks" | "deepinfra" | "xai"
        | "deepseek" => CancelPolicy::Cancellable,
        // named as going on: groq, mistral, google, perplexity, bedrock
        _ => CancelPolicy::Drain,
    }
}
