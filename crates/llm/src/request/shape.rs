//! What a request's input consists of, found in the same pass that splits the body into its fields.
//!
//! The walk allows what it knows: a part whose kind is unknown may stand for anything, so it counts as opaque and is
//! bounded by the model's context window, never by its bytes.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::RequestError;
use crate::json::{self, Member, Object};

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
    /// Every top-level field. `messages` stands there with an empty value: its content is in `messages`.
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
    serde_json::from_str::<Peek<'_>>(text).map_err(|error| {
        if error.is_data() && text.trim_start().starts_with('{') {
            RequestError::BadField {
                field: "messages",
                expected: "an array of message objects",
            }
        } else {
            RequestError::InvalidJson {
                detail: format!("line {}, column {}", error.line(), error.column()),
            }
        }
    })
}

impl<'de: 'a, 'a> Deserialize<'de> for Peek<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Peek<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                let mut messages = None;
                while let Some(raw_key) = map.next_key::<&'de RawValue>()? {
                    let raw_key = raw_key.get();
                    let key = json::decoded(raw_key).ok_or_else(|| serde::de::Error::custom("bad key"))?;
                    let value = if key == "messages" {
                        messages = Some(map.next_value::<MessageParts<'de>>()?);
                        ""
                    } else {
                        map.next_value::<&'de RawValue>()?.get()
                    };
                    members.push(Member { key, raw_key, value });
                }
                Ok(Peek {
                    object: Object::from_members(members),
                    messages,
                })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for MessageParts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Messages;
        impl<'de> Visitor<'de> for Messages {
            type Value = MessageParts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of message objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut parts = MessageParts::default();
                while let Some(message) = seq.next_element::<Message<'de>>()? {
                    parts.count = parts.count.saturating_add(1);
                    parts.contents.extend(message.contents);
                    parts.attachments.extend(message.attachments);
                }
                Ok(parts)
            }
        }
        deserializer.deserialize_seq(Messages)
    }
}

/// One message; its vectors stay empty, and so unallocated, for plain text.
#[derive(Default)]
struct Message<'a> {
    contents: Vec<&'a str>,
    attachments: Vec<&'a str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Message<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut message = Message::default();
                while let Some(raw_key) = map.next_key::<&'de RawValue>()? {
                    let key = json::decoded(raw_key.get()).ok_or_else(|| serde::de::Error::custom("bad key"))?;
                    if key == "content" {
                        let value = map.next_value::<&'de RawValue>()?.get();
                        if !value.starts_with('"') && json::has_content(value) {
                            message.contents.push(value);
                        }
                    } else if ATTACHMENTS.contains(&key.as_ref()) {
                        let value = map.next_value::<&'de RawValue>()?.get();
                        if json::has_content(value) {
                            message.attachments.push(value);
                        }
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(message)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
