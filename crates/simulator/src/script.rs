//! What a test or a demo may tell the simulator to do, as JSON over the control API or as these types in process.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to do with the requests that match. Of several rules the first that matches and is not used up decides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests; an empty match is every request.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// How often the rule applies; without it, until the reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What is answered.
    #[serde(default)]
    pub answer: Answer,
    /// What goes wrong on the way.
    #[serde(default)]
    pub faults: Faults,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The request's `model`, exactly.
    pub model: Option<String>,
    /// The credential that was presented, exactly.
    pub credential: Option<String>,
    /// The request's path, such as `/v1/messages`.
    pub path: Option<String>,
    /// Whether a stream was asked for.
    pub stream: Option<bool>,
    /// A text that the body contains.
    pub body_contains: Option<String>,
}

/// The answer, before any fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// What the simulated model says.
    Generate(Generate),
    /// These bytes: an error, or a recorded answer.
    Fixed(Fixed),
}

impl Default for Answer {
    fn default() -> Self {
        Self::Generate(Generate::default())
    }
}

/// Changes to the generated answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// Says this instead.
    pub text: Option<String>,
    /// Says as many tokens (the request's own limit still cuts).
    pub tokens: Option<usize>,
    /// Waits so long before each token.
    pub token_delay_ms: Option<u64>,
    /// Reports this model instead of the one asked for.
    pub served_model: Option<String>,
    /// What is reported as usage.
    pub usage: UsageReport,
    /// Ignores the request's token limit, as a broken provider would.
    pub ignore_limit: bool,
}

/// What the answer says about usage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageReport {
    /// What was counted.
    #[default]
    True,
    /// Nothing at all.
    Missing,
    /// This JSON instead. Anthropic streams: in the last event; the first keeps the true input.
    Override(Value),
}

/// An answer given by its bytes. One of `body_text`, `body_base64` and `body_json` is its body; none is an empty body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixed {
    /// The HTTP status.
    pub status: u16,
    /// The headers; without a content type it is JSON.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body_text: Option<String>,
    /// The body as bytes in base64.
    pub body_base64: Option<String>,
    /// The body as JSON.
    pub body_json: Option<Value>,
    /// Into which chunks the body is cut.
    pub chunks: Chunking,
    /// The wait before each chunk.
    pub delay_ms: u64,
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            body_text: None,
            body_base64: None,
            body_json: None,
            chunks: Chunking::Whole,
            delay_ms: 0,
        }
    }
}

impl Fixed {
    /// The bytes of the body, or what is wrong with how they are given.
    pub(crate) fn body(&self) -> Result<Bytes, String> {
        match (&self.body_text, &self.body_base64, &self.body_json) {
            (None, None, None) => Ok(Bytes::new()),
            (Some(text), None, None) => Ok(Bytes::from(text.clone())),
            (None, Some(encoded), None) => BASE64
                .decode(encoded)
                .map(Bytes::from)
                .map_err(|error| format!("body_base64 is not base64: {error}")),
            (None, None, Some(json)) => Ok(Bytes::from(json.to_string())),
            _ => Err("give one of body_text, body_base64 and body_json".into()),
        }
    }
}

/// Where a body is cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chunking {
    /// One chunk.
    #[default]
    Whole,
    /// One chunk per line, line end included.
    Lines,
    /// Chunks of so many bytes.
    Bytes(usize),
    /// Chunks of these sizes, then the rest.
    Sizes(Vec<usize>),
    /// A cut inside every character of more than one byte (and nowhere else).
    SplitUtf8,
}

/// What goes wrong on the way. Events are counted from the first one that is sent; an answer that is no stream is one event.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Never answers.
    pub hang_before_head: bool,
    /// Answers when the gate of this name is released.
    pub hold_before_head: Option<String>,
    /// Goes on after so many events when a gate is released.
    pub hold_after_events: Option<Hold>,
    /// Falls silent after so many events.
    pub hang_after_events: Option<usize>,
    /// Breaks the connection.
    pub cut: Option<Cut>,
    /// Sends slowly, in small slices.
    pub drip: Option<Drip>,
    /// Sends an error event after so many events, then ends.
    pub error_event: Option<ErrorEvent>,
}

