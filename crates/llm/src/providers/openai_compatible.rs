//! OpenAI and the providers that speak its Chat Completions.

use domain::request::Dialect;

use super::{AuthScheme, ProviderProfile, cancel_policy};
use crate::{
    request::{OutputLimitField, WireRules},
    usage::UsageProfile,
};

pub(super) fn profile(slug: &str) -> ProviderProfile {
    ProviderProfile {
        dialect: Dialect::OpenaiChat,
        auth: match slug {
            "azure" | "azure_openai" => AuthScheme::ApiKey,
            _ => AuthScheme::Bearer,
        },
        cancel: cancel_policy(slug),
        wire: WireRules {
            output_limit_field: output_limit_field(slug),
            ask_stream_usage: asks_stream_usage(slug),
        },
        usage_profile: usage_profile(slug),
        search_option_priced: slug == "perplexity",
        tokenizer_margin_percent: match slug {
            "openai" | "azure" | "azure_openai" => 125,
            // other vendors' tokenizers, and small models' on other scripts
            _ => 200,
        },
    }
}

/// `max_completion_tokens` is read by those whose API references list it; the others know `max_tokens` only.
fn output_limit_field(slug: &str) -> OutputLimitField {
    match slug {
        "openai" | "azure" | "azure_openai" | "groq" | "xai" | "openrouter" | "cerebras" => {
            OutputLimitField::MaxCompletionTokens
        }
        _ => OutputLimitField::MaxTokens,
    }
}

/// Mistral refuses fields that it does not know and Perplexity ignores them; both report usage in every stream unasked.
fn asks_stream_usage(slug: &str) -> bool {
    !matches!(slug, "mistral" | "perplexity")
}

fn usage_profile(slug: &str) -> UsageProfile {
    match slug {
        "xai" => UsageProfile::XaiChat,
        "deepseek" => UsageProfile::Deepseek,
        "perplexity" => UsageProfile::Perplexity,
        _ => UsageProfile::OpenaiChat,
    }
}
