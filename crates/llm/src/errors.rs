//! Errors in the client's own dialect, so that its SDK raises what its user expects. Wording is the caller's; this
//! module only knows the shapes.

use bytes::Bytes;
use domain::request::Dialect;
use serde_json::{Map, Value, json};

/// One error for a client.
#[derive(Debug, Clone, Copy)]
pub struct ErrorView<'a> {
    /// The HTTP status; in a stream the one that would have been sent.
    pub http_status: u16,
    /// The stable code of the relay.
    pub code: &'a str,
    /// What is wrong, in a sentence.
    pub message: &'a str,
    /// What the caller can do about it, in a sentence.
    pub what_to_do: &'a str,
    /// The field at fault.
    pub param: Option<&'a str>,
    /// The request's id, once it has one.
    pub request_id: Option<&'a str>,
    /// Whether anything was charged.
    pub charged: bool,
    /// Further fields for this code, such as the affordable amount.
    pub details: Option<&'a Map<String, Value>>,
}

/// The body of an error response.
pub fn error_body(dialect: Dialect, error: &ErrorView<'_>) -> Bytes {
    Bytes::from(error_value(dialect, error).to_string())
}

/// An error as an event of a stream whose head is already sent. No end mark follows: a cut answer must not look whole.
pub fn error_event(dialect: Dialect, error: &ErrorView<'_>) -> Bytes {
    let value = error_value(dialect, error);
    // JSON text has no line ends, so nothing in a message can start a line of its own
    Bytes::from(match dialect {
        Dialect::OpenaiChat => format!("data: {value}\n\n"),
        Dialect::AnthropicMessages => format!("event: error\ndata: {value}\n\n"),
    })
}

fn error_value(dialect: Dialect, error: &ErrorView<'_>) -> Value {
    let mut fields = Map::new();
    for (name, value) in error.details.into_iter().flatten() {
        fields.insert(name.clone(), value.clone());
    }
    fields.insert("message".to_owned(), error.message.into());
    fields.insert("type".to_owned(), kind(dialect, error.http_status).into());
    fields.insert("code".to_owned(), error.code.into());
    if dialect == Dialect::OpenaiChat || error.param.is_some() {
        fields.insert("param".to_owned(), error.param.into());
    }
    fields.insert("what_to_do".to_owned(), error.what_to_do.into());
    fields.insert("charged".to_owned(), error.charged.into());
    fields.insert("request_id".to_owned(), error.request_id.into());
    match dialect {
        Dialect::OpenaiChat => json!({ "error": fields }),
        Dialect::AnthropicMessages => {
            json!({ "type": "error", "error": fields, "request_id": error.request_id })
        }
    }
}

/// The dialect's own name for a class of errors: Anthropic's documented list; OpenAI's by usage.
const fn kind(dialect: Dialect, status: u16) -> &'static str {
    match (dialect, status) {
        (_, 401) => "authentication_error",
        (Dialect::OpenaiChat, 402) => "insufficient_quota",
        (Dialect::AnthropicMessages, 402) => "billing_error",
        (_, 403) => "permission_error",
        (Dialect::AnthropicMessages, 404) => "not_found_error",
        (Dialect::AnthropicMessages, 413) => "request_too_large",
        (_, 429) => "rate_limit_error",
        (_, 400..=499) => "invalid_request_error",
        (Dialect::AnthropicMessages, 504) => "timeout_error",
        (Dialect::AnthropicMessages, 503 | 529) => "overloaded_error",
        (Dialect::AnthropicMessages, _) => "api_error",
        (Dialect::OpenaiChat, _) => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: ErrorView<'_> = ErrorView {
        http_status: 402,
        code: "insufficient_credit",
        message: "a line\nand \"another\"",
        what_to_do: "Top up.",
        param: None,
        request_id: Some("req_1"),
        charged: false,
        details: None,
    };

    #[test]
    fn each_dialect_has_its_shape() {
        let openai: Value = serde_json::from_slice(&error_body(Dialect::OpenaiChat, &ERROR)).expect("JSON");
        assert_eq!(openai["error"]["type"], "insufficient_quota");
        assert_eq!(openai["error"]["param"], Value::Null);
        assert_eq!(openai["error"]["charged"], false);
        let anthropic: Value = serde_json::from_slice(&error_body(Dialect::AnthropicMessages, &ERROR)).expect("JSON");
        assert_eq!(anthropic["type"], "error");
        assert_eq!(anthropic["error"]["type"], "billing_error");
        assert_eq!(anthropic["error"]["code"], "insufficient_credit");
        assert_eq!(anthropic["request_id"], "req_1");
    }

    #[test]
    fn an_event_is_one_event_whatever_the_message_holds() {
        for dialect in [Dialect::OpenaiChat, Dialect::AnthropicMessages] {
            let event = error_event(dialect, &ERROR);
            let mut scanner = crate::sse::EventScanner::default();
            assert_eq!(scanner.next_end(&event, 0), Some(event.len()));
            let parsed = crate::sse::Event::parse(&event);
            let value: Value = serde_json::from_slice(&parsed.data.expect("data")).expect("JSON");
            assert_eq!(value["error"]["message"], ERROR.message);
        }
    }
}
