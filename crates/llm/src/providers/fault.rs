//! Whose fault an upstream's error is, and what to do about it. The provider's words stay inside unless the fault is the
//! client's: they may name the operator's account.

use domain::request::Dialect;

use crate::json::{self, Object};

/// The longest wait that is taken over from a provider, in milliseconds.
const MAX_RETRY_AFTER_MS: u64 = 3_600_000;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The request itself was refused: the client gets the provider's answer.
    ClientRequest,
    /// The credential was refused: take it out and tell the operator.
    Auth,
    /// The operator's account has no money or quota left: take the credential out and tell the operator.
    Billing,
    /// Too many requests for this credential: wait, or take another.
    RateLimited,
    /// The provider is short of capacity.
    Overloaded,
    /// The provider failed.
    Server,
}

/// An upstream's error, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamFault {
    /// What kind of failure it was.
    pub kind: FaultKind,
    /// How long the provider asks to wait, in milliseconds, at most an hour.
    pub retry_after_ms: Option<u64>,
    /// The provider's own code or type.
    pub code: Option<String>,
    /// The provider's own words: for the operator, and for the client only when the fault is its own.
    pub message: Option<String>,
}

impl UpstreamFault {
    /// Whether another credential or another offer may succeed where this one failed.
    pub fn may_succeed_elsewhere(&self) -> bool {
        self.kind != FaultKind::ClientRequest
    }

    /// Whether the credential is to be taken out for a while.
    pub const fn is_of_credential(&self) -> bool {
        matches!(self.kind, FaultKind::Auth | FaultKind::Billing | FaultKind::RateLimited)
    }
}

/// Reads an upstream's answer whose status is not 2xx. `retry_after` and `retry_after_ms` are the headers of those names
/// (the latter is OpenAI's and Azure's).
pub fn classify(
    dialect: Dialect,
    status: u16,
    retry_after: Option<&str>,
    retry_after_ms: Option<&str>,
    body: &[u8],
) -> UpstreamFault {
    let error = read_error(body);
    let (code, message) = match error {
        Some((code, message)) => (code, message),
        None => (None, None),
    };
    let words = format!(
        "{} {}",
        code.as_deref().unwrap_or_default(),
        message.as_deref().unwrap_or_default()
    )
    .to_ascii_lowercase();
    let kind = kind_of(dialect, status, &words);
    UpstreamFault {
        kind,
        retry_after_ms: wait_ms(retry_after, retry_after_ms),
        code,
        message,
    }
}

fn kind_of(dialect: Dialect, status: u16, words: &str) -> FaultKind {
    let says = |any: &[&str]| any.iter().any(|phrase| words.contains(phrase));
    // some say so with a 400, 403 or 429: OpenAI's quota codes, Anthropic's balance, xAI's and Google's refused keys
    let is_refusal = (400..500).contains(&status);
    if is_refusal
        && says(&[
            "insufficient_quota",
            "billing_hard_limit_reached",
            "credit balance is too low",
            "billing_not_active",
        ])
    {
        return FaultKind::Billing;
    }
    match status {
        400 | 422 if says(&["incorrect api key", "api key not valid", "invalid_api_key"]) => FaultKind::Auth,
        401 => FaultKind::Auth,
        402 => FaultKind::Billing,
        // OpenRouter flags a prompt with 403; elsewhere it is about the account
        403 if says(&["moderation", "flagged"]) => FaultKind::ClientRequest,
        403 => FaultKind::Auth,
        // Groq refuses with 413 what exceeds the account's tokens per minute
        413 if says(&["tokens per minute", "rate_limit_exceeded"]) => FaultKind::RateLimited,
        429 if dialect == Dialect::AnthropicMessages && says(&["overloaded_error"]) => FaultKind::Overloaded,
        429 => FaultKind::RateLimited,
        // 498 is Groq's flex capacity; 529 Anthropic's overload
        498 | 503 | 529 => FaultKind::Overloaded,
        408 | 409 | 425 => FaultKind::Server,
        400..=499 => FaultKind::ClientRequest,
        _ => FaultKind::Server,
    }
}

/// The code (or type) and message of an error body, in the shapes that providers of both dialects send.
fn read_error(body: &[u8]) -> Option<(Option<String>, Option<String>)> {
    if !json::is_shallow(body) {
        return None;
    }
    let object = Object::parse_bytes(body)?;
    let text = object.get("error").and_then(json::string);
    let error = object.object("error").unwrap_or(object);
    let code = error.string("code").or_else(|| error.string("type"));
    Some((
        code,
        text.or_else(|| error.string("message"))
            .or_else(|| error.string("detail")),
    ))
}

/// The wait that is asked for; the finer header first. A date is not read: no provider of models sends one.
fn wait_ms(seconds: Option<&str>, milliseconds: Option<&str>) -> Option<u64> {
    let exact = milliseconds
        .and_then(|text| text.trim().parse::<u64>().ok())
        .filter(|wait| *wait > 0);
    let whole = |text: &str| {
        // a fraction of a second counts as one more
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let more = u64::from(fraction.bytes().any(|digit| digit != b'0'));
        seconds.parse::<u64>().ok()?.checked_add(more)?.checked_mul(1_000)
    };
    exact
        .or_else(|| whole(seconds?.trim()))
        .map(|wait| wait.min(MAX_RETRY_AFTER_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> FaultKind {
        classify(Dialect::OpenaiChat, status, None, None, body.as_bytes()).kind
    }

    #[test]
    fn the_status_decides_unless_the_words_know_better() {
        assert_eq!(kind(400, "{}"), FaultKind::ClientRequest);
        assert_eq!(kind(404, "not json"), FaultKind::ClientRequest);
        assert_eq!(kind(401, ""), FaultKind::Auth);
        assert_eq!(
            kind(429, r#"{"error":{"code":"insufficient_quota"}}"#),
            FaultKind::Billing
        );
        assert_eq!(
            kind(400, r#"{"error":{"message":"Your credit balance is too low to ..."}}"#),
            FaultKind::Billing
        );
        assert_eq!(
            kind(400, r#"{"code":"x","error":"Incorrect API key provided"}"#),
            FaultKind::Auth
        );
        assert_eq!(kind(529, ""), FaultKind::Overloaded);
        assert_eq!(kind(502, "<html>"), FaultKind::Server);
        assert_eq!(kind(302, ""), FaultKind::Server);
    }

    #[test]
    fn waits_are_read_and_bounded() {
        assert_eq!(wait_ms(Some("2"), None), Some(2_000));
        assert_eq!(wait_ms(Some("1.5"), None), Some(2_000));
        assert_eq!(wait_ms(Some("1"), Some("250")), Some(250));
        assert_eq!(wait_ms(Some("1"), Some("0")), Some(1_000));
        assert_eq!(wait_ms(Some("99999999999"), None), Some(MAX_RETRY_AFTER_MS));
        assert_eq!(wait_ms(Some("Wed, 21 Oct 2026 07:28:00 GMT"), None), None);
        assert_eq!(wait_ms(Some("-1"), None), None);
    }
}
