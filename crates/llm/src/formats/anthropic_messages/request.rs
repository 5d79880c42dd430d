//! What a Messages request asks for, and what its input consists of.

use crate::{
    json::{self, Object},
    request::{
        InputShape, Peek, ReadFields, RequestError, model_field, positive_field, refuse_fields, text_field, truth_field,
    },
};

/// Fields that would send the request elsewhere.
const REFUSED: [(&str, &str); 5] = [
    ("api_base", "where a model runs is the relay's choice; remove the field"),
    ("base_url", "where a model runs is the relay's choice; remove the field"),
    (
        "api_key",
        "the relay uses its own credentials; send your key in the x-api-key header",
    ),
    ("extra_headers", "send headers as HTTP headers; remove the field"),
    (
        "fallbacks",
        "name one model in `model`; fallback to another one would change the price",
    ),
];

const OWN_TOOL: &str = "remove it, or run it yourself and declare it as a tool with an `input_schema`";

/// Server tools whose use is free but for the tokens of their results.
const FREE_SERVER_TOOLS: [&str; 1] = ["tool_search_tool_"];
/// Tools that Anthropic declares and the client runs.
const CLIENT_RUN_TOOLS: [&str; 4] = ["bash_", "text_editor_", "computer_", "memory_"];
/// A server tool stops after this many of its own rounds at the latest, and the answer pauses (`pause_turn`); Anthropic
/// documents a default limit of ten.
const SERVER_TOOL_ROUNDS: u64 = 10;

/// Blocks nest no deeper than a document in a tool's result; each level is scanned again, so more is not followed.
const MAX_BLOCK_LEVELS: u8 = 3;

/// Reads the fields that are acted on.
pub(crate) fn read_fields(object: &Object<'_>) -> Result<ReadFields, RequestError> {
    refuse_fields(object, &REFUSED)?;
    let speed = text_field(object, "speed")?.filter(|speed| speed != "standard");
    let tier = text_field(object, "service_tier")?;
    Ok(ReadFields {
        model: model_field(object)?,
        stream: truth_field(object, "stream")?,
        output_limit: positive_field(object, "max_tokens")?,
        choices: 1,
        wants_usage: true,
        service_tier: speed.or(tier),
        thinking: object
            .object("thinking")
            .and_then(|thinking| thinking.string("type"))
            .map(|kind| kind != "disabled"),
        region: text_field(object, "inference_geo")?,
        search_context_size: None,
        asks_for_media: false,
    })
}

/// Walks what the input consists of.
pub(crate) fn read_shape(peek: &Peek<'_>) -> Result<InputShape, RequestError> {
    let mut shape = InputShape::default();
    let Some(messages) = &peek.messages else {
        return Err(RequestError::MissingField { field: "messages" });
    };
    shape.messages = messages.count;
    for content in &messages.contents {
        read_blocks(content, 0, &mut shape);
    }
    for attachment in &messages.attachments {
        shape.add_opaque(attachment.len());
    }
    if let Some(system) = peek.object.get("system").filter(|system| !system.starts_with('"')) {
        read_blocks(system, 0, &mut shape);
    }
    read_tools(&peek.object, &mut shape)?;
    for option in ["mcp_servers", "container"] {
        if peek.object.get(option).is_some_and(json::has_content) {
            shape.add_unbounded(option, "remove the field");
        }
    }
    // compaction runs the model once more, and the usage totals leave that run out
    let edits = peek
        .object
        .object("context_management")
        .and_then(|management| management.get("edits"));
    if edits
        .and_then(json::elements)
        .unwrap_or_default()
        .into_iter()
        .any(is_compaction)
    {
        shape.add_unbounded(
            "context_management",
            "remove the compaction edit, or compact the conversation yourself",
        );
    }
    Ok(shape)
}

fn is_compaction(edit: &str) -> bool {
    Object::nested(edit).is_none_or(|edit| {
        edit.duplicate().is_some() || edit.string("type").is_none_or(|kind| !kind.starts_with("clear_"))
    })
}

