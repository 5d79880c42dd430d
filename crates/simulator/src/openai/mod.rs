//! PURE: OpenAI Chat Completions, as the simulator speaks it.

mod request;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use request::{ChatRequest, read};

use crate::{
    output::{Block, Finish, Output, answer},
    plan::{Plan, Step, event},
    refusal::Refusal,
    script::{Generate, UsageReport},
    text::Dice,
};

#[derive(Serialize, Clone)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize, Clone)]
struct Choice {
    index: u64,
    message: Value,
    logprobs: Option<Value>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: Vec<ChunkChoice>,
    /// Absent unless usage was asked for; then null in every chunk but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
    obfuscation: String,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: u64,
    delta: Value,
    logprobs: Option<Value>,
    finish_reason: Option<&'static str>,
}

/// The plan of the answer, and the usage that it reports (`None` when it reports none).
pub(crate) fn plan(request: &ChatRequest, with: &Generate, dice: &mut Dice, created: i64) -> (Plan, Option<Value>) {
    let mut ask = request.ask.clone();
    if with.ignore_limit {
        ask.max_tokens = None;
    }
    let outputs: Vec<Output> = (0..request.choices)
        .map(|choice| answer(&ask, choice, with.text.as_deref(), with.tokens))
        .collect();
    let generated: u64 = outputs.iter().map(Output::tokens).sum();
    let usage = match &with.usage {
        UsageReport::True => Some(usage_object(ask.input_tokens, generated)),
        UsageReport::Missing => None,
        UsageReport::Override(usage) => Some(usage.clone()),
    };
    let id = format!("chatcmpl-{}", dice.id(29));
    let model = with.served_model.clone().unwrap_or_else(|| ask.model.clone());
    let mut plan = Plan {
        status: 200,
        headers: headers(dice),
        ..Plan::default()
    };
    if ask.stream {
        let writer = ChunkWriter {
            id: &id,
            model: &model,
            created,
            with_usage: request.include_usage,
        };
        plan.headers
            .push(("content-type".into(), "text/event-stream; charset=utf-8".into()));
        plan.steps = stream(&writer, &outputs, usage.clone());
    } else {
        let completion = Completion {
            id: &id,
            object: "chat.completion",
            created,
            model: &model,
            choices: outputs
                .iter()
                .zip(0..)
                .map(|(output, index)| choice(index, output))
                .collect(),
            usage: usage.clone(),
            service_tier: "default",
            system_fingerprint: "fp_simulator",
        };
        let body = serde_json::to_string_pretty(&completion).unwrap_or_default() + "\n";
        plan.headers.push(("content-type".into(), "application/json".into()));
        plan.before_head.push(Step::Think { tokens: generated });
        plan.steps.push(event(body, 0));
    }
    let delay = with.token_delay_ms.unwrap_or_default();
    (plan.paced(Duration::from_millis(delay)), usage)
}

