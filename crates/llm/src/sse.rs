//! Server-sent events (WHATWG): where one event ends, and what its fields are. Knows no format of what they carry.
//!
//! Lines end in LF, CRLF or CR; a blank line ends an event. The bytes of an event are kept as they came, so that it can
//! be forwarded exactly.

use std::borrow::Cow;

/// Finds the ends of events in bytes that arrive in any pieces.
#[derive(Debug, Clone, Default)]
pub struct EventScanner {
    /// The current line has bytes already.
    line_has_bytes: bool,
    /// The last byte was a CR: an LF that follows belongs to the same line end.
    after_cr: bool,
}

impl EventScanner {
    /// Whether an LF at the very start of the next piece still belongs to what has been reported as ended.
    pub const fn may_owe_line_feed(&self) -> bool {
        self.after_cr && !self.line_has_bytes
    }

    /// Scans on from `from`; answers the index behind the blank line that ends the event, or `None` when the piece ends
    /// first. Call it again from that index for the next event.
    pub fn next_end(&mut self, piece: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            if self.after_cr && at < piece.len() {
                self.after_cr = false;
                if piece[at] == b'\n' {
                    at += 1;
                }
            }
            let rest = piece.get(at..)?;
            let Some(found) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.line_has_bytes |= !rest.is_empty();
                return None;
            };
            let blank = found == 0 && !self.line_has_bytes;
            self.line_has_bytes = false;
            self.after_cr = rest[found] == b'\r';
            at += found + 1;
            if blank {
                if self.after_cr && piece.get(at) == Some(&b'\n') {
                    self.after_cr = false;
                    at += 1;
                }
                return Some(at);
            }
        }
    }
}

/// The fields of one event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event<'a> {
    /// The `event` field, empty when there is none.
    pub name: &'a [u8],
    /// The `data` lines joined by LF; `None` when there is none.
    pub data: Option<Cow<'a, [u8]>>,
}

impl<'a> Event<'a> {
    /// Reads the fields of one event's bytes. Comments and unknown fields are passed over.
    pub fn parse(bytes: &'a [u8]) -> Self {
        let mut event = Self::default();
        let mut rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        while !rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            let (field, value) = match memchr::memchr(b':', line) {
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &[][..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => {
                    event.data = Some(match event.data.take() {
                        None => Cow::Borrowed(value),
                        Some(earlier) => {
                            let mut joined = earlier.into_owned();
                            joined.push(b'\n');
                            joined.extend_from_slice(value);
                            Cow::Owned(joined)
                        }
                    });
                }
                b"event" => event.name = value,
                _ => {}
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(pieces: &[&[u8]]) -> Vec<usize> {
        let mut scanner = EventScanner::default();
        let mut found = Vec::new();
        let mut before = 0;
        for piece in pieces {
            let mut at = 0;
            while let Some(end) = scanner.next_end(piece, at) {
                found.push(before + end);
                at = end;
            }
            before += piece.len();
        }
        found
    }

    #[test]
    fn every_line_end_ends_an_event() {
        assert_eq!(ends(&[b"a\n\nb\n\n"]), [3, 6]);
        assert_eq!(ends(&[b"a\r\n\r\nb\r\n\r\n"]), [5, 10]);
        assert_eq!(ends(&[b"a\r\rb\r\r"]), [3, 6]);
        assert_eq!(ends(&[b"a\r\n\nb\n\r\n"]), [4, 8]);
        // split between the CR and the LF of the blank line: the event has ended, the LF is owed
        assert_eq!(ends(&[b"a\r\n\r", b"\nb\n\n"]), [4, 8]);
        assert_eq!(ends(&[b"a\r", b"\n\r\n"]), [5]);
    }

    #[test]
    fn data_lines_are_joined_and_comments_passed_over() {
        let event = Event::parse(b": hello\r\nevent: error\r\ndata: {\r\ndata:}\r\nid: 7\r\n\r\n");
        assert_eq!(event.name, b"error");
        assert_eq!(event.data.as_deref(), Some(&b"{\n}"[..]));
        assert_eq!(Event::parse(b": ping\n\n").data, None);
        assert_eq!(
            Event::parse(b"\xEF\xBB\xBFdata: x\n\n").data.as_deref(),
            Some(&b"x"[..])
        );
        assert_eq!(Event::parse(b"data\n\n").data.as_deref(), Some(&b""[..]));
    }
}
