//! Counting the tokens of text, by OpenAI's `o200k_base`. Other vendors' tokenizers differ by up to about a third.
//!
//! Text is counted in segments, because the tokenizer's regular expression backtracks without bound, and gives up by
//! panicking, on long runs of blanks. Where a segment ends depends on nothing that comes after it: text that is counted
//! while it grows comes to what the whole would.

/// A segment ends before the first blank behind so many bytes.
const SEGMENT_BYTES: usize = 512;
/// A segment without a blank ends here. Such a cut costs at most a token or two.
const MAX_SEGMENT_BYTES: usize = 1_024;
/// Segments counted in one call at most: less than a millisecond's work, whatever a provider sends at once.
const SEGMENTS_PER_CALL: usize = 16;

/// Tokens of a text.
pub fn count_tokens(text: &str) -> u64 {
    let mut rest = text;
    let mut tokens = 0_u64;
    while let Some(end) = segment_end(rest) {
        let (segment, later) = rest.split_at(end);
        tokens = tokens.saturating_add(count_segment(segment));
        rest = later;
    }
    tokens.saturating_add(count_segment(rest))
}

/// A count of text that grows at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RunningCount {
    /// Where the segments end that were counted.
    bytes: usize,
    tokens: u64,
}

impl RunningCount {
    /// Tokens of the text so far, the last word left out, which may still change. Never above `count_tokens` of this
    /// text or of any text that begins with it, and never below an earlier answer. Each call does a bounded piece of
    /// work, so an answer may also lag behind a text that grows by many kilobytes between two calls.
    pub(crate) fn read(&mut self, text: &str) -> u64 {
        let mut rest = text.get(self.bytes..).unwrap_or_default();
        for _ in 0..SEGMENTS_PER_CALL {
            let Some(end) = segment_end(rest) else {
                let words = last_word(rest).map_or("", |at| &rest[..at]);
                return self.tokens.saturating_add(count_segment(words));
            };
            let (segment, later) = rest.split_at(end);
            self.tokens = self.tokens.saturating_add(count_segment(segment));
            self.bytes += end;
            rest = later;
        }
        self.tokens
    }
}

fn count_segment(segment: &str) -> u64 {
    if segment.is_empty() {
        return 0;
    }
    let tokens = tiktoken_rs::o200k_base_singleton().encode_ordinary(segment).len();
    u64::try_from(tokens).unwrap_or(u64::MAX)
}

/// Where the first segment ends; `None` when more text could move its end.
fn segment_end(text: &str) -> Option<usize> {
    let within = text.as_bytes().get(SEGMENT_BYTES..text.len().min(MAX_SEGMENT_BYTES))?;
    memchr::memchr_iter(b' ', within)
        .map(|at| SEGMENT_BYTES + at)
        .find(|at| begins_word(text, *at))
        .or_else(|| (text.len() > MAX_SEGMENT_BYTES).then(|| text.floor_char_boundary(MAX_SEGMENT_BYTES)))
}

/// Where the blank before the last word is.
fn last_word(text: &str) -> Option<usize> {
    memchr::memrchr_iter(b' ', text.as_bytes()).find(|at| begins_word(text, *at))
}

/// Whether the blank at `at` follows something that is none. The tokenizer never makes one token of what is on both
/// sides of such a place: no alternative of its regular expression goes on from anything else to a blank.
fn begins_word(text: &str, at: usize) -> bool {
    text.get(..at)
        .and_then(|before| before.chars().next_back())
        .is_some_and(|before| !before.is_whitespace())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        let words = [
            "the",
            "naïve",
            "relay's",
            "東京の天気",
            "\u{3000}",
            "...",
            "\n\n",
            "  ",
            " ",
            "{\"a\":",
            "0123456789",
            "🙂",
            "a",
        ];
        prop_oneof![
            prop::collection::vec(prop::sample::select(words.to_vec()), 0..900).prop_map(|words| words.concat()),
            prop::collection::vec(prop::sample::select(words.to_vec()), 0..500).prop_map(|words| words.join(" ")),
            "\\PC{0,1500}",
            "[ \t\r\n]{0,3000}",
            "[a-f]{0,3000}",
        ]
    }

    proptest! {
        #[test]
        fn text_that_grows_is_never_counted_above_the_whole_nor_downward(text in text(), steps in prop::collection::vec(1_usize..400, 1..20)) {
            let whole = count_tokens(&text);
            let mut running = RunningCount::default();
            let mut last = 0;
            let mut at = 0;
            for step in steps.into_iter().cycle() {
                at = text.floor_char_boundary(at + step.max(4));
                let now = running.read(&text[..at]);
                prop_assert!(now >= last, "{now} after {last}");
                prop_assert!(now <= count_tokens(&text[..at]) && now <= whole);
                last = now;
                if at == text.len() {
                    break;
                }
            }
            let mut at_once = RunningCount::default();
            let mut caught_up = at_once.read(&text);
            while at_once.bytes + MAX_SEGMENT_BYTES < text.len() {
                caught_up = at_once.read(&text);
            }
            prop_assert_eq!(at_once.read(&text).max(caught_up), last, "however it came");
            let left = u64::try_from(text.len() - at_once.bytes).unwrap();
            prop_assert!(whole - last <= left, "at most the last segment is left out");
        }
    }

    #[test]
    fn only_the_last_word_of_prose_is_left_out() {
        let prose = "The relay carries every answer from the provider to its reader. ".repeat(200);
        let mut running = RunningCount::default();
        let mut caught_up = 0;
        for _ in 0..4 {
            caught_up = running.read(&prose);
        }
        let whole = count_tokens(&prose);
        assert!((whole - 3..whole).contains(&caught_up), "{caught_up} of {whole}");
    }

    #[test]
    fn one_call_does_a_bounded_piece_of_work() {
        let mut running = RunningCount::default();
        running.read(&"word ".repeat(1_000_000));
        assert!(running.bytes <= SEGMENTS_PER_CALL * MAX_SEGMENT_BYTES);
    }
}
