//! A client's chat request: parsed once from its bytes, only where we act on it. Unknown fields survive untouched.
//!
//! The body itself is kept as it came; what is read here are a few values and the places where they stand.

mod bound;
mod rewrite;
mod shape;
mod text;

use std::sync::OnceLock;

use bytes::Bytes;
use domain::{request::Dialect, usage::MAX_PLAUSIBLE_COUNT};

pub use bound::{BoundRules, InputBound};
pub use rewrite::{OutputLimitField, WireRules};
pub use shape::{InputShape, MessageParts, Peek};

use crate::{
    formats,
    json::{self, Member, Object},
};

/// The most choices that one request may ask for (`n`): OpenAI's documented maximum.
pub const MAX_CHOICES: u64 = 128;

/// Why a request cannot be served as it is. The message says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not one JSON object in UTF-8.
    #[error("the request body is not a valid JSON object ({detail}): send UTF-8 JSON")]
    InvalidJson {
        /// Where and what, without any of the content.
        detail: String,
    },
    /// Arrays and objects are nested deeper than anybody needs.
    #[error("the request body is nested deeper than {} levels: flatten it", json::MAX_DEPTH)]
    TooDeep,
    /// A field without which nothing can be done.
    #[error("the field `{field}` is missing: add it")]
    MissingField {
        /// The field's name.
        field: &'static str,
    },
    /// Parsers disagree on which of two equal keys counts, so neither is taken.
    #[error("the field `{field}` is given twice: keep one")]
    DuplicateField {
        /// The field's name.
        field: String,
    },
    /// A field that is read here has a value of the wrong kind.
    #[error("the field `{field}` is not acceptable: it must be {expected}")]
    BadField {
        /// The field's name.
        field: &'static str,
        /// What is accepted.
        expected: &'static str,
    },
    /// A field that would redirect the request or change its price behind the published one.
    #[error("the field `{field}` is not accepted here: {reason}")]
    RefusedField {
        /// The field's name.
        field: &'static str,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// A tool that the provider runs and bills, and whose cost has no bound.
    #[error("`{tool}` runs at the provider and its cost has no bound: {advice}")]
    UnboundedTool {
        /// The tool's type or the field that switches it on.
        tool: String,
        /// What to do instead.
        advice: &'static str,
    },
}

impl RequestError {
    /// A stable code for API errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson { .. } => "invalid_json",
            Self::TooDeep => "json_too_deep",
            Self::MissingField { .. } => "missing_field",
            Self::DuplicateField { .. } => "duplicate_field",
            Self::BadField { .. } => "invalid_field",
            Self::RefusedField { .. } => "field_not_accepted",
            Self::UnboundedTool { .. } => "unbounded_tool",
        }
    }

    /// The field at fault, where there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::InvalidJson { .. } | Self::TooDeep => None,
            Self::MissingField { field } | Self::BadField { field, .. } | Self::RefusedField { field, .. } => {
                Some(field)
            }
            Self::DuplicateField { field } => Some(field),
            Self::UnboundedTool { .. } => Some("tools"),
        }
    }
}

/// A chat request in one of the client dialects, parsed once.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    dialect: Dialect,
    body: Bytes,
    read: ReadFields,
    shape: InputShape,
    places: rewrite::Places,
    text_tokens: OnceLock<u64>,
}

/// The values that a format reads from its own fields.
#[derive(Debug, Clone, Default)]
pub struct ReadFields {
    /// The model's name as the client sent it.
    pub model: String,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// The output limit in tokens, per choice.
    pub output_limit: Option<u64>,
    /// How many choices are asked for.
    pub choices: u64,
    /// Whether the client expects a usage report in the stream.
    pub wants_usage: bool,
    /// The service tier, or the speed, that is asked for.
    pub service_tier: Option<String>,
    /// Whether thinking is switched on or off in so many words.
    pub thinking: Option<bool>,
    /// The region that inference is pinned to.
    pub region: Option<String>,
    /// Perplexity's `search_context_size`, which decides its request fee.
    pub search_context_size: Option<String>,
    /// Whether the answer may hold anything but text.
    pub asks_for_media: bool,
}

impl ChatRequest {
    /// Reads a request. Nothing of the body is copied but the model's name.
    pub fn parse(dialect: Dialect, body: Bytes) -> Result<Self, RequestError> {
        if !json::is_shallow(&body) {
            return Err(RequestError::TooDeep);
        }
        let text = std::str::from_utf8(&body).map_err(|_| RequestError::InvalidJson {
            detail: "not UTF-8".to_owned(),
        })?;
        let peek = shape::peek(text)?;
        if let Some(field) = peek.object.duplicate() {
            return Err(RequestError::DuplicateField {
                field: field.to_owned(),
            });
        }
        let (read, shape) = match dialect {
            Dialect::OpenaiChat => (
                formats::openai_chat::read_fields(&peek.object)?,
                formats::openai_chat::read_shape(&peek)?,
            ),
            Dialect::AnthropicMessages => (
                formats::anthropic_messages::read_fields(&peek.object)?,
                formats::anthropic_messages::read_shape(&peek)?,
            ),
        };
        let places = rewrite::Places::find(text, &peek.object)?;
        Ok(Self {
            dialect,
            read,
            shape,
            places,
            body,
            text_tokens: OnceLock::new(),
        })
    }

