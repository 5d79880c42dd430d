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

/// Keys and most words are shorter. For them the fast search costs more than a look at a few words of eight bytes.
const SHORT_WORDS: usize = 4;
const WORD_BYTES: usize = 8;

/// The end of the string whose text begins at `at`.
pub(super) fn end_of_string(bytes: &[u8], mut at: usize) -> StringEnd {
    for _ in 0..SHORT_WORDS {
        let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let Some(found) = first_special(*word) else {
            at += WORD_BYTES;
            continue;
        };
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return StringEnd {
                quote: at,
                is_escaped: false,
            };
        }
        break;
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

/// The index of the first quote or backslash among eight bytes, looked for in all of them at once.
const fn first_special(word: [u8; WORD_BYTES]) -> Option<usize> {
    const LOW: u64 = u64::from_le_bytes([0x01; WORD_BYTES]);
    const HIGH: u64 = u64::from_le_bytes([0x80; WORD_BYTES]);
    const QUOTES: u64 = u64::from_le_bytes([b'"'; WORD_BYTES]);
    const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; WORD_BYTES]);
    let word = u64::from_le_bytes(word);
    // the lowest byte of zero has its high bit set; above it a byte may be marked by the borrow
    let (quotes, backslashes) = (word ^ QUOTES, word ^ BACKSLASHES);
    let found = (quotes.wrapping_sub(LOW) & !quotes | backslashes.wrapping_sub(LOW) & !backslashes) & HIGH;
    if found == 0 {
        return None;
    }
    Some((found.trailing_zeros() / 8) as usize)
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
