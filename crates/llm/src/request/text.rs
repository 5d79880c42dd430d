//! The text of a request, for the tokenizer. Only for estimates and tight balances: it parses the body in full.

use serde_json::Value;

use crate::tokens::count_tokens;

/// Fields of a request that become part of the prompt.
const PROMPT_FIELDS: [&str; 6] = [
    "messages",
    "system",
    "tools",
    "functions",
    "response_format",
    "output_config",
];

/// Kinds of parts whose strings are data, not text.
const MEDIA_KINDS: [&str; 10] = [
    "image",
    "image_url",
    "input_image",
    "input_audio",
    "audio_url",
    "file",
    "document_url",
    "video_url",
    "base64",
    "url",
];

/// Tokens of everything in the body that becomes text of the prompt.
pub(super) fn count(body: &[u8]) -> u64 {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(body) else {
        return count_tokens(&String::from_utf8_lossy(body));
    };
    let mut text = String::new();
    for (name, value) in &fields {
        match name.as_str() {
            "messages" | "system" => collect(value, &mut text),
            // schemas reach the model with their structure, not as bare words
            other if PROMPT_FIELDS.contains(&other) => append(&value.to_string(), &mut text),
            _ => {}
        }
    }
    count_tokens(&text)
}

fn append(part: &str, text: &mut String) {
    text.push_str(part);
    text.push('\n');
}

fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(part) => append(part, text),
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, text)),
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
            if MEDIA_KINDS.contains(&kind) {
                return;
            }
            for (name, inner) in fields {
                match name.as_str() {
                    "type" | "cache_control" | "signature" | "id" | "tool_call_id" | "tool_use_id" => {}
                    // a tool call's arguments as an object
                    "input" if inner.is_object() => append(&inner.to_string(), text),
                    _ => collect(inner, text),
                }
            }
        }
        Value::Number(number) => append(&number.to_string(), text),
        Value::Null | Value::Bool(_) => {}
    }
}
