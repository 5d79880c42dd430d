//! PURE: counts the bytes and events that have passed, and says how many more may.

use crate::faults::CutPoint;

/// The longest text that is found wherever it was cut up.
const LONGEST_TEXT: usize = 256;

/// What has passed in one direction since the faults were set.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: u64,
    events: u64,
    after_line_feed: bool,
    /// The last bytes: a text may have begun among them.
    last: Vec<u8>,
}

impl Meter {
    /// How many of the bytes may pass before the cut point; `None` when it is not among them.
    pub(crate) fn room(&self, cut: &CutPoint, bytes: &[u8]) -> Option<usize> {
        match *cut {
            CutPoint::Text(ref text) => self.room_before_end_of(text.as_bytes(), bytes),
            CutPoint::Bytes(limit) => {
                let left = limit.saturating_sub(self.bytes);
                usize::try_from(left).ok().filter(|left| *left <= bytes.len())
            }
            CutPoint::Events(limit) => {
                let mut left = limit.saturating_sub(self.events);
                if left == 0 {
                    return Some(0);
                }
                let mut after_line_feed = self.after_line_feed;
                for (at, byte) in bytes.iter().enumerate() {
                    if ends_event(&mut after_line_feed, *byte) {
                        left -= 1;
                        if left == 0 {
                            return Some(at + 1);
                        }
                    }
                }
                None
            }
        }
    }

    fn room_before_end_of(&self, text: &[u8], bytes: &[u8]) -> Option<usize> {
        let last_byte = text.len().checked_sub(1)?;
        let earlier = self.last.len().min(last_byte);
        let begun = self.last.get(self.last.len() - earlier..).unwrap_or_default();
        let all = [begun, bytes].concat();
        let found = all.windows(text.len()).position(|window| window == text)?;
        Some(found + last_byte - earlier)
    }

    /// The place of the byte at this offset among the bytes that come next, if it is there.
    pub(crate) fn place_of(&self, offset: u64, bytes: &[u8]) -> Option<usize> {
        let place = usize::try_from(offset.checked_sub(self.bytes)?).ok()?;
        (place < bytes.len()).then_some(place)
    }

    /// Counts what has passed.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        for byte in bytes {
            self.events += u64::from(ends_event(&mut self.after_line_feed, *byte));
        }
        let newest = bytes.get(bytes.len().saturating_sub(LONGEST_TEXT)..);
        self.last.extend_from_slice(newest.unwrap_or_default());
        self.last.drain(..self.last.len().saturating_sub(LONGEST_TEXT));
    }
}

/// Whether this byte is the second of two line feeds. A third begins a new pair.
fn ends_event(after_line_feed: &mut bool, byte: u8) -> bool {
    let ends = *after_line_feed && byte == b'\n';
    *after_line_feed = byte == b'\n' && !ends;
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\na: b\r\n\r\n9\r\ndata: a\n\n\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n";

    #[test]
    fn heads_and_chunk_framing_are_no_events() {
        let meter = Meter::default();
        let end = |text: &str| {
            let at = ANSWER.windows(text.len()).position(|window| window == text.as_bytes());
            at.map(|at| at + text.len())
        };
        assert_eq!(meter.room(&CutPoint::Events(1), ANSWER), end("data: a\n\n"));
        assert_eq!(meter.room(&CutPoint::Events(2), ANSWER), end("data: b\n\n"));
        assert_eq!(meter.room(&CutPoint::Events(3), ANSWER), None);
        assert_eq!(meter.room(&CutPoint::Events(0), ANSWER), Some(0));
    }

    #[test]
    fn a_third_line_feed_ends_nothing() {
        assert_eq!(Meter::default().room(&CutPoint::Events(2), b"a\n\n\n"), None);
        assert_eq!(Meter::default().room(&CutPoint::Events(2), b"a\n\n\n\n"), Some(5));
    }

    #[test]
    fn all_but_the_last_byte_of_a_text_passes() {
        let text = |text: &str| CutPoint::Text(text.to_owned());
        assert_eq!(Meter::default().room(&text("C\0\u{b}"), b"aC\0C\0\x0bC\0\x0b"), Some(5));
        assert_eq!(Meter::default().room(&text("CC"), b"aCb"), None);
        let mut meter = Meter::default();
        meter.pass(b"aCO");
        assert_eq!(meter.room(&text("COM"), b"MIT"), Some(0), "it ends here");
        meter.pass(b"MIT");
        assert_eq!(meter.room(&text("COM"), b"COM"), Some(2), "the next one");
        assert_eq!(meter.room(&text(""), b"a"), None, "no text is nowhere");
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut_up() {
        for size in 1..ANSWER.len() {
            let text = CutPoint::Text("\r\n9\r\ndata: b".to_owned());
            for cut in [CutPoint::Events(2), CutPoint::Bytes(37), text] {
                let whole = Meter::default().room(&cut, ANSWER).unwrap();
                let (mut meter, mut passed) = (Meter::default(), 0);
                for piece in ANSWER.chunks(size) {
                    if let Some(room) = meter.room(&cut, piece) {
                        passed += room;
                        break;
                    }
                    meter.pass(piece);
                    passed += piece.len();
                }
                assert_eq!(passed, whole, "{cut:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn the_corrupt_byte_is_found_in_the_piece_that_has_it() {
        let mut meter = Meter::default();
        assert_eq!(meter.place_of(5, b"abc"), None);
        meter.pass(b"abc");
        assert_eq!(meter.place_of(5, b"def"), Some(2));
        meter.pass(b"def");
        assert_eq!(meter.place_of(5, b"ghi"), None, "it has passed");
    }
}