    /// The client's dialect.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The body as the client sent it.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The model's name as the client sent it.
    pub fn model(&self) -> &str {
        &self.read.model
    }

    /// Whether a stream is asked for.
    pub const fn stream(&self) -> bool {
        self.read.stream
    }

    /// The client's own output limit in tokens, for each choice; `None` when it set none.
    pub const fn output_limit(&self) -> Option<u64> {
        self.read.output_limit
    }

    /// How many choices are asked for, 1 to 128.
    pub const fn choices(&self) -> u64 {
        self.read.choices
    }

    /// Whether the client expects a usage report in the stream (always so with Anthropic).
    pub const fn client_wants_usage(&self) -> bool {
        self.read.wants_usage
    }

    /// The service tier that is asked for: OpenAI's `service_tier`; Anthropic's `speed` where given, else its `service_tier`.
    pub fn service_tier(&self) -> Option<&str> {
        self.read.service_tier.as_deref()
    }

    /// Whether thinking is switched on or off explicitly; `None` leaves it to the model.
    pub const fn thinking(&self) -> Option<bool> {
        self.read.thinking
    }

    /// The region that inference is pinned to (Anthropic's `inference_geo`).
    pub fn region(&self) -> Option<&str> {
        self.read.region.as_deref()
    }

    /// The search context size, which decides Perplexity's request fee.
    pub fn search_context_size(&self) -> Option<&str> {
        self.read.search_context_size.as_deref()
    }

    /// Whether the answer is asked for in text alone (OpenAI's `modalities` and `audio` ask for more).
    pub const fn is_text_only(&self) -> bool {
        !self.read.asks_for_media
    }

    /// What the input consists of.
    pub const fn shape(&self) -> &InputShape {
        &self.shape
    }

    /// An upper bound of the input, from the body's bytes.
    pub fn input_bound(&self, rules: &BoundRules) -> Result<InputBound, RequestError> {
        bound::by_bytes(self.dialect, self.body.len(), &self.shape, rules)
    }

    /// A tighter bound, from a count of the text by [`ChatRequest::text_tokens`] with a margin; never above
    /// `input_bound`. For balances that the first bound strains.
    pub fn tighter_input_bound(&self, rules: &BoundRules, text_tokens: u64) -> Result<InputBound, RequestError> {
        let coarse = self.input_bound(rules)?;
        Ok(bound::by_tokens(self.dialect, text_tokens, &self.shape, rules, coarse))
    }

    /// Tokens of everything in the body that is text, by our own tokenizer. The first call takes about a millisecond for
    /// every 10 kB: not on an event loop where the body is large.
    pub fn text_tokens(&self) -> u64 {
        *self.text_tokens.get_or_init(|| text::count(&self.body))
    }

    /// Whether [`ChatRequest::text_tokens`] is known already.
    pub fn is_counted(&self) -> bool {
        self.text_tokens.get().is_some()
    }

    /// The body for an upstream: its model name, the output limit where one is given, the usage option of a stream.
    /// Every other byte stays as it came; without a change the same buffer is handed out.
    pub fn rewrite(&self, upstream_model: &str, output_limit: Option<u64>, rules: WireRules) -> Bytes {
        rewrite::splice(self, upstream_model, output_limit, rules)
    }
}

/// A string field; `None` when absent or `null`.
pub(crate) fn text_field(object: &Object<'_>, field: &'static str) -> Result<Option<String>, RequestError> {
    match object.get(field) {
        None => Ok(None),
        Some(raw) => json::string(raw).map(Some).ok_or(RequestError::BadField {
            field,
            expected: "a string",
        }),
    }
}

/// A truth value; `false` when absent or `null`.
pub(crate) fn truth_field(object: &Object<'_>, field: &'static str) -> Result<bool, RequestError> {
    match object.get(field) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(RequestError::BadField {
            field,
            expected: "true or false",
        }),
    }
}

/// A whole number from 1 on; `None` when absent or `null`.
pub(crate) fn positive_field(object: &Object<'_>, field: &'static str) -> Result<Option<u64>, RequestError> {
    let Some(raw) = object.get(field) else {
        return Ok(None);
    };
    match raw.parse::<u64>() {
        Ok(number) if (1..=MAX_PLAUSIBLE_COUNT).contains(&number) => Ok(Some(number)),
        _ => Err(RequestError::BadField {
            field,
            expected: "a whole number from 1 on",
        }),
    }
}

/// The model's name.
pub(crate) fn model_field(object: &Object<'_>) -> Result<String, RequestError> {
    match text_field(object, "model")? {
        Some(model) if !model.trim().is_empty() => Ok(model),
        _ => Err(RequestError::MissingField { field: "model" }),
    }
}

/// Refuses every field of a list that is present and holds something.
pub(crate) fn refuse_fields(object: &Object<'_>, refused: &[(&'static str, &'static str)]) -> Result<(), RequestError> {
    let present = |member: &Member<'_>, field: &str| member.key == field && member.value != "null";
    for (field, reason) in refused {
        if object.members().iter().any(|member| present(member, field)) {
            return Err(RequestError::RefusedField { field, reason });
        }
    }
    Ok(())
}
