//! What a request's input consists of, found in the same pass that splits the body into its fields.
//!
//! The walk allows what it knows: a part whose kind is unknown may stand for anything, so it counts as opaque and is
//! bounded by the model's context window, never by its bytes.

use super::RequestError;
use crate::json::{self, Object};

/// What the input consists of, before any model's figures are applied to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputShape {
    /// Messages.
    pub messages: u64,
    /// Images, inline or remote.
    pub images: u64,
    /// Documents, files, video, audio and unknown parts: only the context window bounds them.
    pub opaque: bool,
    /// Audio is among them.
    pub audio: bool,
    /// Bytes of the body that images and opaque parts take, which say nothing about their tokens.
    pub media_bytes: usize,
    /// Whether tools are declared: providers add a system prompt of their own then.
    pub has_tools: bool,
    /// Tools that the provider defines and the client runs; each adds a declaration that the body does not show.
    pub provider_defined_tools: u64,
    /// The most web searches that the provider may run and bill.
    pub web_searches: u64,
    /// How often a server tool may feed its results back into the model.
    pub server_tool_rounds: u64,
    /// A search that the request switches on by an option, priced per request where the provider publishes a fee.
    pub search_option: bool,
    /// A tool that the provider runs and bills without a bound, with advice.
    pub unbounded: Option<(String, &'static str)>,
}

impl InputShape {
    /// Counts one image whose part takes so many bytes of the body.
    pub(crate) const fn add_image(&mut self, bytes: usize) {
        self.images = self.images.saturating_add(1);
        self.media_bytes = self.media_bytes.saturating_add(bytes);
    }

    /// Notes a part that only the context window bounds.
    pub(crate) const fn add_opaque(&mut self, bytes: usize) {
        self.opaque = true;
        self.media_bytes = self.media_bytes.saturating_add(bytes);
    }

    /// Notes a tool without a bound; the first one found is reported.
    pub(crate) fn add_unbounded(&mut self, tool: impl Into<String>, advice: &'static str) {
        self.unbounded.get_or_insert_with(|| (tool.into(), advice));
    }
}

/// The body split into its fields, and those parts of its messages that are more than a string.
#[derive(Debug)]
pub struct Peek<'a> {
    /// Every top-level field.
    pub object: Object<'a>,
    /// What the messages hold beside plain strings.
    pub messages: Option<MessageParts<'a>>,
}

/// What the messages hold beside plain strings.
#[derive(Debug, Default)]
pub struct MessageParts<'a> {
    /// How many messages there are.
    pub count: u64,
    /// Each `content` that is not a string.
    pub contents: Vec<&'a str>,
    /// Other values that may refer to media which the body does not hold: an earlier answer's audio, attachments.
    pub attachments: Vec<&'a str>,
}

/// Message fields beside `content` that hold or name media.
const ATTACHMENTS: [&str; 7] = ["audio", "images", "image", "files", "file_ids", "attachments", "videos"];

/// Splits a body that is already known to be UTF-8 and shallow.
pub(super) fn peek(text: &str) -> Result<Peek<'_>, RequestError> {
    json::validate(text).map_err(|error| RequestError::InvalidJson {
        detail: format!("line {}, column {}", error.line(), error.column()),
    })?;
    if !text.trim_start().starts_with('{') {
        return Err(RequestError::InvalidJson {
            detail: "not an object".to_owned(),
        });
    }
    let bad = RequestError::BadField {
        field: "messages",
        expected: "an array of message objects",
    };
    let object = Object::nested(text).ok_or(bad.clone())?;
    let messages = object.members().iter().find(|member| member.key == "messages");
    let messages = match messages {
        Some(messages) => Some(message_parts(messages.value).ok_or(bad)?),
        None => None,
    };
    Ok(Peek { object, messages })
}

/// `None` when the text is not an array of objects.
fn message_parts(messages: &str) -> Option<MessageParts<'_>> {
    let mut parts = MessageParts::default();
    for message in json::elements(messages)? {
        parts.count = parts.count.saturating_add(1);
        for member in json::members(message)? {
            let value = member.value;
            if member.key == "content" {
                if !value.starts_with('"') && json::has_content(value) {
                    parts.contents.push(value);
                }
            } else if ATTACHMENTS.contains(&member.key.as_ref()) && json::has_content(value) {
                parts.attachments.push(value);
            }
        }
    }
    Some(parts)
}
