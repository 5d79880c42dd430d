//! Anthropic, and the providers that speak its Messages API.

use domain::request::Dialect;

use super::{AuthScheme, ProviderProfile, cancel_policy};
use crate::{
    request::{OutputLimitField, WireRules},
    usage::UsageProfile,
};

/// The API version that is sent when the client names none.
pub(super) const API_VERSION: &str = "2023-06-01";

pub(super) fn profile(slug: &str) -> ProviderProfile {
    ProviderProfile {
        dialect: Dialect::AnthropicMessages,
        auth: match slug {
            // cloud identities and compatibles with bearer tokens
            "google_vertex" | "moonshot" | "minimax" => AuthScheme::Bearer,
            _ => AuthScheme::XApiKey,
        },
        cancel: cancel_policy(slug),
        wire: WireRules {
            output_limit_field: OutputLimitField::MaxTokens,
            ask_stream_usage: false,
        },
        usage_profile: UsageProfile::Anthropic,
        search_option_priced: false,
        // Claude's tokenizers yield up to about two thirds more tokens than OpenAI's, the newest the most
        tokenizer_margin_percent: 200,
    }
}