/// A wait in the middle of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// The gate to wait for.
    pub gate: String,
    /// After how many events.
    pub events: usize,
}

/// Where and how the connection breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Cut {
    /// After how much.
    pub after: CutPoint,
    /// How.
    #[serde(default)]
    pub how: CutKind,
}

/// How much is sent before the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutPoint {
    /// Not even the head.
    BeforeHead,
    /// So many events.
    Events(usize),
    /// So many bytes of the body.
    Bytes(usize),
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutKind {
    /// The TCP connection ends in order, the HTTP message does not.
    #[default]
    Fin,
    /// The TCP connection is reset.
    Rst,
}

/// Slices and their pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    /// The size of a slice.
    pub bytes: usize,
    /// The wait before each.
    pub every_ms: u64,
}

/// An error that comes after the head said 200.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorEvent {
    /// After how many events.
    pub after_events: usize,
    /// The event's data; without it, the dialect's own overload error.
    #[serde(default)]
    pub data: Option<Value>,
}

/// What a rule is compared with.
pub(crate) struct Facts<'r> {
    pub(crate) model: &'r str,
    pub(crate) credential: &'r str,
    pub(crate) path: &'r str,
    pub(crate) stream: bool,
    pub(crate) body: &'r [u8],
}

impl Match {
    pub(crate) fn holds(&self, facts: &Facts<'_>) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.model, facts.model)
            && same(&self.credential, facts.credential)
            && same(&self.path, facts.path)
            && self.stream.is_none_or(|wanted| wanted == facts.stream)
            && self.body_contains.as_deref().is_none_or(|text| {
                text.is_empty() || facts.body.windows(text.len()).any(|window| window == text.as_bytes())
            })
    }
}

/// Takes the rule for a request out of the list, counting its use.
pub(crate) fn choose(rules: &mut Vec<Rule>, facts: &Facts<'_>) -> Option<Rule> {
    let at = rules
        .iter()
        .position(|rule| rule.times != Some(0) && rule.matching.holds(facts))?;
    let rule = rules.get_mut(at)?;
    let chosen = rule.clone();
    rule.times = rule.times.map(|times| times.saturating_sub(1));
    rules.retain(|rule| rule.times != Some(0));
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(model: &'static str) -> Facts<'static> {
        Facts {
            model,
            credential: "key-a",
            path: "/v1/messages",
            stream: true,
            body: b"{\"x\":\"needle\"}",
        }
    }

    #[test]
    fn rules_apply_in_order_and_as_often_as_they_say() {
        let rule = |json: Value| serde_json::from_value::<Rule>(json).unwrap();
        let mut rules = vec![
            rule(serde_json::json!({"match": {"model": "m"}, "times": 2, "answer": {"kind": "fixed", "status": 429}})),
            rule(serde_json::json!({"match": {"body_contains": "needle", "credential": "key-a", "stream": true}})),
        ];
        let status = |rule: Option<Rule>| match rule.unwrap().answer {
            Answer::Fixed(fixed) => fixed.status,
            Answer::Generate(_) => 0,
        };
        assert_eq!(status(choose(&mut rules, &facts("other"))), 0);
        assert_eq!(status(choose(&mut rules, &facts("m"))), 429);
        assert_eq!(status(choose(&mut rules, &facts("m"))), 429);
        assert_eq!(status(choose(&mut rules, &facts("m"))), 0);
        assert_eq!(
            choose(
                &mut rules,
                &Facts {
                    stream: false,
                    ..facts("m")
                }
            ),
            None
        );
    }

    #[test]
    fn a_misspelt_rule_is_refused() {
        for text in [
            r#"{"anwser": {}}"#,
            r#"{"faults": {"hangs": true}}"#,
            r#"{"answer": {"kind": "fixed", "code": 1}}"#,
        ] {
            assert!(serde_json::from_str::<Rule>(text).is_err(), "{text}");
        }
    }
}
