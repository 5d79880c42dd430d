//! What Chat Completions answers report, as one body or as a stream of chunks.
//!
//! The common chunk is only searched for a few keys; JSON is parsed for the first chunks, until output has begun, for those
//! that name another model than the chunk before, and for those that carry usage, an end or an error.

use std::collections::BTreeSet;

use crate::{
    json::{self, KeyFinder, Object},
    observed::{Observed, OutputText, UpstreamError, UsageReport},
    request::MAX_CHOICES,
    sse::Event,
    usage::{UsageProfile, normalise},
};

/// What has been seen of a stream of chunks.
#[derive(Debug)]
pub(crate) struct OpenaiEvents {
    profile: UsageProfile,
    strip_usage_chunk: bool,
    choices: u64,
    finished: BTreeSet<u64>,
    /// The model's name as the last chunk that was parsed writes it, quotes included.
    model_raw: String,
    keys: Keys,
}

/// The keys whose presence makes a chunk worth parsing.
#[derive(Debug)]
struct Keys {
    model: KeyFinder,
    usage: KeyFinder,
    finish_reason: KeyFinder,
    error: KeyFinder,
}

impl OpenaiEvents {
    pub(crate) fn new(profile: UsageProfile, strip_usage_chunk: bool, choices: u64) -> Self {
        Self {
            profile,
            strip_usage_chunk,
            choices,
            finished: BTreeSet::new(),
            model_raw: String::new(),
            keys: Keys {
                model: KeyFinder::new("\"model\""),
                usage: KeyFinder::new("\"usage\""),
                finish_reason: KeyFinder::new("\"finish_reason\""),
                error: KeyFinder::new("\"error\""),
            },
        }
    }

    /// Takes note of one event; answers whether it is to be forwarded.
    pub(crate) fn see(&mut self, event: &Event<'_>, observed: &mut Observed) -> bool {
        let Some(data) = event.data.as_deref() else {
            return true;
        };
        if data.trim_ascii() == b"[DONE]" {
            observed.done_seen = true;
            return true;
        }
        let has_usage = self.keys.usage.values(data).any(|at| data.get(at) == Some(&b'{'));
        let is_worth_parsing = has_usage
            || self.names_another_model(data)
            || !observed.output_began
            || event.name == b"error"
            || self.keys.finish_reason.finds(data)
            || self.keys.error.finds(data);
        if !is_worth_parsing {
            return true;
        }
        let Some(chunk) = Object::parse_bytes(data) else {
            if event.name == b"error" {
                observed.error.get_or_insert_with(UpstreamError::default);
            }
            return true;
        };
        self.remember_model(&chunk);
        self.read_chunk(&chunk, event.name == b"error", observed)
    }

    fn names_another_model(&self, data: &[u8]) -> bool {
        let mut named = self.keys.model.values(data).filter_map(|at| data.get(at..));
        named.any(|value| self.model_raw.is_empty() || !value.starts_with(self.model_raw.as_bytes()))
    }

    fn remember_model(&mut self, chunk: &Object<'_>) {
        if let Some(raw) = chunk.get("model").filter(|raw| *raw != self.model_raw) {
            raw.clone_into(&mut self.model_raw);
        }
    }

    fn read_chunk(&mut self, chunk: &Object<'_>, is_error: bool, observed: &mut Observed) -> bool {
        note_identity(chunk, observed);
        note_error(chunk, is_error, observed);
        let choices = chunk.get("choices").and_then(json::elements);
        for choice in choices.iter().flatten().filter_map(|choice| Object::nested(choice)) {
            let known = u64::try_from(self.finished.len()).unwrap_or(u64::MAX);
            // an upstream that numbers choices at will must not fill the memory
            if choice.get("finish_reason").is_some_and(json::has_content) && known <= MAX_CHOICES {
                self.finished
                    .insert(choice.get("index").and_then(|index| index.parse().ok()).unwrap_or(0));
            }
            observed.filtered |= was_filtered(&choice);
            let delta = choice.object("delta").or_else(|| choice.object("message"));
            observed.output_began |= delta.is_some_and(|delta| holds_output(&delta));
        }
        let finished = u64::try_from(self.finished.len()).unwrap_or(u64::MAX);
        observed.finish_seen = finished >= self.choices.max(1);
        let reported = note_usage(chunk, self.profile, observed);
        let only_usage = reported && chunk.get("usage").is_some() && choices.is_some_and(|choices| choices.is_empty());
        !(only_usage && self.strip_usage_chunk)
    }
}

fn note_identity(object: &Object<'_>, observed: &mut Observed) {
    if let Some(model) = object.string("model") {
        observed.note_model(&model);
    }
    if let Some(tier) = object.string("service_tier") {
        observed.service_tier = Some(tier);
    }
}

