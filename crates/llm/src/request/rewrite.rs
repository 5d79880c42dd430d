//! Splicing: the few edits that turn a client's body into the upstream's, leaving every other byte as it came.

use std::ops::Range;

use bytes::Bytes;
use domain::request::Dialect;

use super::{ChatRequest, RequestError};
use crate::json::{self, Object};

/// Which field an upstream reads its output limit from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputLimitField {
    /// `max_completion_tokens`, and `max_tokens` too where a client sent that.
    MaxCompletionTokens,
    /// `max_tokens` only: a limit under the other name would be ignored, and the answer would have none.
    MaxTokens,
}

/// What is peculiar to an upstream in how a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireRules {
    /// The field of the output limit.
    pub output_limit_field: OutputLimitField,
    /// Whether `stream_options.include_usage` must be asked for to get usage in a stream.
    pub ask_stream_usage: bool,
}

/// Where the values stand that may be edited.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Behind the brace that opens the body.
    start: usize,
    model: Range<usize>,
    max_tokens: Option<Field>,
    max_completion_tokens: Option<Field>,
    stream_options: Option<Field>,
    include_usage: Option<Field>,
    /// Behind the brace that opens `stream_options`, and whether nothing stands in it.
    options_start: Option<(usize, bool)>,
}

/// One member of the body.
#[derive(Debug, Clone)]
struct Field {
    key: Range<usize>,
    value: Range<usize>,
    is_null: bool,
    is_true: bool,
}

impl Places {
    pub(super) fn find(text: &str, object: &Object<'_>) -> Result<Self, RequestError> {
        let start = text.find('{').map_or(0, |brace| brace + 1);
        let field = |object: &Object<'_>, name: &str| {
            let member = object.members().iter().find(|member| member.key == name)?;
            Some(Field {
                key: json::span_of(text.as_bytes(), member.raw_key)?,
                value: json::span_of(text.as_bytes(), member.value)?,
                is_null: member.value == "null",
                is_true: member.value == "true",
            })
        };
        let mut places = Self {
            start,
            model: field(object, "model").map(|found| found.value).unwrap_or_default(),
            max_tokens: field(object, "max_tokens"),
            max_completion_tokens: field(object, "max_completion_tokens"),
            stream_options: field(object, "stream_options"),
            ..Self::default()
        };
        let Some(raw) = object.get("stream_options") else {
            return Ok(places);
        };
        let bad = RequestError::BadField {
            field: "stream_options",
            expected: "an object",
        };
        let options = Object::nested(raw).ok_or(bad)?;
        if let Some(twice) = options.duplicate() {
            return Err(RequestError::DuplicateField {
                field: format!("stream_options.{twice}"),
            });
        }
        places.include_usage = field(&options, "include_usage");
        let brace = places.stream_options.as_ref().map_or(0, |options| options.value.start);
        places.options_start = Some((brace + 1, options.members().is_empty()));
        Ok(places)
    }
}

/// One replacement: a range of the old body, and what stands there instead.
struct Edit {
    range: Range<usize>,
    text: String,
}

pub(super) fn splice(request: &ChatRequest, upstream_model: &str, limit: Option<u64>, rules: WireRules) -> Bytes {
    let mut edits = Vec::with_capacity(4);
    if upstream_model != request.model() {
        edits.push(Edit {
            range: request.places.model.clone(),
            text: literal(upstream_model),
        });
    }
    limit_edits(request, limit, rules.output_limit_field, &mut edits);
    if rules.ask_stream_usage && request.stream() && request.dialect() == Dialect::OpenaiChat {
        usage_edit(&request.places, &mut edits);
    }
    apply(&request.body, edits)
}

fn limit_edits(request: &ChatRequest, limit: Option<u64>, wanted: OutputLimitField, edits: &mut Vec<Edit>) {
    let places = &request.places;
    let only_max_tokens = wanted == OutputLimitField::MaxTokens || request.dialect() == Dialect::AnthropicMessages;
    let Some(limit) = limit.or(request.output_limit()) else {
        return;
    };
    let changed = request.output_limit() != Some(limit);
    let in_max_tokens = places.max_tokens.as_ref().filter(|field| !field.is_null);
    let in_completion = places
        .max_completion_tokens
        .as_ref()
        .filter(|field| !field.is_null && request.dialect() == Dialect::OpenaiChat);
    for field in in_max_tokens.iter().chain(in_completion.iter()).filter(|_| changed) {
        edits.push(Edit {
            range: field.value.clone(),
            text: limit.to_string(),
        });
    }
    match (in_max_tokens, in_completion) {
        (Some(_), _) => {}
        (None, Some(_)) if !only_max_tokens => {}
        (None, Some(field)) if places.max_tokens.is_none() => {
            edits.push(Edit {
                range: field.key.clone(),
                text: literal("max_tokens"),
            });
        }
        (None, found) => {
            let only_max_tokens = only_max_tokens || found.is_some();
            let (name, empty) = if only_max_tokens {
                ("max_tokens", &places.max_tokens)
            } else {
                ("max_completion_tokens", &places.max_completion_tokens)
            };
            edits.push(match empty {
                Some(null) => Edit {
                    range: null.value.clone(),
                    text: limit.to_string(),
                },
                None => Edit {
                    range: places.start..places.start,
                    text: format!("\"{name}\":{limit},"),
                },
            });
        }
    }
}

fn usage_edit(places: &Places, edits: &mut Vec<Edit>) {
    const ASKED: &str = "\"include_usage\":true";
    let edit = match (&places.stream_options, &places.include_usage, places.options_start) {
        (_, Some(asked), _) if asked.is_true => return,
        (_, Some(declined), _) => Edit {
            range: declined.value.clone(),
            text: "true".to_owned(),
        },
        (Some(_), None, Some((at, empty))) => {
            let comma = if empty { "" } else { "," };
            Edit {
                range: at..at,
                text: format!("{ASKED}{comma}"),
            }
        }
        (Some(null), None, None) => Edit {
            range: null.value.clone(),
            text: format!("{{{ASKED}}}"),
        },
        (None, None, _) => Edit {
            range: places.start..places.start,
            text: format!("\"stream_options\":{{{ASKED}}},"),
        },
    };
    edits.push(edit);
}

/// A JSON string literal.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn apply(body: &Bytes, mut edits: Vec<Edit>) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    edits.sort_by_key(|edit| edit.range.start);
    let grown: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut spliced = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for edit in edits {
        spliced.extend_from_slice(&body[at..edit.range.start]);
        spliced.extend_from_slice(edit.text.as_bytes());
        at = edit.range.end;
    }
    spliced.extend_from_slice(&body[at..]);
    Bytes::from(spliced)
}
