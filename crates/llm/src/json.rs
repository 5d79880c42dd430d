//! Borrowing look into JSON: members of an object with the places where they stand, and the few scalar readings that
//! the formats share. Nothing here copies a value; nothing here knows a wire format.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Range};

use memchr::memmem::Finder;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

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
        serde_json::from_str(text).ok()
    }

    /// As `parse`, from bytes that need not be UTF-8.
    pub fn parse_bytes(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// From members that were read elsewhere.
    pub(crate) const fn from_members(members: Vec<Member<'a>>) -> Self {
        Self(members)
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
        self.get(key).and_then(Object::parse)
    }

    /// A key that stands more than once. Linear, since anybody may send any number of keys.
    pub fn duplicate(&self) -> Option<&str> {
        let mut seen = HashSet::with_capacity(self.0.len());
        self.0
            .iter()
            .map(|member| member.key.as_ref())
            .find(|key| !seen.insert(*key))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<Member<'de>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(raw_key) = map.next_key::<&'de RawValue>()? {
                    let value = map.next_value::<&'de RawValue>()?.get();
                    let raw_key = raw_key.get();
                    let key = decoded(raw_key).ok_or_else(|| serde::de::Error::custom("a key is not a string"))?;
                    members.push(Member { key, raw_key, value });
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Object)
    }
}

/// The elements of an array as they stand; `None` when the text is not one valid JSON array.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    struct Elements<'a>(Vec<&'a str>);
    impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Items;
            impl<'de> Visitor<'de> for Items {
                type Value = Vec<&'de str>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a JSON array")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                    let mut items = Vec::new();
                    while let Some(item) = seq.next_element::<&'de RawValue>()? {
                        items.push(item.get());
                    }
                    Ok(items)
                }
            }
            deserializer.deserialize_seq(Items).map(Elements)
        }
    }
    serde_json::from_str::<Elements<'_>>(text)
        .ok()
        .map(|elements| elements.0)
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
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1),
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

/// The index of the quote that ends the string whose text begins at `at`, or the length.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    bytes.len()
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

fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_place_and_resolve_escaped_keys() {
        let text = r#" { "mod\u0065l" : "a\"b", "n":1 , "n":null}"#;
        let object = Object::parse(text).expect("an object");
        assert_eq!(object.members()[0].key, "model");
        assert_eq!(object.members()[0].raw_key, r#""mod\u0065l""#);
        assert_eq!(object.string("model").as_deref(), Some("a\"b"));
        assert_eq!(object.duplicate(), Some("n"));
        assert_eq!(object.get("n"), None);
        let span = span_of(text.as_bytes(), object.members()[1].value).expect("inside");
        assert_eq!(&text[span], "1");
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        assert!(is_shallow(format!("{}{}", "[".repeat(128), "]".repeat(128)).as_bytes()));
        assert!(!is_shallow("[".repeat(129).as_bytes()));
        assert!(is_shallow(
            format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500)).as_bytes()
        ));
        assert!(is_shallow(b"\"\\"));
    }

    #[test]
    fn a_key_is_not_found_inside_a_string() {
        let text = br#"{"a":"\"usage\": {}","b":"usage","usage" : null,"c":{"usage": {"x":1}}}"#;
        let found: Vec<usize> = KeyFinder::new("\"usage\"").values(text).collect();
        assert_eq!(found.len(), 1);
        assert!(text[found[0]..].starts_with(b"{\"x\""));
    }

    #[test]
    fn emptiness_is_seen_through_blanks() {
        for empty in ["null", "\"\"", "[]", "{ }", "[ ]", "1", "true"] {
            assert!(!has_content(empty), "{empty}");
        }
        for full in ["\" \"", "[0]", "{\"a\":null}", "[ {}]"] {
            assert!(has_content(full), "{full}");
        }
    }
}
