//! PURE: Anthropic Messages, as the simulator reads and speaks it.
//!
//! Input tokens are counted as for the other dialect; the system prompt counts as one more message.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    output::{Ask, Block, Finish, Output, Tool, ToolChoice, answer},
    plan::{Plan, Step, event},
    refusal::Refusal,
    script::{Generate, UsageReport},
    text::{Dice, input_tokens},
};

#[derive(Serialize)]
struct Message<'a> {
    model: &'a str,
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    content: Vec<Value>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

/// Reads a request body.
pub(crate) fn read(body: &Value) -> Result<Ask, Refusal> {
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if model.is_empty() {
        return Err(Refusal::invalid("model: Field required"));
    }
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .ok_or_else(|| Refusal::invalid("messages: Field required"))?;
    if messages.is_empty() {
        return Err(Refusal::invalid("messages: at least one message is required"));
    }
    let max_tokens = match body.get("max_tokens") {
        None => return Err(Refusal::invalid("max_tokens: Field required")),
        Some(value) => value
            .as_u64()
            .filter(|count| *count > 0)
            .ok_or_else(|| Refusal::invalid("max_tokens: must be greater than or equal to 1"))?,
    };
    let user_texts = |message: &Value| texts_of(message.get("content")).join("\n");
    let last_user = messages
        .iter()
        .rev()
        .find(|message| role(message) == "user" && !texts_of(message.get("content")).is_empty());
    let of_message = |content: Option<&Value>| {
        texts_of(content).iter().map(|text| input_tokens(text)).sum::<u64>() + 4 + media_of(content) * 85
    };
    let message_tokens: u64 = messages.iter().map(|message| of_message(message.get("content"))).sum();
    let system_tokens = body.get("system").map_or(0, |system| of_message(Some(system)));
    let tools = body
        .get("tools")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let tool_tokens: u64 = tools.iter().map(|tool| input_tokens(&tool.to_string())).sum();
    let stops = body
        .get("stop_sequences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    Ok(Ask {
        model: model.to_owned(),
        last_user_text: last_user.map(user_texts).unwrap_or_default(),
        after_tool_result: messages.last().is_some_and(|message| has_part(message, "tool_result")),
        max_tokens: Some(max_tokens),
        stops: stops.filter_map(Value::as_str).map(str::to_owned).collect(),
        tools: tools.iter().filter_map(read_tool).collect(),
        tool_choice: read_tool_choice(body.get("tool_choice")),
        input_tokens: message_tokens + system_tokens + tool_tokens,
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

fn parts(content: Option<&Value>) -> impl Iterator<Item = &Value> {
    content.and_then(Value::as_array).into_iter().flatten()
}

fn texts_of(content: Option<&Value>) -> Vec<&str> {
    match content {
        Some(Value::String(text)) => vec![text],
        other => parts(other)
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect(),
    }
}

fn media_of(content: Option<&Value>) -> u64 {
    let is_media = |part: &&Value| matches!(part.get("type").and_then(Value::as_str), Some("image" | "document"));
    parts(content).filter(is_media).map(|_| 1).sum()
}

fn has_part(message: &Value, kind: &str) -> bool {
    parts(message.get("content")).any(|part| part.get("type").and_then(Value::as_str) == Some(kind))
}

fn read_tool(tool: &Value) -> Option<Tool> {
    let name = tool.get("name")?.as_str()?.to_owned();
    Some(Tool {
        name,
        schema: tool.get("input_schema").cloned().unwrap_or_default(),
    })
}

fn read_tool_choice(choice: Option<&Value>) -> ToolChoice {
    let word = |name: &str| choice.and_then(|choice| choice.get(name)).and_then(Value::as_str);
    match word("type") {
        Some("none") => ToolChoice::Never,
        Some("any") => ToolChoice::Must,
        Some("tool") => ToolChoice::Named(word("name").unwrap_or_default().to_owned()),
        _ => ToolChoice::Free,
    }
}

/// The plan of the answer, and the usage that it reports (`None` when it reports none).
pub(crate) fn plan(request: &Ask, with: &Generate, dice: &mut Dice) -> (Plan, Option<Value>) {
    let mut ask = request.clone();
    if with.ignore_limit {
        ask.max_tokens = None;
    }
    let output = answer(&ask, 0, with.text.as_deref(), with.tokens);
    let true_usage = usage_object(ask.input_tokens, output.tokens());
    let usage = match &with.usage {
        UsageReport::True => Some(true_usage),
        UsageReport::Missing => None,
        UsageReport::Override(usage) => Some(usage.clone()),
    };
    let id = format!("msg_01{}", dice.id(22));
    let model = with.served_model.clone().unwrap_or_else(|| ask.model.clone());
    let mut plan = Plan {
        status: 200,
        headers: headers(dice),
        ..Plan::default()
    };
    let mut message = Message {
        model: &model,
        id: &id,
        r#type: "message",
        role: "assistant",
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        usage: None,
    };
    if ask.stream {
        // The first event tells the input; its output count is that of the opening alone.
        let reports_start = with.usage != UsageReport::Missing;
        message.usage = reports_start.then(|| usage_object(ask.input_tokens, 1));
        plan.headers
            .push(("content-type".into(), "text/event-stream; charset=utf-8".into()));
        plan.steps = stream(&message, &output, usage.as_ref());
    } else {
        message.content = output.blocks.iter().map(whole_block).collect();
        message.stop_reason = Some(stop_word(&output.finish));
        message.stop_sequence = stop_sequence(&output.finish);
        message.usage = usage.clone();
        plan.headers.push(("content-type".into(), "application/json".into()));
        plan.before_head.push(Step::Think {
            tokens: output.tokens(),
        });
        plan.steps
            .push(event(serde_json::to_string(&message).unwrap_or_default(), 0));
    }
    let delay = with.token_delay_ms.unwrap_or_default();
    (plan.paced(Duration::from_millis(delay)), usage)
}

fn usage_object(input: u64, output: u64) -> Value {
    json!({
        "input_tokens": input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
    })
}

/// What the provider sends beside the body; the cookie and the organisation are there to be kept from customers.
fn headers(dice: &mut Dice) -> Vec<(String, String)> {
    [
        (
            "anthropic-organization-id",
            "00000000-0000-4000-8000-000000000000".to_owned(),
        ),
        ("anthropic-ratelimit-requests-limit", "4000".to_owned()),
        ("anthropic-ratelimit-requests-remaining", "3999".to_owned()),
        ("request-id", format!("req_01{}", dice.id(22))),
        ("set-cookie", "_cfuvid=simulated; path=/; HttpOnly".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

const fn stop_word(finish: &Finish) -> &'static str {
    match finish {
        Finish::Done => "end_turn",
        Finish::Stop(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::Calls => "tool_use",
    }
}

const fn stop_sequence(finish: &Finish) -> Option<&str> {
    match finish {
        Finish::Stop(stop) => Some(stop.as_str()),
        _ => None,
    }
}

fn whole_block(block: &Block) -> Value {
    match block {
        Block::Text { pieces } => json!({"type": "text", "text": pieces.concat()}),
        Block::Call { id, name, pieces } => {
            // Arguments that the token limit has cut are no JSON: the block then has no input.
            let input: Value = serde_json::from_str(&pieces.concat()).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": input})
        }
    }
}

fn named_event(name: &str, data: &Value, tokens: u64) -> Step {
    event(format!("event: {name}\ndata: {data}\n\n"), tokens)
}

fn stream(message: &Message<'_>, output: &Output, usage: Option<&Value>) -> Vec<Step> {
    // Written by hand around the message, whose members keep their order.
    let start = serde_json::to_string(message).unwrap_or_default();
    let mut steps = vec![event(
        format!("event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{start}}}\n\n"),
        0,
    )];
    for (index, block) in output.blocks.iter().enumerate() {
        steps.extend(block_steps(index, block));
    }
    let mut last = json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_word(&output.finish), "stop_sequence": stop_sequence(&output.finish)},
    });
    if let (Some(members), Some(usage)) = (last.as_object_mut(), usage) {
        members.insert("usage".into(), usage.clone());
    }
    steps.push(named_event("message_delta", &last, 0));
    steps.push(named_event("message_stop", &json!({"type": "message_stop"}), 0));
    steps
}

fn block_steps(index: usize, block: &Block) -> Vec<Step> {
    let (opening, kind, member, pieces, opening_tokens) = match block {
        Block::Text { pieces } => (json!({"type": "text", "text": ""}), "text_delta", "text", pieces, 0),
        Block::Call { id, name, pieces } => {
            let opening = json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": {}});
            (opening, "input_json_delta", "partial_json", pieces, 1)
        }
    };
    let start = json!({"type": "content_block_start", "index": index, "content_block": opening});
    let mut steps = vec![named_event("content_block_start", &start, opening_tokens)];
    if index == 0 {
        steps.push(event("event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned(), 0));
    }
    steps.extend(pieces.iter().map(|piece| {
        let delta = json!({"type": "content_block_delta", "index": index, "delta": {"type": kind, member: piece}});
        named_event("content_block_delta", &delta, 1)
    }));
    steps.push(named_event(
        "content_block_stop",
        &json!({"type": "content_block_stop", "index": index}),
        0,
    ));
    steps
}

/// The body of an error answer.
pub(crate) fn error_body(refusal: &Refusal, request_id: &str) -> String {
    let error = json!({
        "type": "error",
        "error": {"type": refusal.kind, "message": refusal.message},
        "request_id": request_id,
    });
    error.to_string()
}

/// An error in the middle of a stream.
pub(crate) fn error_event(data: Option<&Value>) -> String {
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    format!("event: error\ndata: {}\n\n", data.unwrap_or(&overloaded))
}
