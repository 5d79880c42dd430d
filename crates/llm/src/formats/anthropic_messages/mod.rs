//! Anthropic Messages.

mod answer;
mod request;

pub(crate) use answer::{AnthropicEvents, body_text, event_text, observe_body};
pub(crate) use request::{read_fields, read_shape};
