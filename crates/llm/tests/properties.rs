//! What must hold for any bytes: no panic, no dependence on chunking, no byte changed that need not be, no bound below
//! the count.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use domain::{
    request::Dialect::{self, AnthropicMessages, OpenaiChat},
    usage::MAX_PLAUSIBLE_COUNT,
};
use llm::{
    BoundRules, ChatRequest, Observed, ProviderProfile, StreamError, StreamObserver, StreamOptions, UsageLimits,
    UsageProfile, normalise_usage, observe_body, providers::classify,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const PROFILES: [UsageProfile; 5] = [
    UsageProfile::OpenaiChat,
    UsageProfile::XaiChat,
    UsageProfile::Deepseek,
    UsageProfile::Perplexity,
    UsageProfile::Anthropic,
];

fn options(dialect: Dialect) -> StreamOptions {
    let profile = match dialect {
        OpenaiChat => UsageProfile::OpenaiChat,
        AnthropicMessages => UsageProfile::Anthropic,
    };
    StreamOptions {
        strip_usage_chunk: true,
        max_event_bytes: 4_096,
        ..StreamOptions::new(dialect, profile)
    }
}

fn run(dialect: Dialect, pieces: &[&[u8]]) -> (Vec<u8>, Observed, Result<(), StreamError>) {
    let mut observer = StreamObserver::new(options(dialect));
    let mut out = Vec::new();
    let mut result = Ok(());
    for piece in pieces {
        result = observer.push(&Bytes::copy_from_slice(piece), &mut |bytes| {
            out.extend_from_slice(&bytes)
        });
        out.extend(observer.take_after_error().into_iter().flatten());
        if result.is_err() {
            break;
        }
    }
    observer.finish(&mut |bytes| out.extend_from_slice(&bytes));
    out.extend(observer.take_after_error().into_iter().flatten());
    (out, observer.conclude(), result)
}

/// Bytes that look enough like a stream to reach the interesting places.
fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let tokens: [&[u8]; 19] = [
        &b"\n"[..],
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"data: ",
        b"data:",
        b"event: error",
        b"event: message_delta",
        b": comment",
        b"[DONE]",
        br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        br#"{"model":"m","choices":[{"index":0,"delta":{"content":"\"usage\": {}"},"finish_reason":null}]}"#,
        br#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        br#"{"usage":{"input_tokens":3,"output_tokens":4},"delta":{"stop_reason":"end_turn"}}"#,
        br#"{"error":{"message":"x"}}"#,
        "é😀".as_bytes(),
        b"\xff\x00\x1e",
        b"{\"choices\":",
    ];
    prop::collection::vec(prop::sample::select(tokens.to_vec()), 0..40).prop_map(|tokens| tokens.concat())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,200}",
        "[ \t\r\n]{0,300}",
        "[a-z ]{0,300}",
        prop::collection::vec(any::<char>(), 0..80).prop_map(|chars| chars.into_iter().collect()),
    ]
}

