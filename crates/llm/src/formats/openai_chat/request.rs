//! What a Chat Completions request asks for, and what its input consists of.

use crate::{
    json::{self, Object},
    request::{
        InputShape, MAX_CHOICES, ReadFields, RequestError, model_field, positive_field, refuse_fields, text_field,
        truth_field,
    },
};

/// Fields that would send the request elsewhere, or to another model than the one that is priced.
const REFUSED: [(&str, &str); 9] = [
    ("api_base", "where a model runs is the relay's choice; remove the field"),
    ("base_url", "where a model runs is the relay's choice; remove the field"),
    (
        "api_key",
        "the relay uses its own credentials; send your key in the Authorization header",
    ),
    ("extra_headers", "send headers as HTTP headers; remove the field"),
    (
        "models",
        "name one model in `model`; fallback to another one would change the price",
    ),
    (
        "fallbacks",
        "name one model in `model`; fallback to another one would change the price",
    ),
    ("route", "routing is the relay's choice; remove the field"),
    ("provider", "routing is the relay's choice; remove the field"),
    ("best_of", "use `n` for several choices"),
];

/// Fields that switch on something which the provider bills beside tokens.
const PAID_OPTIONS: [&str; 6] = [
    "plugins",
    "search_parameters",
    "enable_search",
    "search_settings",
    "builtin_tools",
    "mcp_servers",
];

const OWN_TOOL: &str = "remove it, or run it yourself and declare it as a tool of type `function`";

/// Reads the fields that are acted on.
pub(crate) fn read_fields(object: &Object<'_>) -> Result<ReadFields, RequestError> {
    refuse_fields(object, &REFUSED)?;
    let max_tokens = positive_field(object, "max_tokens")?;
    let max_completion = positive_field(object, "max_completion_tokens")?;
    if max_tokens.is_some() && max_completion.is_some() && max_tokens != max_completion {
        return Err(RequestError::BadField {
            field: "max_tokens",
            expected: "left out, or equal, when `max_completion_tokens` is given",
        });
    }
    let choices = match object.get("n") {
        None => 1,
        Some(raw) => raw
            .parse::<u64>()
            .ok()
            .filter(|n| (1..=MAX_CHOICES).contains(n))
            .ok_or(RequestError::BadField {
                field: "n",
                expected: "a whole number from 1 to 128",
            })?,
    };
    let stream = truth_field(object, "stream")?;
    Ok(ReadFields {
        model: model_field(object)?,
        stream,
        output_limit: max_completion.or(max_tokens),
        choices,
        wants_usage: wants_usage(object)?,
        service_tier: text_field(object, "service_tier")?,
        thinking: thinking(object),
        region: None,
        search_context_size: object
            .object("web_search_options")
            .and_then(|options| options.string("search_context_size")),
        asks_for_media: asks_for_media(object),
    })
}

/// `modalities` that are not just text, or a voice for the answer.
fn asks_for_media(object: &Object<'_>) -> bool {
    let is_text = |kind: &str| json::string(kind).as_deref() == Some("text");
    // what is no list is not understood here, and perhaps there
    let lists_text = |list: &str| json::elements(list).is_some_and(|kinds| kinds.into_iter().all(is_text));
    object.get("audio").is_some() || object.get("modalities").is_some_and(|list| !lists_text(list))
}

fn wants_usage(object: &Object<'_>) -> Result<bool, RequestError> {
    let Some(raw) = object.get("stream_options") else {
        return Ok(false);
    };
    let bad = RequestError::BadField {
        field: "stream_options",
        expected: "an object",
    };
    truth_field(&Object::nested(raw).ok_or(bad)?, "include_usage").map_err(|_| RequestError::BadField {
        field: "stream_options.include_usage",
        expected: "true or false",
    })
}

/// Qwen's `enable_thinking`, also among template arguments; `thinking.type` of DeepSeek, Moonshot and Z.ai; an effort of
/// `none`. Other efforts leave the model's own mode.
fn thinking(object: &Object<'_>) -> Option<bool> {
    let switch = |object: &Object<'_>| match object.get("enable_thinking") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    let by_type = || match object.object("thinking")?.string("type")?.as_str() {
        "disabled" => Some(false),
        _ => Some(true),
    };
    let by_effort = || (object.string("reasoning_effort")? == "none").then_some(false);
    switch(object)
        .or_else(|| switch(&object.object("chat_template_kwargs")?))
        .or_else(by_type)
        .or_else(by_effort)
}

/// Walks what the input consists of.
pub(crate) fn read_shape(peek: &crate::request::Peek<'_>) -> Result<InputShape, RequestError> {
    let mut shape = InputShape::default();
    let Some(messages) = &peek.messages else {
        return Err(RequestError::MissingField { field: "messages" });
    };
    shape.messages = messages.count;
    for content in &messages.contents {
        read_content(content, &mut shape);
    }
    for attachment in &messages.attachments {
        shape.audio = true;
        shape.add_opaque(attachment.len());
    }
    read_tools(&peek.object, &mut shape)?;
    shape.search_option = peek.object.get("web_search_options").is_some();
    for option in PAID_OPTIONS {
        if peek
            .object
            .get(option)
            .is_some_and(|value| value != "false" && value != "[]")
        {
            shape.add_unbounded(option, "remove the field");
        }
    }
    Ok(shape)
}

fn read_content(content: &str, shape: &mut InputShape) {
    let Some(parts) = json::elements(content) else {
        // an object where a list is usual: nobody documents what it may hold
        return shape.add_opaque(content.len());
    };
    for part in parts {
        if part.starts_with('"') {
            continue;
        }
        let Some(object) = Object::nested(part) else {
            continue;
        };
        // of two equal keys either may count upstream, so the part is read only when its kind is certain
        let kind = if object.duplicate().is_some() {
            None
        } else {
            object.string("type")
        };
        match kind.as_deref() {
            Some("text" | "input_text" | "output_text" | "refusal" | "thinking" | "reasoning") => {}
            Some("image_url" | "input_image" | "image") => shape.add_image(part.len()),
            Some("input_audio" | "audio_url" | "audio") => {
                shape.audio = true;
                shape.add_opaque(part.len());
            }
            _ => shape.add_opaque(part.len()),
        }
    }
}

fn read_tools(object: &Object<'_>, shape: &mut InputShape) -> Result<(), RequestError> {
    shape.has_tools = object.get("tools").is_some() || object.get("functions").is_some();
    let Some(raw) = object.get("tools") else {
        return Ok(());
    };
    let bad = RequestError::BadField {
        field: "tools",
        expected: "an array of tool objects",
    };
    for tool in json::elements(raw).ok_or(bad.clone())? {
        let tool = Object::nested(tool).ok_or(bad.clone())?;
        if let Some(twice) = tool.duplicate() {
            return Err(RequestError::DuplicateField {
                field: format!("tools.{twice}"),
            });
        }
        match tool
            .get("type")
            .map(|kind| json::string(kind).unwrap_or_default())
            .as_deref()
        {
            None | Some("function" | "custom") => {}
            Some(other) => shape.add_unbounded(other, OWN_TOOL),
        }
    }
    Ok(())
}
