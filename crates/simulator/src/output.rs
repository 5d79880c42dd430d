//! PURE: what the simulated model says to a request, whatever the dialect.
//!
//! The rules, in order. With tools given: a forced tool choice, or a last user message that contains `call the tool`
//! (`call the tools` for all of them at once), gives tool calls. A last user message with `repeat after me:` gives the rest
//! of that message back. Anything else gives prose that depends on model and message alone.

use serde_json::{Map, Value, json};

use crate::text::{Dice, split_chars, split_words, write_pieces};

/// A tool that the request offers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

/// Whether the request leaves the choice of a tool to the model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ToolChoice {
    #[default]
    Free,
    Never,
    Must,
    Named(String),
}

/// A request, as far as it decides the answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) last_user_text: String,
    /// The conversation ends with a tool's result: the model talks instead of calling again.
    pub(crate) after_tool_result: bool,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) stops: Vec<String>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: ToolChoice,
    pub(crate) input_tokens: u64,
    pub(crate) stream: bool,
}

/// One block of an answer, in the pieces in which it is generated; a piece is one output token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Text {
        pieces: Vec<String>,
    },
    /// The name costs one token, each piece of the arguments one more.
    Call {
        id: String,
        name: String,
        pieces: Vec<String>,
    },
}

impl Block {
    pub(crate) fn tokens(&self) -> u64 {
        let (pieces, name) = match self {
            Self::Text { pieces } => (pieces, 0),
            Self::Call { pieces, .. } => (pieces, 1),
        };
        name + u64::try_from(pieces.len()).unwrap_or(u64::MAX - 1)
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    Done,
    Length,
    Stop(String),
    Calls,
}

/// One complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) blocks: Vec<Block>,
    pub(crate) finish: Finish,
}

impl Output {
    pub(crate) fn tokens(&self) -> u64 {
        self.blocks.iter().map(Block::tokens).sum()
    }
}

/// The answer to a request; `choice` numbers the alternatives, `text` and `length` replace what would be said.
pub(crate) fn answer(ask: &Ask, choice: u64, text: Option<&str>, length: Option<usize>) -> Output {
    let mut dice = Dice::from_texts(&[&ask.model, &ask.last_user_text, &choice.to_string()]);
    let called = if text.is_none() { called_tools(ask) } else { Vec::new() };
    let (blocks, finish) = if called.is_empty() {
        let pieces = prose(ask, &mut dice, text, length);
        let (pieces, finish) = apply_stops(pieces, &ask.stops);
        (vec![Block::Text { pieces }], finish)
    } else {
        (
            called.into_iter().map(|tool| call(tool, &mut dice)).collect(),
            Finish::Calls,
        )
    };
    limit(Output { blocks, finish }, ask.max_tokens)
}

fn prose(ask: &Ask, dice: &mut Dice, text: Option<&str>, length: Option<usize>) -> Vec<String> {
    if let Some(text) = text {
        return split_words(text);
    }
    if let Some(count) = length {
        return write_pieces(dice, count);
    }
    match ask.last_user_text.split_once("repeat after me:") {
        Some((_, rest)) => split_words(rest.trim_start()),
        None => {
            let count = 24 + dice.below(40);
            write_pieces(dice, count)
        }
    }
}

fn called_tools(ask: &Ask) -> Vec<&Tool> {
    let first = || ask.tools.iter().take(1).collect();
    match &ask.tool_choice {
        ToolChoice::Never => Vec::new(),
        ToolChoice::Named(name) => ask.tools.iter().filter(|tool| tool.name == *name).collect(),
        ToolChoice::Must => first(),
        ToolChoice::Free if ask.after_tool_result => Vec::new(),
        ToolChoice::Free => {
            let text = ask.last_user_text.to_lowercase();
            if text.contains("call the tools") {
                ask.tools.iter().collect()
            } else if text.contains("call the tool") {
                first()
            } else {
                Vec::new()
            }
        }
    }
}

fn call(tool: &Tool, dice: &mut Dice) -> Block {
    let arguments = example(&tool.schema, dice, 0);
    let arguments = if arguments.is_object() { arguments } else { json!({}) };
    Block::Call {
        id: dice.id(24),
        name: tool.name.clone(),
        pieces: split_chars(&arguments.to_string(), 5),
    }
}

/// A value that fits a JSON Schema, as far as tools use it: type, enum, const, properties, items.
fn example(schema: &Value, dice: &mut Dice, depth: u8) -> Value {
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    if let Some(first) = schema
        .get("enum")
        .and_then(Value::as_array)
        .and_then(|values| values.first())
    {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => json!(format!("{} {}", dice.word(), dice.word())),
        Some("integer" | "number") => json!(dice.below(100)),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => match schema.get("items") {
            Some(items) if depth < 8 => json!([example(items, dice, depth + 1)]),
            _ => json!([]),
        },
        _ => {
            let properties = schema
                .get("properties")
                .and_then(Value::as_object)
                .filter(|_| depth < 8);
            let members = properties.into_iter().flatten();
            Value::Object(
                members
                    .map(|(name, of)| (name.clone(), example(of, dice, depth + 1)))
                    .collect::<Map<_, _>>(),
            )
        }
    }
}

