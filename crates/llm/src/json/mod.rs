//! Borrowing look into JSON: members of an object with the places where they stand, and the few scalar readings that
//! the formats share. Nothing here copies a value; nothing here knows a wire format.

mod split;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashSet, ops::Range};

use memchr::memmem::Finder;
use serde::de::IgnoredAny;

use split::{Splitter, end_of_string, skip_blank};

/// The deepest nesting of arrays and objects that is accepted from anybody.
pub const MAX_DEPTH: usize = 128;

/// One `"key": value` of an object.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The key with its escapes resolved.
    pub key: Cow<'a, str>,
    /// The key as it stands, with its quotes.
    pub raw_key: &'a str,
    /// The value as it stands.
    pub value: &'a str,
}

/// The members of one object in the order of the text, duplicates included.
#[derive(Debug, Clone, Default)]
pub struct Object<'a>(Vec<Member<'a>>);

impl<'a> Object<'a> {
    /// Reads an object; `None` when the text is not one valid JSON object.
    pub fn parse(text: &'a str) -> Option<Self> {
        validate(text).ok()?;
        Self::nested(text)
    }

    /// As `parse`, from bytes that need not be UTF-8.
    pub fn parse_bytes(bytes: &'a [u8]) -> Option<Self> {
        Self::parse(std::str::from_utf8(bytes).ok()?)
    }

    /// As `parse`, from a value that stood in a text which was parsed: that it is valid is not checked again.
    pub fn nested(text: &'a str) -> Option<Self> {
        members(text).map(Self)
    }

    /// Every member.
    pub fn members(&self) -> &[Member<'a>] {
        &self.0
    }

    /// The value of a key that is present and not `null`; of duplicates the last, as most parsers read it.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0
            .iter()
            .rev()
            .find(|member| member.key == key)
            .map(|member| member.value)
            .filter(|value| *value != "null")
    }

    /// The string under a key.
    pub fn string(&self, key: &str) -> Option<String> {
        self.get(key).and_then(string)
    }

    /// The object under a key.
    pub fn object(&self, key: &str) -> Option<Object<'a>> {
        self.get(key).and_then(Object::nested)
    }

    /// A key that stands more than once.
    pub fn duplicate(&self) -> Option<&str> {
        /// Anybody may send any number of keys, and comparing each with each is for few.
        const FEW: usize = 16;
        let keys = || self.0.iter().map(|member| member.key.as_ref());
        if self.0.len() <= FEW {
            let stood_before = |(index, key): &(usize, &str)| keys().take(*index).any(|earlier| earlier == *key);
            return keys().enumerate().find(stood_before).map(|(_, key)| key);
        }
        let mut seen = HashSet::with_capacity(self.0.len());
        keys().find(|key| !seen.insert(*key))
    }
}

/// The members of an object that is known to be valid; `None` when the text is none, or a key is not a string of
/// characters.
pub fn members(text: &str) -> Option<Vec<Member<'_>>> {
    let mut inside = Splitter::inside(text, b'{')?;
    let mut members = Vec::with_capacity(8);
    while let Some(member) = inside.member() {
        members.push(Member {
            key: member.key()?,
            raw_key: member.raw_key,
            value: member.value,
        });
    }
    Some(members)
}

/// The elements of an array that is known to be valid, as they stand; `None` when the text is none.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let mut inside = Splitter::inside(text, b'[')?;
    Some(std::iter::from_fn(|| inside.element()).collect())
}

/// Whether a text is JSON.
///
/// # Errors
/// Where it is not.
pub fn validate(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(drop)
}

/// The text of a JSON string literal, borrowed when nothing in it is escaped.
pub fn decoded(literal: &str) -> Option<Cow<'_, str>> {
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(literal).ok().map(Cow::Owned)
}

/// The text of a JSON string literal.
pub fn string(literal: &str) -> Option<String> {
    decoded(literal).map(Cow::into_owned)
}

/// Whether a value holds something: not `null`, `""`, `[]`, `{}`, a number or a truth value.
pub fn has_content(value: &str) -> bool {
    match value.as_bytes() {
        [b'"', rest @ ..] => rest.len() > 1,
        [b'[' | b'{', rest @ ..] => rest
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|byte| !matches!(byte, b']' | b'}')),
        _ => false,
    }
}

/// Where `part` stands in `whole`; `None` when it is no slice of it.
pub fn span_of(whole: &[u8], part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

/// Whether the nesting of the text stays within `MAX_DEPTH`. Strings are jumped over, so that long prompts cost little.
pub fn is_shallow(bytes: &[u8]) -> bool {
    /// Up to here it is quicker to count every bracket, wherever it stands: most bodies have few.
    const SHORT_BYTES: usize = 4096;
    if bytes.len() <= SHORT_BYTES && opening_brackets(bytes) <= MAX_DEPTH {
        return true;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1).quote,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    true
}

/// How many `[` and `{` there are, counted in a way that processors do many bytes at a time.
fn opening_brackets(bytes: &[u8]) -> usize {
    const CHUNK_BYTES: usize = 128;
    let count = |chunk: &[u8]| -> u8 { chunk.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum() };
    bytes.chunks(CHUNK_BYTES).map(|chunk| usize::from(count(chunk))).sum()
}

/// Searches JSON bytes for one key without parsing them.
#[derive(Debug, Clone)]
pub struct KeyFinder(Finder<'static>);

impl KeyFinder {
    /// A finder for a key written with its quotes.
    pub fn new(quoted_key: &'static str) -> Self {
        Self(Finder::new(quoted_key))
    }

    /// Where the value of each `"key":` begins whose value is not `null`. A string value that contains the word does not
    /// match: inside a string its quotes are escaped.
    pub fn values<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let key_bytes = self.0.needle().len();
        self.0.find_iter(bytes).filter_map(move |at| {
            let colon = skip_blank(bytes, at + key_bytes);
            if bytes.get(colon) != Some(&b':') {
                return None;
            }
            let value = skip_blank(bytes, colon + 1);
            let rest = bytes.get(value..)?;
            (!rest.is_empty() && !rest.starts_with(b"null")).then_some(value)
        })
    }

    /// Whether any such value stands there.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        self.values(bytes).next().is_some()
    }
}