fn read_blocks(content: &str, level: u8, shape: &mut InputShape) {
    if level > MAX_BLOCK_LEVELS {
        return shape.add_opaque(content.len());
    }
    let Some(blocks) = json::elements(content) else {
        return shape.add_opaque(content.len());
    };
    for block in blocks {
        if block.starts_with('"') {
            continue;
        }
        let Some(object) = Object::nested(block) else {
            continue;
        };
        // of two equal keys either may count upstream, so the block is read only when its kind is certain
        let kind = if object.duplicate().is_some() {
            None
        } else {
            object.string("type")
        };
        match kind.as_deref() {
            Some("text" | "thinking" | "redacted_thinking" | "tool_use" | "server_tool_use" | "tool_reference") => {}
            Some("image") => shape.add_image(block.len()),
            Some("tool_result" | "search_result") => {
                if let Some(inner) = object.get("content").filter(|inner| !inner.starts_with('"')) {
                    read_blocks(inner, level + 1, shape);
                }
            }
            Some("document") => read_document(block, &object, level, shape),
            _ => shape.add_opaque(block.len()),
        }
    }
}

/// A document that is plain text is what its bytes say; one that is fetched or rendered is not.
fn read_document(block: &str, document: &Object<'_>, level: u8, shape: &mut InputShape) {
    let source = document
        .object("source")
        .filter(|source| source.duplicate().is_none())
        .unwrap_or_default();
    match (source.string("type").as_deref(), source.get("content")) {
        (Some("text"), _) => {}
        (Some("content"), Some(text)) if text.starts_with('"') => {}
        (Some("content"), Some(blocks)) => read_blocks(blocks, level + 1, shape),
        _ => shape.add_opaque(block.len()),
    }
}

fn read_tools(object: &Object<'_>, shape: &mut InputShape) -> Result<(), RequestError> {
    let Some(raw) = object.get("tools") else {
        return Ok(());
    };
    let bad = RequestError::BadField {
        field: "tools",
        expected: "an array of tool objects",
    };
    let tools = json::elements(raw).ok_or(bad.clone())?;
    shape.has_tools = !tools.is_empty();
    for tool in tools {
        let tool = Object::nested(tool).ok_or(bad.clone())?;
        if let Some(twice) = tool.duplicate() {
            return Err(RequestError::DuplicateField {
                field: format!("tools.{twice}"),
            });
        }
        let Some(kind) = tool.get("type").map(|kind| json::string(kind).unwrap_or_default()) else {
            continue;
        };
        read_tool(&kind, &tool, shape)?;
    }
    Ok(())
}

fn read_tool(kind: &str, tool: &Object<'_>, shape: &mut InputShape) -> Result<(), RequestError> {
    let is_one_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| kind.starts_with(prefix));
    if kind == "custom" {
        return Ok(());
    }
    if is_one_of(&CLIENT_RUN_TOOLS) {
        shape.provider_defined_tools = shape.provider_defined_tools.saturating_add(1);
    } else if is_one_of(&FREE_SERVER_TOOLS) {
        shape.provider_defined_tools = shape.provider_defined_tools.saturating_add(1);
        shape.server_tool_rounds = shape.server_tool_rounds.max(SERVER_TOOL_ROUNDS);
    } else if kind.starts_with("web_search_") {
        match positive_field(tool, "max_uses")? {
            Some(uses) => {
                shape.web_searches = shape.web_searches.saturating_add(uses);
                let rounds = shape.server_tool_rounds.saturating_add(uses);
                shape.server_tool_rounds = rounds.min(SERVER_TOOL_ROUNDS);
            }
            None => shape.add_unbounded(kind, "set `max_uses` on the tool"),
        }
    } else {
        shape.add_unbounded(kind, OWN_TOOL);
    }
    Ok(())
}
