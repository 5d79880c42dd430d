//! OpenAI Chat Completions, as OpenAI and its many compatibles speak it.

mod answer;
mod request;

pub(crate) use answer::{OpenaiEvents, body_text, event_text, observe_body};
pub(crate) use request::{read_fields, read_shape};