fn note_error(object: &Object<'_>, is_error: bool, observed: &mut Observed) {
    let error = object.get("error").filter(|error| json::has_content(error));
    if observed.error.is_some() || (error.is_none() && !is_error) {
        return;
    }
    let text = error.and_then(json::string);
    let nested = error
        .and_then(Object::nested)
        .or_else(|| is_error.then(|| object.clone()))
        .unwrap_or_default();
    observed.error = Some(UpstreamError {
        // some send the status as the code, a number
        code: nested
            .string("code")
            .or_else(|| nested.string("type"))
            .or_else(|| nested.get("code").map(str::to_owned)),
        message: text.or_else(|| nested.string("message")),
    });
}

/// The last report counts: those that send one with every chunk send cumulative ones. Groq's streams report under
/// `x_groq` instead. Answers whether the object carried a report.
fn note_usage(object: &Object<'_>, profile: UsageProfile, observed: &mut Observed) -> bool {
    let top = object.object("usage");
    let Some(usage) = top.or_else(|| object.object("x_groq")?.object("usage")) else {
        return false;
    };
    observed.usage = match normalise(profile, &usage) {
        Ok(usage) => UsageReport::Reported(usage),
        Err(error) => UsageReport::Unusable(error),
    };
    true
}

/// Whether the provider's content filter ended a choice.
fn was_filtered(choice: &Object<'_>) -> bool {
    choice.string("finish_reason").as_deref() == Some("content_filter")
}

/// Whether a delta or message holds anything beside its role.
fn holds_output(delta: &Object<'_>) -> bool {
    delta.members().iter().any(|member| {
        !matches!(member.key.as_ref(), "role" | "channel" | "annotations") && json::has_content(member.value)
    })
}

/// Reads a whole body.
pub(crate) fn observe_body(profile: UsageProfile, body: &Object<'_>) -> Observed {
    let mut observed = Observed {
        done_seen: true,
        ..Observed::default()
    };
    note_identity(body, &mut observed);
    note_error(body, false, &mut observed);
    note_usage(body, profile, &mut observed);
    let choices = body.get("choices").and_then(json::elements).unwrap_or_default();
    observed.finish_seen = !choices.is_empty();
    for choice in choices.into_iter().filter_map(Object::nested) {
        observed.finish_seen &= choice.get("finish_reason").is_some_and(json::has_content);
        observed.filtered |= was_filtered(&choice);
        observed.output_began |= choice.object("message").is_some_and(|message| holds_output(&message));
    }
    observed
}

/// Adds the output text of one chunk.
pub(crate) fn event_text(data: &[u8], output: &mut OutputText) {
    if let Some(chunk) = Object::parse_bytes(data) {
        body_text(&chunk, output);
    }
}

/// Adds the output text of a body or a chunk.
pub(crate) fn body_text(body: &Object<'_>, output: &mut OutputText) {
    for choice in body
        .get("choices")
        .and_then(json::elements)
        .into_iter()
        .flatten()
        .filter_map(Object::nested)
    {
        let Some(said) = choice.object("delta").or_else(|| choice.object("message")) else {
            continue;
        };
        // several names for the same reasoning may stand side by side
        let reasoning = ["reasoning_content", "reasoning"]
            .into_iter()
            .find_map(|name| said.string(name));
        output.push(&reasoning.unwrap_or_default());
        output.push(&said.string("refusal").unwrap_or_default());
        match said.get("content") {
            Some(parts) if parts.starts_with('[') => push_parts(parts, output),
            Some(text) => output.push(&json::string(text).unwrap_or_default()),
            None => {}
        }
        let calls = said.get("tool_calls").and_then(json::elements).unwrap_or_default();
        let functions = calls
            .into_iter()
            .filter_map(Object::nested)
            .filter_map(|call| call.object("function"));
        for function in functions.chain(said.object("function_call")) {
            output.push(&function.string("name").unwrap_or_default());
            output.push(&function.string("arguments").unwrap_or_default());
        }
    }
}

/// Mistral answers in parts: text, and thinking that is a list of text parts itself.
fn push_parts(parts: &str, output: &mut OutputText) {
    for part in objects(parts) {
        output.push(&part.string("text").unwrap_or_default());
        match part.get("thinking") {
            // one level only: whatever nests deeper is not ours to follow
            Some(nested) if nested.starts_with('[') => {
                objects(nested).for_each(|part| output.push(&part.string("text").unwrap_or_default()));
            }
            Some(text) => output.push(&json::string(text).unwrap_or_default()),
            None => {}
        }
    }
}

fn objects(list: &str) -> impl Iterator<Item = Object<'_>> {
    json::elements(list)
        .unwrap_or_default()
        .into_iter()
        .filter_map(Object::nested)
}
