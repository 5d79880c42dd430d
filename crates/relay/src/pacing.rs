//! PURE: when the progress of a streamed answer is noted: when its output has begun, then each second or every 256
//! tokens, and only when there is something new to note.

use std::time::{Duration, Instant};

/// From the first output to the first note. Short answers end sooner, and so cost nothing more.
const FIRST_AFTER: Duration = Duration::from_millis(50);
/// The longest time between new output and its note.
const EVERY: Duration = Duration::from_secs(1);
/// Metered output tokens from one note to the next. What is on its way and not metered yet comes on top: 256 together.
const EVERY_TOKENS: u64 = 192;
/// Bytes of events after which the output is metered: at most a few dozen tokens as most providers pack them.
const METERED_BYTES: usize = 4 * 1024;
/// How long the first note waits for the prompt to be counted before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// The pace of one answer.
#[derive(Debug, Default)]
pub struct Pacing {
    /// When the next note is due; `None` while there is nothing new.
    due: Option<Instant>,
    /// The last note: when, and how many tokens it counted.
    last: Option<(Instant, u64)>,
}

impl Pacing {
    /// New output has arrived.
    pub fn output_arrived(&mut self, now: Instant) {
        let due = || match self.last {
            None => now + FIRST_AFTER,
            Some((at, _)) => (at + EVERY).max(now),
        };
        self.due = Some(self.due.unwrap_or_else(due));
    }

    /// What has arrived changes what is owed: it is noted as soon as may be.
    pub const fn must_note_now(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// When to wake up for a note, if nothing else happens before.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time to meter the output, after so many bytes of events since the last time.
    pub fn must_meter(&self, now: Instant, unmetered_bytes: usize) -> bool {
        self.is_due(now) || (self.last.is_some() && unmetered_bytes >= METERED_BYTES)
    }

    /// Whether output that was metered is to be noted.
    pub fn must_note(&self, now: Instant, metered_tokens: u64) -> bool {
        let noted = self.last.map_or(0, |(_, tokens)| tokens);
        self.is_due(now) || metered_tokens.saturating_sub(noted) >= EVERY_TOKENS
    }

    /// It was noted.
    pub const fn noted(&mut self, now: Instant, metered_tokens: u64) {
        self.due = None;
        self.last = Some((now, metered_tokens));
    }

    /// It could not be noted yet.
    pub fn try_again(&mut self, now: Instant) {
        self.due = Some(now + RETRY_AFTER);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_note_comes_soon_and_the_next_after_a_second() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        assert!(!pacing.must_meter(start, usize::MAX), "nothing has come out");
        pacing.output_arrived(start);
        pacing.output_arrived(start + 40 * MS);
        assert_eq!(pacing.due(), Some(start + FIRST_AFTER), "it does not move");
        let first = start + FIRST_AFTER;
        assert!(pacing.must_meter(first, 0) && pacing.must_note(first, 1));
        pacing.noted(first, 1);
        assert_eq!(pacing.due(), None, "nothing new, nothing to wake up for");
        pacing.output_arrived(first + 300 * MS);
        assert_eq!(pacing.due(), Some(first + EVERY));
        assert!(!pacing.must_note(first + 999 * MS, 100));
        assert!(pacing.must_note(first + EVERY, 2));
    }

    #[test]
    fn output_after_a_silence_is_noted_at_once() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        pacing.noted(start, 5);
        let late = start + 10 * EVERY;
        pacing.output_arrived(late);
        assert!(pacing.must_meter(late, 1) && pacing.must_note(late, 6));
    }

    #[test]
    fn a_fast_answer_is_noted_by_its_tokens() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        pacing.noted(start, 100);
        pacing.output_arrived(start + MS);
        assert!(!pacing.must_meter(start + MS, METERED_BYTES - 1));
        assert!(pacing.must_meter(start + MS, METERED_BYTES));
        assert!(!pacing.must_note(start + MS, 100 + EVERY_TOKENS - 1));
        assert!(pacing.must_note(start + MS, 100 + EVERY_TOKENS));
    }

    #[test]
    fn a_prompt_that_is_being_counted_is_asked_for_again() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        pacing.output_arrived(start);
        pacing.try_again(start + FIRST_AFTER);
        assert_eq!(pacing.due(), Some(start + FIRST_AFTER + RETRY_AFTER));
    }
}
