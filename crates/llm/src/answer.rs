//! A whole answer body: what it reports, read in one go. The body itself is forwarded as it came.

use domain::request::Dialect;

use crate::{
    formats::{anthropic_messages, openai_chat},
    json::{self, Object},
    observed::{Observed, UsageLimits, UsageReport},
    usage::UsageProfile,
};

/// Reads a body that an upstream sent with a 2xx status. A body that is no JSON object yields an empty observation: no
/// usage, no end.
pub fn observe_body(dialect: Dialect, profile: UsageProfile, limits: UsageLimits, body: &[u8]) -> Observed {
    if !json::is_shallow(body) {
        return Observed::default();
    }
    let Some(object) = Object::parse_bytes(body) else {
        return Observed::default();
    };
    let (mut observed, add_text): (Observed, fn(&Object<'_>, &mut _)) = match dialect {
        Dialect::OpenaiChat => (openai_chat::observe_body(profile, &object), openai_chat::body_text),
        Dialect::AnthropicMessages => (anthropic_messages::observe_body(&object), anthropic_messages::body_text),
    };
    observed.doubt(&limits);
    if !matches!(observed.usage, UsageReport::Reported(_)) {
        add_text(&object, &mut observed.output);
    }
    observed
}
