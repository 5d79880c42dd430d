//! What was seen of an answer while it passed through: enough to charge it, to judge it and to explain it.

use crate::usage::{NormalisedUsage, UsageError};

/// The most that an answer can have used, from what its request was admitted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageLimits {
    /// Input tokens of all classes.
    pub input_tokens: u64,
    /// Output tokens of all classes and all choices.
    pub output_tokens: u64,
}

impl UsageLimits {
    /// Believes every report: for recordings whose request is not known.
    pub const NONE: Self = Self {
        input_tokens: u64::MAX,
        output_tokens: u64::MAX,
    };

    /// Whether a report is within twice the limits: what is beyond is a mistake or a lie, not a miscount.
    pub fn allow(&self, report: &NormalisedUsage) -> bool {
        report.usage.total_input_tokens() <= self.input_tokens.saturating_mul(2)
            && report.usage.total_output_tokens() <= self.output_tokens.saturating_mul(2)
    }
}

/// Output text kept for the tokenizer at most; what is beyond is counted by bytes.
pub const MAX_KEPT_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// The longest name of a model that is kept, in bytes; no real one comes near.
const LONGEST_MODEL_NAME: usize = 256;
/// How many different names of one answer are kept.
const MOST_MODEL_NAMES: usize = 8;

/// What the provider reported about usage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UsageReport {
    /// Nothing.
    #[default]
    Missing,
    /// The input side only: a stream that ended before its output was counted.
    InputOnly(NormalisedUsage),
    /// A report of the whole.
    Reported(NormalisedUsage),
    /// A report that cannot be believed.
    Unusable(UsageError),
}

/// An error that arrived in place of an answer, or in the midst of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamError {
    /// The provider's code, or its type where it has no code.
    pub code: Option<String>,
    /// The provider's words. They may name its account: not for customers.
    pub message: Option<String>,
}

/// The visible output, bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputText {
    /// Text, reasoning and tool arguments, one after the other.
    pub text: String,
    /// Bytes of output beyond what is kept.
    pub beyond_bytes: u64,
}

impl OutputText {
    /// Adds output, keeping no more than `MAX_KEPT_TEXT_BYTES`.
    pub fn push(&mut self, part: &str) {
        if self.text.len().saturating_add(part.len()) <= MAX_KEPT_TEXT_BYTES {
            self.text.push_str(part);
        } else {
            self.beyond_bytes = self
                .beyond_bytes
                .saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        }
    }

    /// All bytes of output.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.text.len())
            .unwrap_or(u64::MAX)
            .saturating_add(self.beyond_bytes)
    }
}

/// What was seen of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// What the provider reported about usage.
    pub usage: UsageReport,
    /// The model that the provider says it ran.
    pub served_model: Option<String>,
    /// Other names that it gave later in the same answer, each once. When there are too many, the last is the newest.
    pub other_models: Vec<String>,
    /// More names than are kept.
    pub(crate) too_many_models: bool,
    /// The service tier that the provider says it applied (Anthropic: `fast` where the usage names that speed).
    pub service_tier: Option<String>,
    /// Every choice has said why it ended.
    pub finish_seen: bool,
    /// The format's own end mark was seen: `[DONE]`, `message_stop`; for a body, that it was read whole.
    pub done_seen: bool,
    /// Output began: text, reasoning or a tool call.
    pub output_began: bool,
    /// The provider's own moderation ended the answer, or one of its choices.
    pub filtered: bool,
    /// An error inside the answer.
    pub error: Option<UpstreamError>,
    /// The output, as far as an estimate needs it: filled only where the usage report is not whole.
    pub output: OutputText,
}

impl Observed {
    /// Notes the model that the provider says it runs. It may say so again and again, and change its mind.
    pub(crate) fn note_model(&mut self, name: &str) {
        let name = &name[..name.floor_char_boundary(LONGEST_MODEL_NAME)];
        if name.is_empty() || self.reported_models().any(|known| known == name) {
            return;
        }
        if self.served_model.is_none() {
            self.served_model = Some(name.to_owned());
            return;
        }
        if self.other_models.len() == MOST_MODEL_NAMES {
            self.other_models.pop();
            self.too_many_models = true;
        }
        self.other_models.push(name.to_owned());
    }

    /// How many different names the provider gave; beyond what is kept it no longer counts up.
    pub fn models_named(&self) -> usize {
        self.reported_models().count() + usize::from(self.too_many_models)
    }

    /// It gave more names than are kept, so that not all of them can be judged.
    pub const fn names_too_many_models(&self) -> bool {
        self.too_many_models
    }

    /// Every model that the provider named, in order.
    pub fn reported_models(&self) -> impl Iterator<Item = &str> {
        self.served_model.iter().chain(&self.other_models).map(String::as_str)
    }

    /// Gives up a report that is beyond the limits, so that the caller estimates. It is done before the output text is
    /// dropped, because an estimate needs that text.
    pub(crate) fn doubt(&mut self, limits: &UsageLimits) {
        if let UsageReport::Reported(report) | UsageReport::InputOnly(report) = &self.usage
            && !limits.allow(report)
        {
            self.usage = UsageReport::Unusable(UsageError::Absurd { field: "total" });
        }
    }

    /// Whether the answer ended as the format wants it to, and without an error.
    pub const fn ended_normally(&self) -> bool {
        self.error.is_none() && (self.done_seen || self.finish_seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_counts_once_and_too_many_are_seen_for_good() {
        let mut observed = Observed::default();
        let long = "x".repeat(2 * LONGEST_MODEL_NAME);
        for name in ["", "first", "first", &long, &long] {
            observed.note_model(name);
        }
        assert_eq!(observed.models_named(), 2);
        for place in 0..MOST_MODEL_NAMES - 1 {
            observed.note_model(&place.to_string());
        }
        assert_eq!(observed.models_named(), 1 + MOST_MODEL_NAMES);
        assert!(!observed.names_too_many_models());
        for name in ["one more", "first", "the newest"] {
            observed.note_model(name);
            assert!(observed.names_too_many_models());
            assert_eq!(observed.models_named(), 2 + MOST_MODEL_NAMES);
        }
        assert_eq!(observed.reported_models().last(), Some("the newest"));
    }
}
