//! Texts that must be found nowhere after a test.

/// In every prompt.
pub const PROMPT_CANARY: &str = "canary-prompt-5d1f0c";
/// In every completion that a test scripts with text of its own.
pub const COMPLETION_CANARY: &str = "canary-completion-91be7a";

/// Asserts that none of the needles is in the text.
pub fn assert_absent(place: &str, text: &str, needles: &[String]) {
    for needle in needles {
        if let Some(at) = text.find(needle.as_str()) {
            let from = text[..at].char_indices().rev().nth(200).map_or(0, |(index, _)| index);
            panic!("a secret or a canary is in {place}: ...{}", &text[from..at]);
        }
    }
}