fn usage_object(input: u64, output: u64) -> Value {
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

/// What the provider sends beside the body; the cookie and the organisation are there to be kept from customers.
fn headers(dice: &mut Dice) -> Vec<(String, String)> {
    [
        ("openai-organization", "simulated-organisation".to_owned()),
        ("openai-processing-ms", "12".to_owned()),
        ("openai-version", "2020-10-01".to_owned()),
        ("x-ratelimit-limit-requests", "10000".to_owned()),
        ("x-ratelimit-remaining-requests", "9999".to_owned()),
        ("x-request-id", format!("req_{}", dice.id(32).to_lowercase())),
        ("set-cookie", "__cf_bm=simulated; path=/; HttpOnly".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

const fn finish_word(finish: &Finish) -> &'static str {
    match finish {
        Finish::Done | Finish::Stop(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
    }
}

fn choice(index: u64, output: &Output) -> Choice {
    let mut text = None;
    let mut calls = Vec::new();
    for block in &output.blocks {
        match block {
            Block::Text { pieces } => text = Some(pieces.concat()),
            Block::Call { id, name, pieces } => calls.push(json!({
                "id": format!("call_{id}"), "type": "function",
                "function": {"name": name, "arguments": pieces.concat()},
            })),
        }
    }
    let mut message = json!({"role": "assistant", "content": text, "refusal": null, "annotations": []});
    if let Some(members) = message.as_object_mut().filter(|_| !calls.is_empty()) {
        members.insert("tool_calls".into(), Value::from(calls));
    }
    Choice {
        index,
        message,
        logprobs: None,
        finish_reason: finish_word(&output.finish),
    }
}

struct ChunkWriter<'a> {
    id: &'a str,
    model: &'a str,
    created: i64,
    with_usage: bool,
}

impl ChunkWriter<'_> {
    fn write(&self, choices: Vec<ChunkChoice>, usage: Option<Value>, tokens: u64) -> Step {
        let chunk = Chunk {
            id: self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model,
            service_tier: "default",
            system_fingerprint: "fp_simulator",
            obfuscation: self.id.chars().rev().take(8 + choices.len()).collect(),
            choices,
            usage,
        };
        event(
            format!("data: {}\n\n", serde_json::to_string(&chunk).unwrap_or_default()),
            tokens,
        )
    }

    fn delta(&self, index: u64, delta: Value, finish: Option<&'static str>, tokens: u64) -> Step {
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: None,
            finish_reason: finish,
        };
        self.write(vec![choice], self.with_usage.then_some(Value::Null), tokens)
    }
}

/// The choices take turns, token by token, as providers interleave them.
fn stream(writer: &ChunkWriter<'_>, outputs: &[Output], usage: Option<Value>) -> Vec<Step> {
    let mut lanes: Vec<_> = outputs
        .iter()
        .zip(0..)
        .map(|(output, index)| choice_steps(writer, index, output).into_iter())
        .collect();
    let mut steps = Vec::new();
    loop {
        let before = steps.len();
        steps.extend(lanes.iter_mut().filter_map(Iterator::next));
        if steps.len() == before {
            break;
        }
    }
    if let Some(usage) = usage.filter(|_| writer.with_usage) {
        steps.push(writer.write(Vec::new(), Some(usage), 0));
    }
    steps.push(event("data: [DONE]\n\n".to_owned(), 0));
    steps
}

fn choice_steps(writer: &ChunkWriter<'_>, index: u64, output: &Output) -> Vec<Step> {
    let has_text = output.blocks.iter().any(|block| matches!(block, Block::Text { .. }));
    let content = if has_text { json!("") } else { Value::Null };
    let opening = json!({"role": "assistant", "content": content, "refusal": null});
    let mut steps = vec![writer.delta(index, opening, None, 0)];
    let mut call = 0_u64;
    for block in &output.blocks {
        match block {
            Block::Text { pieces } => {
                steps.extend(
                    pieces
                        .iter()
                        .map(|piece| writer.delta(index, json!({"content": piece}), None, 1)),
                );
            }
            Block::Call { id, name, pieces } => {
                let head = json!({"tool_calls": [{
                    "index": call, "id": format!("call_{id}"), "type": "function",
                    "function": {"name": name, "arguments": ""},
                }]});
                steps.push(writer.delta(index, head, None, 1));
                steps.extend(pieces.iter().map(|piece| {
                    let delta = json!({"tool_calls": [{"index": call, "function": {"arguments": piece}}]});
                    writer.delta(index, delta, None, 1)
                }));
                call += 1;
            }
        }
    }
    steps.push(writer.delta(index, json!({}), Some(finish_word(&output.finish)), 0));
    steps
}

/// The body of an error answer.
pub(crate) fn error_body(refusal: &Refusal) -> String {
    let error = json!({"error": {
        "message": refusal.message, "type": refusal.kind, "param": null, "code": refusal.code,
    }});
    serde_json::to_string_pretty(&error).unwrap_or_default()
}

/// An error in the middle of a stream.
pub(crate) fn error_event(data: Option<&Value>) -> String {
    let overloaded = json!({"error": {
        "message": "The server is overloaded.", "type": "server_error", "param": null, "code": "overloaded",
    }});
    format!("data: {}\n\n", data.unwrap_or(&overloaded))
}
