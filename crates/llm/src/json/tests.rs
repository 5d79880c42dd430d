//! The splitting against a full parser, and the places that it finds.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![any::<String>(), "[\\[\\]{}\":,\\\\ a]{0,12}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::from(-1.5)),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Takes the text apart down to its words and puts it together again.
fn rebuilt(text: &str) -> Value {
    if let Some(members) = members(text) {
        let member = |member: &Member<'_>| {
            assert_eq!(string(member.raw_key).as_deref(), Some(member.key.as_ref()));
            (member.key.to_string(), rebuilt(member.value))
        };
        return Value::Object(members.iter().map(member).collect());
    }
    match elements(text) {
        Some(elements) => elements.into_iter().map(rebuilt).collect(),
        None => serde_json::from_str(text).expect("a word of its own"),
    }
}

proptest! {
    #[test]
    fn what_is_taken_apart_is_what_a_full_parser_reads(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        prop_assert_eq!(rebuilt(&text.expect("JSON")), value);
    }

    #[test]
    fn no_text_makes_the_splitting_panic(text in "[\\[\\]{}\":,\\\\ a\u{e9}1]{0,24}") {
        members(&text);
        elements(&text);
        prop_assert_eq!(Object::parse(&text).is_some(), serde_json::from_str::<Value>(&text).is_ok_and(|v| v.is_object()));
    }
}

#[test]
fn many_keys_and_few_are_searched_for_duplicates() {
    for count in [1, 16, 17, 400] {
        let unique = (0..count).map(|number| format!("\"{number}\":0,")).collect::<String>();
        let object = |last: &str| format!("{{{unique}\"{last}\":1}}");
        assert_eq!(Object::parse(&object("new")).expect("an object").duplicate(), None);
        assert_eq!(Object::parse(&object("0")).expect("an object").duplicate(), Some("0"));
    }
}

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
