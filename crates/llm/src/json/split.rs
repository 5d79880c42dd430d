//! Splitting text that is known to be valid JSON: where members and elements stand, without reading any value.
//!
//! Each value is stepped over in one pass that looks at quotes and brackets only. Of text that is not valid the answer
//! is of no use, but it comes, and nothing panics.

use std::borrow::Cow;

/// One `"key": value` as it stands.
pub(super) struct RawMember<'a> {
    pub raw_key: &'a str,
    pub is_escaped: bool,
    pub value: &'a str,
}

impl<'a> RawMember<'a> {
    /// The key's text; `None` when an escape in it names no character.
    pub fn key(&self) -> Option<Cow<'a, str>> {
        if self.is_escaped {
            return serde_json::from_str::<String>(self.raw_key).ok().map(Cow::Owned);
        }
        let inner = 1..self.raw_key.len().checked_sub(1)?;
        self.raw_key.get(inner).map(Cow::Borrowed)
    }
}

/// Steps through the inside of one array or object.
#[derive(Debug)]
pub(super) struct Splitter<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Splitter<'a> {
    /// The inside of a text that begins with `open`.
    pub fn inside(text: &'a str, open: u8) -> Option<Self> {
        let mut splitter = Self { text, at: 0 };
        splitter.step_over(open).then_some(splitter)
    }

    /// The next element of an array; `None` at its end.
    pub fn element(&mut self) -> Option<&'a str> {
        let value = self.value()?;
        self.step_over(b',');
        Some(value)
    }

    /// The next member of an object; `None` at its end.
    pub fn member(&mut self) -> Option<RawMember<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.skip_blank();
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let end = end_of_string(bytes, start + 1);
        self.at = end.quote + 1;
        let raw_key = self.text.get(start..self.at)?;
        self.step_over(b':');
        Some(RawMember {
            raw_key,
            is_escaped: end.is_escaped,
            value: self.element()?,
        })
    }

    fn value(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let start = self.skip_blank();
        let end = match bytes.get(start)? {
            b']' | b'}' => return None,
            b'"' => end_of_string(bytes, start + 1).quote + 1,
            b'[' | b'{' => end_of_container(bytes, start),
            _ => end_of_word(bytes, start),
        };
        self.at = end;
        self.text.get(start..end)
    }

    fn step_over(&mut self, byte: u8) -> bool {
        let at = self.skip_blank();
        let stands_there = self.text.as_bytes().get(at) == Some(&byte);
        self.at += usize::from(stands_there);
        stands_there
    }

    fn skip_blank(&mut self) -> usize {
        self.at = skip_blank(self.text.as_bytes(), self.at);
        self.at
    }
}

/// Where a string ends.
pub(super) struct StringEnd {
    /// The index of the closing quote, or the length of the text.
    pub quote: usize,
    /// Whether a backslash stands in it.
    pub is_escaped: bool,
}

/// Keys and most words are shorter. For them the fast search costs more than a look at each byte.
const SHORT_BYTES: usize = 24;

/// The end of the string whose text begins at `at`.
pub(super) fn end_of_string(bytes: &[u8], mut at: usize) -> StringEnd {
    let nearby = bytes.iter().skip(at).take(SHORT_BYTES);
    for (steps, byte) in nearby.enumerate() {
        match byte {
            b'"' => {
                return StringEnd {
                    quote: at + steps,
                    is_escaped: false,
                };
            }
            b'\\' => break,
            _ => {}
        }
    }
    let mut is_escaped = false;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return StringEnd { quote: at, is_escaped };
        }
        is_escaped = true;
        at += 2;
    }
    StringEnd {
        quote: bytes.len(),
        is_escaped,
    }
}

/// Behind the bracket that closes the one at `at`.
fn end_of_container(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1).quote,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// Behind a number, a truth value or `null`.
fn end_of_word(bytes: &[u8], start: usize) -> usize {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
    let rest = bytes.get(start..).unwrap_or_default();
    rest.iter()
        .position(is_end)
        .map_or(bytes.len(), |length| start + length)
}

/// The index of the first byte from `at` on that is no blank.
pub(super) fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}
