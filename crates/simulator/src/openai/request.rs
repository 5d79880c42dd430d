//! PURE: reads a Chat Completions request.
//!
//! Input tokens: one for every four bytes begun of each text, four per message, 85 per image or file, and one for every four
//! bytes begun of each tool's JSON.

use serde_json::Value;

use crate::{
    output::{Ask, Tool, ToolChoice},
    refusal::Refusal,
    text::input_tokens,
};

/// A request that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChatRequest {
    pub(crate) ask: Ask,
    /// A stream ends with a chunk that has the usage and no choices.
    pub(crate) include_usage: bool,
    pub(crate) choices: u64,
}

/// Reads a request body.
pub(crate) fn read(body: &Value) -> Result<ChatRequest, Refusal> {
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if model.is_empty() {
        return Err(Refusal::invalid("you must provide a model parameter"));
    }
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .filter(|messages| !messages.is_empty())
        .ok_or_else(|| Refusal::invalid("Missing required parameter: 'messages'."))?;
    let last_user_text = messages
        .iter()
        .rev()
        .find(|message| role(message) == "user")
        .map(|message| texts_of(message).join("\n"))
        .unwrap_or_default();
    let limit = ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|name| body.get(name).filter(|v| !v.is_null()));
    let max_tokens = match limit.map(|value| value.as_u64().filter(|count| *count > 0)) {
        Some(None) => return Err(Refusal::invalid("Invalid 'max_tokens': must be a positive integer.")),
        Some(count) => count,
        None => None,
    };
    let tools = read_tools(body.get("tools"));
    let images: u64 = messages.iter().map(parts_without_text).sum();
    let text_tokens: u64 = messages
        .iter()
        .map(|message| texts_of(message).iter().map(|text| input_tokens(text)).sum::<u64>() + 4)
        .sum();
    let tool_tokens: u64 = body
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|tool| input_tokens(&tool.to_string()))
        .sum();
    let stops = match body.get("stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => stops.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let choices = body.get("n").and_then(Value::as_u64).unwrap_or(1);
    if !(1..=128).contains(&choices) {
        return Err(Refusal::invalid("Invalid 'n': must be between 1 and 128."));
    }
    Ok(ChatRequest {
        ask: Ask {
            model: model.to_owned(),
            last_user_text,
            after_tool_result: messages.last().is_some_and(|message| role(message) == "tool"),
            max_tokens,
            stops,
            tools,
            tool_choice: read_tool_choice(body.get("tool_choice")),
            input_tokens: text_tokens + tool_tokens + images * 85,
            stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        },
        include_usage: body
            .pointer("/stream_options/include_usage")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        choices,
    })
}

fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

fn texts_of(message: &Value) -> Vec<&str> {
    match message.get("content") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect(),
        _ => Vec::new(),
    }
}

fn parts_without_text(message: &Value) -> u64 {
    let parts = message.get("content").and_then(Value::as_array).into_iter().flatten();
    parts.filter(|part| part.get("text").is_none()).map(|_| 1).sum()
}

fn read_tools(tools: Option<&Value>) -> Vec<Tool> {
    let tools = tools.and_then(Value::as_array).into_iter().flatten();
    tools
        .filter_map(|tool| {
            let function = tool.get("function")?;
            let name = function.get("name")?.as_str()?.to_owned();
            Some(Tool {
                name,
                schema: function.get("parameters").cloned().unwrap_or_default(),
            })
        })
        .collect()
}

fn read_tool_choice(choice: Option<&Value>) -> ToolChoice {
    match choice {
        Some(Value::String(word)) if word == "none" => ToolChoice::Never,
        Some(Value::String(word)) if word == "required" => ToolChoice::Must,
        Some(object) => match object.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => ToolChoice::Named(name.to_owned()),
            None => ToolChoice::Free,
        },
        None => ToolChoice::Free,
    }
}