proptest! {
    #[test]
    fn any_split_gives_the_same(bytes in stream_bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        for dialect in [OpenaiChat, AnthropicMessages] {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = run(dialect, &[&bytes]);
            prop_assert_eq!(&run(dialect, &pieces), &whole);
            prop_assert_eq!(&run(dialect, &single), &whole);
            if dialect == AnthropicMessages || !bytes.windows(7).any(|window| window == b"\"usage\"") {
                prop_assert_eq!(&whole.0, &bytes, "nothing is dropped");
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), status in 0_u16..700) {
        for dialect in [OpenaiChat, AnthropicMessages] {
            let _ = ChatRequest::parse(dialect, Bytes::from(bytes.clone()));
            let (out, _, result) = run(dialect, &[&bytes]);
            prop_assert!(result.is_err() || out == bytes);
            let header = String::from_utf8_lossy(&bytes);
            let _ = classify(dialect, status, Some(&header), Some(&header), &bytes);
            for profile in PROFILES {
                let _ = observe_body(dialect, profile, UsageLimits::NONE, &bytes);
                let _ = normalise_usage(profile, &bytes);
            }
        }
    }

    #[test]
    fn usage_is_believable_or_refused(
        counts in prop::collection::vec(prop_oneof![
            Just(json!(-1)), Just(json!(1.5)), Just(json!(null)), Just(json!("7")), Just(json!(u64::MAX)), Just(json!([])),
            (0_u64..2_000_000_000).prop_map(|count| json!(count)), (0_u64..1000).prop_map(|count| json!(count)),
        ], 8),
    ) {
        let at = |index: usize| counts[index].clone();
        let usage = json!({
            "prompt_tokens": at(0), "completion_tokens": at(1), "total_tokens": at(2), "input_tokens": at(0),
            "output_tokens": at(1), "cache_creation_input_tokens": at(3), "cache_read_input_tokens": at(4),
            "prompt_tokens_details": {"cached_tokens": at(3), "audio_tokens": at(4), "cache_write_tokens": at(5)},
            "completion_tokens_details": {"audio_tokens": at(6), "reasoning_tokens": at(7)},
            "cache_creation": {"ephemeral_1h_input_tokens": at(5)}, "prompt_cache_hit_tokens": at(6),
        });
        for profile in PROFILES {
            if let Ok(normalised) = normalise_usage(profile, usage.to_string().as_bytes()) {
                prop_assert!(normalised.usage.total_input_tokens() <= MAX_PLAUSIBLE_COUNT);
                prop_assert!(normalised.usage.total_output_tokens() <= MAX_PLAUSIBLE_COUNT);
                if profile == UsageProfile::OpenaiChat {
                    let audio = at(4).as_u64().unwrap_or(0);
                    let prompt = at(0).as_u64().unwrap_or(0);
                    let input = normalised.usage.total_input_tokens();
                    prop_assert!(input == prompt || input == prompt + audio, "parts add up to the whole");
                }
            }
        }
    }

    #[test]
    fn a_splice_changes_three_fields_and_nothing_else(
        system in text(), extra in text(), model in text(), stream: bool,
        limit in prop::option::of(1_u64..100_000), own in prop::option::of(1_u64..100_000), spaced: bool,
    ) {
        for (dialect, slug) in [(OpenaiChat, "openai"), (OpenaiChat, "deepseek"), (AnthropicMessages, "anthropic")] {
            let mut body = json!({
                "metadata": {"model": extra, "max_tokens": 3, "x": [1.25, null, {"y": extra}]},
                "model": "asked", "stream": stream, "messages": [{"role": "user", "content": system}], "zeta": extra,
            });
            if let Some(own) = own {
                body["max_tokens"] = json!(own);
            }
            let bytes = if spaced { serde_json::to_vec_pretty(&body) } else { serde_json::to_vec(&body) }.expect("JSON");
            let request = ChatRequest::parse(dialect, Bytes::from(bytes)).expect("valid");
            let out = request.rewrite(&model, limit, ProviderProfile::find(slug, dialect).wire);
            let mut after: Value = serde_json::from_slice(&out).expect("still JSON");
            prop_assert_eq!(&after["model"], &json!(model));
            let effective = limit.or(own).map_or(Value::Null, |limit| json!(limit));
            let field = if own.is_none() && slug == "openai" { "max_completion_tokens" } else { "max_tokens" };
            prop_assert_eq!(&after[field], &effective);
            prop_assert_eq!(after["stream_options"]["include_usage"] == true, stream && dialect == OpenaiChat);
            // put back what may change, and the values are the client's own
            after["model"] = json!("asked");
            let fields = after.as_object_mut().expect("object");
            fields.remove("stream_options");
            fields.remove(field);
            if let Some(own) = own {
                fields.insert("max_tokens".to_owned(), json!(own));
            }
            prop_assert_eq!(after, body);
        }
    }

    #[test]
    fn the_bound_is_above_the_count(user in text(), system in text(), repeat in 1_usize..20) {
        let rules = BoundRules {
            context_window_tokens: 1_000_000, image_tokens: None, search_option_priced: false, tokenizer_margin_percent: 125,
        };
        let user = user.repeat(repeat);
        let count = llm::tokens::count_tokens(&user) + llm::tokens::count_tokens(&system);
        let blocks = json!([{"type": "text", "text": user}]);
        let openai = json!({"model": "m", "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}]});
        let anthropic = json!({"model": "m", "system": system, "messages": [{"role": "user", "content": blocks}]});
        for (dialect, body) in [(OpenaiChat, openai), (AnthropicMessages, anthropic)] {
            let request = ChatRequest::parse(dialect, Bytes::from(body.to_string())).expect("valid");
            let bound = request.input_bound(&rules).expect("bounded");
            let tight = request.tighter_input_bound(&rules, request.text_tokens()).expect("bounded");
            prop_assert!(count <= tight.tokens && tight.tokens <= bound.tokens, "{count} {tight:?} {bound:?}");
        }
    }
}

#[test]
fn an_event_without_end_is_refused_and_what_came_before_is_forwarded() {
    let long = [&b"data: {}\n\ndata: "[..], &b"x".repeat(5_000)].concat();
    for pieces in [vec![&long[..]], long.chunks(1).collect(), long.chunks(1_000).collect()] {
        let (out, _, result) = run(OpenaiChat, &pieces);
        assert_eq!(out, b"data: {}\n\n");
        assert_eq!(result, Err(StreamError::EventTooLarge { limit_bytes: 4_096 }));
    }
}

#[test]
fn long_blank_and_unbroken_text_is_counted_without_trouble() {
    for unit in [" ", "\n", "a", "é", "!"] {
        let text = unit.repeat(200_000);
        let tokens = llm::tokens::count_tokens(&text);
        assert!(
            tokens > 0 && tokens <= u64::try_from(text.len()).expect("small"),
            "{unit:?}: {tokens}"
        );
    }
}
