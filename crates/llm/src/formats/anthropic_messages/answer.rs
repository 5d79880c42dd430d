//! What Messages answers report, as one body or as a stream of events.
//!
//! `message_start` tells the model and the input side (its `output_tokens` is a placeholder), `message_delta` tells
//! cumulative usage: the last one counts. Content events are parsed only until output has begun.

use std::borrow::Cow;

use crate::{
    json::{self, Object},
    observed::{Observed, OutputText, UpstreamError, UsageReport},
    sse::Event,
    usage::{AnthropicUsage, UsageError, within_belief},
};

/// What has been seen of a stream of events.
#[derive(Debug, Default)]
pub(crate) struct AnthropicEvents {
    usage: AnthropicUsage,
    output_reported: bool,
    absurd: Option<UsageError>,
}

impl AnthropicEvents {
    /// Takes note of one event. Every one is forwarded: usage is part of the format.
    pub(crate) fn see(&mut self, event: &Event<'_>, observed: &mut Observed) {
        let Some(data) = event.data.as_deref() else {
            return;
        };
        let kind = if event.name.is_empty() {
            let named = Object::parse_bytes(data).and_then(|object| object.string("type"));
            Cow::Owned(named.unwrap_or_default().into_bytes())
        } else {
            Cow::Borrowed(event.name)
        };
        match kind.as_ref() {
            b"message_stop" => observed.done_seen = true,
            b"content_block_start" | b"content_block_delta" if observed.output_began => {}
            b"content_block_start" | b"content_block_delta" | b"message_start" | b"message_delta" | b"error" => {
                let object = Object::parse_bytes(data).unwrap_or_default();
                self.read(&kind, &object, observed);
            }
            _ => {}
        }
    }

    fn read(&mut self, kind: &[u8], object: &Object<'_>, observed: &mut Observed) {
        match kind {
            b"message_start" => {
                let message = object.object("message").unwrap_or_default();
                if let Some(model) = message.string("model") {
                    observed.note_model(&model);
                }
                self.note_usage(&message, true, observed);
            }
            b"message_delta" => {
                let delta = object.object("delta").unwrap_or_default();
                observed.finish_seen |= delta.get("stop_reason").is_some_and(json::has_content);
                observed.filtered |= was_refused(&delta);
                self.note_usage(object, false, observed);
            }
            b"content_block_start" => {
                observed.output_began |= object
                    .object("content_block")
                    .is_some_and(|block| block_holds_output(&block));
            }
            b"content_block_delta" => {
                observed.output_began |= object.object("delta").is_some_and(|delta| holds_content(&delta));
            }
            _ => note_error(object, observed),
        }
    }

    fn note_usage(&mut self, holder: &Object<'_>, is_start: bool, observed: &mut Observed) {
        let Some(usage) = holder.object("usage") else {
            return;
        };
        note_tier(&usage, observed);
        match AnthropicUsage::read(&usage) {
            Ok(report) if is_start => self.usage.update(report.input_side()),
            Ok(report) => {
                self.usage.update(report);
                self.output_reported |= usage.get("output_tokens").is_some();
            }
            Err(error) => self.absurd = Some(error),
        }
        let outcome = self
            .absurd
            .clone()
            .map_or_else(|| self.usage.normalised().and_then(within_belief), Err);
        observed.usage = match outcome {
            Ok(usage) if self.output_reported => UsageReport::Reported(usage),
            Ok(usage) => UsageReport::InputOnly(usage),
            Err(error) => UsageReport::Unusable(error),
        };
    }
}

/// The tier that was applied: the speed where it is another than standard, else the service tier.
fn note_tier(usage: &Object<'_>, observed: &mut Observed) {
    let speed = usage.string("speed").filter(|speed| speed != "standard");
    if let Some(tier) = speed.or_else(|| usage.string("service_tier")) {
        observed.service_tier = Some(tier);
    }
}

fn note_error(object: &Object<'_>, observed: &mut Observed) {
    let error = object.object("error").unwrap_or_default();
    observed.error.get_or_insert_with(|| UpstreamError {
        code: error.string("type"),
        message: error.string("message"),
    });
}

/// Whether a block or delta holds anything beside its kind.
fn holds_content(object: &Object<'_>) -> bool {
    object
        .members()
        .iter()
        .any(|member| member.key != "type" && json::has_content(member.value))
}

/// Whether a block that starts is output in itself: any kind but an empty text or thinking block.
fn block_holds_output(block: &Object<'_>) -> bool {
    match block.string("type").as_deref() {
        Some("text" | "thinking") => holds_content(block),
        _ => true,
    }
}

/// Whether Anthropic's classifiers ended the answer.
fn was_refused(said: &Object<'_>) -> bool {
    said.string("stop_reason").as_deref() == Some("refusal")
}

/// Reads a whole body.
pub(crate) fn observe_body(body: &Object<'_>) -> Observed {
    let mut observed = Observed {
        done_seen: true,
        ..Observed::default()
    };
    if let Some(model) = body.string("model") {
        observed.note_model(&model);
    }
    observed.finish_seen = body.get("stop_reason").is_some_and(json::has_content);
    observed.filtered = was_refused(body);
    if body.string("type").as_deref() == Some("error") || body.get("error").is_some() {
        note_error(body, &mut observed);
    }
    if let Some(usage) = body.object("usage") {
        note_tier(&usage, &mut observed);
        observed.usage = match AnthropicUsage::read(&usage)
            .and_then(AnthropicUsage::normalised)
            .and_then(within_belief)
        {
            Ok(normalised) if usage.get("output_tokens").is_some() => UsageReport::Reported(normalised),
            Ok(normalised) => UsageReport::InputOnly(normalised),
            Err(error) => UsageReport::Unusable(error),
        };
    }
    let blocks = body.get("content").and_then(json::elements).unwrap_or_default();
    observed.output_began = blocks
        .into_iter()
        .filter_map(Object::nested)
        .any(|block| block_holds_output(&block));
    observed
}

/// Adds the output text of one event.
pub(crate) fn event_text(data: &[u8], output: &mut OutputText) {
    let Some(event) = Object::parse_bytes(data) else {
        return;
    };
    for part in event.object("delta").into_iter().chain(event.object("content_block")) {
        push_block(&part, output);
    }
}

/// Adds the output text of a body.
pub(crate) fn body_text(body: &Object<'_>, output: &mut OutputText) {
    for block in body
        .get("content")
        .and_then(json::elements)
        .into_iter()
        .flatten()
        .filter_map(Object::nested)
    {
        push_block(&block, output);
    }
}

/// Blocks and deltas name their text alike. Results of server tools are input, not output: they have other names.
fn push_block(block: &Object<'_>, output: &mut OutputText) {
    for field in ["thinking", "text", "partial_json", "name"] {
        output.push(&block.string(field).unwrap_or_default());
    }
    if let Some(input) = block.get("input").filter(|input| json::has_content(input)) {
        output.push(input);
    }
}