/// Ends the text before the earliest stop sequence; the piece that it cuts keeps its beginning.
fn apply_stops(pieces: Vec<String>, stops: &[String]) -> (Vec<String>, Finish) {
    let text = pieces.concat();
    let found = stops
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop)))
        .min_by_key(|(at, _)| *at);
    let Some((mut room, stop)) = found else {
        return (pieces, Finish::Done);
    };
    let mut kept = Vec::new();
    for mut piece in pieces {
        if room == 0 {
            break;
        }
        piece.truncate(room);
        room -= piece.len();
        kept.push(piece);
    }
    (kept, Finish::Stop(stop.clone()))
}

/// Cuts the answer at the token limit.
fn limit(output: Output, max_tokens: Option<u64>) -> Output {
    let Some(mut room) = max_tokens.filter(|max| *max < output.tokens()) else {
        return output;
    };
    let mut blocks = Vec::new();
    for mut block in output.blocks {
        if room == 0 {
            break;
        }
        let before = room;
        room = room.saturating_sub(block.tokens());
        let room_here = usize::try_from(before).unwrap_or(usize::MAX);
        match &mut block {
            Block::Text { pieces } => pieces.truncate(room_here),
            Block::Call { pieces, .. } => pieces.truncate(room_here.saturating_sub(1)),
        }
        blocks.push(block);
    }
    Output {
        blocks,
        finish: Finish::Length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Ask {
        Ask {
            model: "m".into(),
            last_user_text: text.into(),
            ..Ask::default()
        }
    }

    fn text_of(output: &Output) -> String {
        match output.blocks.first() {
            Some(Block::Text { pieces }) => pieces.concat(),
            other => panic!("no text: {other:?}"),
        }
    }

    fn weather() -> Tool {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}}});
        Tool {
            name: "get_weather".into(),
            schema,
        }
    }

    #[test]
    fn answers_depend_on_the_request_and_nothing_else() {
        assert_eq!(answer(&ask("hi"), 0, None, None), answer(&ask("hi"), 0, None, None));
        assert_ne!(answer(&ask("hi"), 0, None, None), answer(&ask("ho"), 0, None, None));
        assert_ne!(answer(&ask("hi"), 0, None, None), answer(&ask("hi"), 1, None, None));
    }

    #[test]
    fn a_limit_is_kept_exactly_and_named_only_when_it_cuts() {
        let full = answer(&ask("hi"), 0, None, None);
        let cut = answer(
            &Ask {
                max_tokens: Some(5),
                ..ask("hi")
            },
            0,
            None,
            None,
        );
        assert_eq!((cut.tokens(), cut.finish), (5, Finish::Length));
        let exact = answer(
            &Ask {
                max_tokens: Some(full.tokens()),
                ..ask("hi")
            },
            0,
            None,
            None,
        );
        assert_eq!(exact, full);
    }

    #[test]
    fn text_is_repeated_and_stopped() {
        let said = answer(&ask("please repeat after me: one two three"), 0, None, None);
        assert_eq!((text_of(&said).as_str(), said.tokens()), ("one two three", 3));
        let stops = vec!["three".to_owned(), "wo".to_owned()];
        let stopped = answer(
            &Ask {
                stops,
                ..ask("repeat after me: one two three")
            },
            0,
            None,
            None,
        );
        assert_eq!((text_of(&stopped).as_str(), stopped.tokens()), ("one t", 2));
        assert_eq!(stopped.finish, Finish::Stop("wo".into()));
    }

    #[test]
    fn tools_are_called_when_asked_for_with_arguments_of_their_schema() {
        let with_tools = |text: &str| Ask {
            tools: vec![weather()],
            ..ask(text)
        };
        let output = answer(&with_tools("Call the tool please"), 0, None, None);
        let Some(Block::Call { name, pieces, .. }) = output.blocks.first() else {
            panic!("no call")
        };
        let arguments: Value = serde_json::from_str(&pieces.concat()).unwrap();
        assert_eq!(name, "get_weather");
        assert!(arguments["city"].is_string() && arguments["days"].is_u64());
        assert_eq!((&arguments["unit"], &output.finish), (&json!("C"), &Finish::Calls));

        assert_eq!(answer(&with_tools("hi"), 0, None, None).finish, Finish::Done);
        let forced = Ask {
            tool_choice: ToolChoice::Must,
            ..with_tools("hi")
        };
        assert_eq!(answer(&forced, 0, None, None).finish, Finish::Calls);
        let never = Ask {
            tool_choice: ToolChoice::Never,
            ..with_tools("call the tool")
        };
        assert_eq!(answer(&never, 0, None, None).finish, Finish::Done);
        let after = Ask {
            after_tool_result: true,
            ..with_tools("call the tool")
        };
        assert_eq!(answer(&after, 0, None, None).finish, Finish::Done);
    }

    #[test]
    fn a_limit_may_cut_arguments() {
        let cut = Ask {
            tools: vec![weather()],
            max_tokens: Some(3),
            ..ask("call the tool")
        };
        let output = answer(&cut, 0, None, None);
        assert_eq!((output.tokens(), &output.finish), (3, &Finish::Length));
    }
}
