//! How much output a stream has brought so far: what a customer is charged for when its node dies before the end.
//!
//! It must not be above what the provider counts, and that count is not known before the end. Two things are: the tokens
//! of the text by our own tokenizer, and the number of events, of which each brings at least one token.

use crate::{observed::OutputText, tokens::RunningCount};

/// Providers' tokenizers make at least so much of what ours makes of the same text (see `tokens`).
const SPARSEST: (u64, u64) = (3, 4);
/// As in the estimate of a whole answer (`estimate`), for text that was too long to keep.
const BYTES_PER_TOKEN: u64 = crate::estimate::BYTES_PER_TOKEN;

/// Counts output while it grows.
#[derive(Debug, Default)]
pub(crate) struct OutputMeter {
    text: RunningCount,
    events: u64,
}

impl OutputMeter {
    /// Notes an event that brought output.
    pub(crate) const fn note_event(&mut self) {
        self.events = self.events.saturating_add(1);
    }

    /// Output tokens so far: never above the estimate of the same output, and never less than before.
    ///
    /// A provider that sends token by token is taken at its word. One that sends several at a time is taken to count
    /// as sparsely as any does, and never for more than our own tokenizer says.
    pub(crate) fn read(&mut self, output: &OutputText) -> u64 {
        let ours = self
            .text
            .read(&output.text)
            .saturating_add(output.beyond_bytes / BYTES_PER_TOKEN);
        let (part, whole) = SPARSEST;
        ours.min(self.events.max(ours.saturating_mul(part) / whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> u64 {
        let mut meter = OutputMeter::default();
        let mut output = OutputText::default();
        let mut last = 0;
        for piece in pieces {
            output.push(piece);
            meter.note_event();
            let now = meter.read(&output);
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        last
    }

    #[test]
    fn token_by_token_the_provider_is_taken_at_its_word() {
        // two tokens of ours in one of theirs
        let naive = [" naïve"; 20];
        assert_eq!(crate::tokens::count_tokens(&naive.concat()), 40);
        assert_eq!(read(&naive), 38 * 3 / 4, "one a third sparser than ours is not known");
        let mixed: Vec<&str> = [" the", " naïve", " relay", " counts"].repeat(10);
        assert_eq!(crate::tokens::count_tokens(&mixed.concat()), 50);
        assert_eq!(read(&mixed), 40);
    }

    #[test]
    fn pieces_smaller_than_a_token_do_not_count_as_tokens() {
        let text = "The relay carries every answer from the provider to its reader";
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(read(&letters), 10, "the last word may still change");
    }

    #[test]
    fn several_tokens_at_a_time_are_counted_as_sparsely_as_anybody_does() {
        let sentence = "The relay carries every answer from the provider to its reader. ";
        let whole = crate::tokens::count_tokens(&sentence.repeat(50));
        let metered = read(&[sentence; 50]);
        assert!(
            (whole * 3 / 4 - 2..=whole * 3 / 4).contains(&metered),
            "{metered} of {whole}"
        );
    }

    #[test]
    fn text_beyond_what_is_kept_counts_by_its_bytes() {
        let output = OutputText {
            text: String::new(),
            beyond_bytes: 3_000,
        };
        let mut meter = OutputMeter::default();
        assert_eq!(meter.read(&output), 750);
    }
}
