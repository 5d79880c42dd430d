//! Requests: what is read, refused, bounded and spliced.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use domain::request::Dialect::{self, AnthropicMessages, OpenaiChat};
use llm::{BoundRules, ChatRequest, ProviderProfile, RequestError};

const WINDOW: u64 = 100_000;

fn parse(dialect: Dialect, body: &str) -> Result<ChatRequest, RequestError> {
    ChatRequest::parse(dialect, Bytes::copy_from_slice(body.as_bytes()))
}

fn openai(fields: &str) -> Result<ChatRequest, RequestError> {
    parse(OpenaiChat, &format!(r#"{{"model":"m","messages":[]{fields}}}"#))
}

fn anthropic(fields: &str) -> Result<ChatRequest, RequestError> {
    parse(
        AnthropicMessages,
        &format!(r#"{{"model":"m","max_tokens":9,"messages":[]{fields}}}"#),
    )
}

const fn rules() -> BoundRules {
    BoundRules {
        context_window_tokens: WINDOW,
        image_tokens: Some(1_000),
        search_option_priced: false,
        tokenizer_margin_percent: 125,
    }
}

fn tokens(request: &ChatRequest) -> u64 {
    request.input_bound(&rules()).expect("bounded").tokens
}

#[test]
fn fields_are_read_and_nulls_are_absent() {
    let request =
        openai(r#","stream":true,"n":2,"max_tokens":7,"stream_options":{"include_usage":true},"service_tier":"flex""#)
            .expect("valid");
    assert!(request.stream() && request.client_wants_usage());
    assert_eq!(
        (request.choices(), request.output_limit(), request.service_tier()),
        (2, Some(7), Some("flex"))
    );
    let nulls =
        openai(r#","stream":null,"n":null,"max_tokens":null,"stream_options":null,"tools":null,"service_tier":null"#)
            .expect("valid");
    assert!(!nulls.stream() && !nulls.client_wants_usage());
    assert_eq!(
        (nulls.choices(), nulls.output_limit(), nulls.service_tier()),
        (1, None, None)
    );
    let claude = anthropic(r#","speed":"fast","thinking":{"type":"enabled","budget_tokens":1},"inference_geo":"us""#)
        .expect("valid");
    assert_eq!(
        (claude.service_tier(), claude.thinking(), claude.region()),
        (Some("fast"), Some(true), Some("us"))
    );
    assert!(claude.client_wants_usage());
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let code = |result: Result<ChatRequest, RequestError>| result.expect_err("refused").code();
    for body in [
        "",
        "[]",
        "{",
        "{\"model\":\"m\",}",
        "{} {}",
        "\u{feff}{}",
        "{\"model\" \"m\"}",
        "null",
    ] {
        assert_eq!(code(parse(OpenaiChat, body)), "invalid_json", "{body}");
    }
    assert_eq!(
        code(ChatRequest::parse(
            OpenaiChat,
            Bytes::from_static(b"{\"model\":\"\xff\"}")
        )),
        "invalid_json"
    );
    assert_eq!(
        code(parse(OpenaiChat, &format!("{{\"a\":{}", "[".repeat(128)))),
        "json_too_deep"
    );
    assert_eq!(code(parse(OpenaiChat, r#"{"messages":[]}"#)), "missing_field");
    assert_eq!(
        code(parse(OpenaiChat, r#"{"model":"","messages":[]}"#)),
        "missing_field"
    );
    assert_eq!(code(parse(OpenaiChat, r#"{"model":"m"}"#)), "missing_field");
    assert_eq!(
        code(parse(OpenaiChat, r#"{"model":"m","messages":"hi"}"#)),
        "invalid_field"
    );
    assert_eq!(
        code(parse(OpenaiChat, r#"{"model":"m","messages":["hi"]}"#)),
        "invalid_field"
    );
    assert_eq!(code(openai(r#","model":"other""#)), "duplicate_field");
    assert_eq!(code(openai(r#","mod\u0065l":"other""#)), "duplicate_field");
    assert_eq!(code(openai(r#","unknown":1,"unknown":1"#)), "duplicate_field");
    assert_eq!(
        code(openai(
            r#","stream_options":{"include_usage":true,"include_usage":false}"#
        )),
        "duplicate_field"
    );
    for limit in ["0", "-1", "1.5", "1e3", "\"7\"", "9999999999999", "true"] {
        assert_eq!(
            code(openai(&format!(",\"max_tokens\":{limit}"))),
            "invalid_field",
            "{limit}"
        );
        assert_eq!(code(anthropic(&format!(",\"max_tokens\":{limit}"))), "duplicate_field");
    }
    for n in ["0", "129", "1.0", "\"2\""] {
        assert_eq!(code(openai(&format!(",\"n\":{n}"))), "invalid_field", "{n}");
    }
    assert_eq!(
        code(openai(r#","max_tokens":7,"max_completion_tokens":8"#)),
        "invalid_field"
    );
    assert_eq!(code(openai(r#","stream":"yes""#)), "invalid_field");
    assert_eq!(code(openai(r#","stream_options":[]"#)), "invalid_field");
    assert_eq!(
        code(openai(r#","api_base":"http://169.254.169.254""#)),
        "field_not_accepted"
    );
    assert_eq!(code(openai(r#","models":["dear/model"]"#)), "field_not_accepted");
}

#[test]
fn tools_that_the_client_runs_pass_and_unbounded_ones_do_not() {
    let refused = |request: Result<ChatRequest, RequestError>| {
        matches!(
            request.expect("parsed").input_bound(&rules()),
            Err(RequestError::UnboundedTool { .. })
        )
    };
    assert!(!refused(openai(
        r#","tools":[{"type":"function","function":{"name":"web_search"}},{"type":"custom"},{"function":{}}]"#
    )));
    assert!(refused(openai(r#","tools":[{"type":"web_search"}]"#)));
    assert!(refused(openai(r#","tools":[{"typ\u0065":"mcp"}]"#)));
    assert!(refused(openai(r#","web_search_options":{}"#)));
    assert!(refused(openai(r#","plugins":[{"id":"web"}]"#)));
    assert!(!refused(anthropic(
        r#","tools":[{"name":"x","input_schema":{}},{"type":"custom"},{"type":"bash_20250124"}]"#
    )));
    assert!(refused(anthropic(r#","tools":[{"type":"web_search_20250305"}]"#)));
    for kind in [
        "code_execution_20250825",
        "web_fetch_20250910",
        "mcp_toolset",
        "whatever_comes",
    ] {
        assert!(
            refused(anthropic(&format!(r#","tools":[{{"type":"{kind}"}}]"#))),
            "{kind}"
        );
    }
    assert!(refused(anthropic(r#","mcp_servers":[{"url":"https://x"}]"#)));
    assert!(refused(anthropic(
        r#","context_management":{"edits":[{"type":"compact_20260112"}]}"#
    )));
    assert!(!refused(anthropic(
        r#","context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#
    )));
    let searching = anthropic(r#","tools":[{"type":"web_search_20250305","max_uses":3}]"#).expect("parsed");
    let bound = searching.input_bound(&rules()).expect("bounded");
    assert_eq!(bound.web_searches, 3);
    assert!(bound.tokens >= 3 * WINDOW);
}

#[test]
fn images_count_by_their_maximum_and_the_unknown_by_the_window() {
    let with = |dialect, part: &str| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"hi"}},{part}]}}]}}"#
        );
        parse(dialect, &body).expect("valid")
    };
    let long = "A".repeat(500_000);
    let image = with(
        OpenaiChat,
        &format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{long}"}}}}"#),
    );
    assert!((1_000..2_000).contains(&tokens(&image)));
    let hidden = with(
        OpenaiChat,
        r#"{"typ\u0065":"image_\u0075rl","image_url":{"url":"https://x"}}"#,
    );
    assert!((1_000..2_000).contains(&tokens(&hidden)));
    let claude = with(
        AnthropicMessages,
        r#"{"type":"tool_result","content":[{"type":"image","source":{"type":"url","url":"u"}}]}"#,
    );
    assert_eq!(claude.shape().images, 1);
    for part in [
        r#"{"type":"file","file":{"file_id":"f"}}"#,
        r#"{"type":"input_audio","input_audio":{"data":""}}"#,
        r#"{"type":"from_the_future"}"#,
        r#"{"image_url":"u"}"#,
        r#"{"type":"text","type":"file","text":"x"}"#,
    ] {
        assert!(tokens(&with(OpenaiChat, part)) >= WINDOW, "{part}");
    }
    let document = |source: &str| {
        with(
            AnthropicMessages,
            &format!(r#"{{"type":"document","source":{source}}}"#),
        )
    };
    assert!(tokens(&document(r#"{"type":"text","data":"plain"}"#)) < 2_000);
    assert!(tokens(&document(r#"{"type":"url","url":"https://x"}"#)) >= WINDOW);
    let earlier_audio = r#"{"model":"m","messages":[{"role":"assistant","audio":{"id":"a"}}]}"#;
    assert!(
        parse(OpenaiChat, earlier_audio)
            .expect("valid")
            .input_bound(&rules())
            .expect("bounded")
            .may_contain_audio
    );
}

fn spliced(provider: &str, dialect: Dialect, body: &str, model: &str, limit: Option<u64>) -> String {
    let wire = ProviderProfile::find(provider, dialect).wire;
    let out = parse(dialect, body).expect("valid").rewrite(model, limit, wire);
    String::from_utf8(out.to_vec()).expect("UTF-8")
}

#[test]
fn splicing_changes_only_what_it_must() {
    let body = " { \"x\" : 1.50 ,\"model\": \"a\\u0062\" , \"messages\":[ ] } ";
    let request = parse(OpenaiChat, body).expect("valid");
    let wire = ProviderProfile::find("openai", OpenaiChat).wire;
    let same = request.rewrite("ab", None, wire);
    assert_eq!(same.as_ptr(), request.body().as_ptr(), "the same buffer");
    assert_eq!(
        spliced("openai", OpenaiChat, body, "new\"", None),
        body.replace("\"a\\u0062\"", "\"new\\\"\"")
    );
    assert_eq!(
        spliced("openai", OpenaiChat, body, "ab", Some(5)),
        body.replacen('{', "{\"max_completion_tokens\":5,", 1)
    );
    assert_eq!(
        spliced("mistral", OpenaiChat, body, "ab", Some(5)),
        body.replacen('{', "{\"max_tokens\":5,", 1)
    );
}

#[test]
fn the_limit_stands_where_the_provider_reads_it() {
    let body = |fields: &str| format!(r#"{{"model":"m","messages":[]{fields}}}"#);
    let case = |provider, fields: &str, limit| spliced(provider, OpenaiChat, &body(fields), "m", limit);
    // a provider that knows only max_tokens must not get the limit under a name that it ignores
    assert_eq!(
        case("deepseek", r#","max_completion_tokens": 7"#, None),
        body(r#","max_tokens": 7"#)
    );
    assert_eq!(
        case("deepseek", r#","max_completion_tokens": 7"#, Some(5)),
        body(r#","max_tokens": 5"#)
    );
    assert_eq!(
        case("deepseek", r#","max_tokens":null,"max_completion_tokens":7"#, None),
        body(r#","max_tokens":7,"max_completion_tokens":7"#)
    );
    assert_eq!(case("openai", r#","max_tokens":7"#, None), body(r#","max_tokens":7"#));
    assert_eq!(
        case("openai", r#","max_tokens":7"#, Some(5)),
        body(r#","max_tokens":5"#)
    );
    assert_eq!(
        case("openai", r#","max_completion_tokens":null"#, Some(5)),
        body(r#","max_completion_tokens":5"#)
    );
    let claude = r#"{"model":"m","messages":[],"max_tokens":9}"#;
    assert_eq!(
        spliced("anthropic", AnthropicMessages, claude, "m", Some(5)),
        claude.replace('9', "5")
    );
}

#[test]
fn usage_is_asked_for_in_streams() {
    let body = |options: &str| format!(r#"{{"model":"m","messages":[],"stream":true{options}}}"#);
    let case = |options: &str| spliced("openai", OpenaiChat, &body(options), "m", None);
    let asked = body(r#","stream_options":{"include_usage":true}"#);
    assert_eq!(
        case(""),
        body("").replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1)
    );
    assert_eq!(case(r#","stream_options":null"#), asked);
    assert_eq!(case(r#","stream_options":{}"#), asked);
    assert_eq!(case(r#","stream_options":{"include_usage":false}"#), asked);
    assert_eq!(case(r#","stream_options":{"include_usage":null}"#), asked);
    assert_eq!(case(r#","stream_options":{"include_usage":true}"#), asked);
    assert_eq!(
        case(r#","stream_options":{"include_obfuscation":false}"#),
        body(r#","stream_options":{"include_usage":true,"include_obfuscation":false}"#)
    );
    assert_eq!(spliced("mistral", OpenaiChat, &body(""), "m", None), body(""));
    let quiet = r#"{"model":"m","messages":[],"stream":false}"#;
    assert_eq!(spliced("openai", OpenaiChat, quiet, "m", None), quiet);
}

#[test]
fn an_answer_in_sound_or_pictures_has_to_be_asked_for() {
    let asks = |fields: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{fields}}}"#);
        let request = ChatRequest::parse(OpenaiChat, Bytes::from(body)).expect("valid");
        !request.is_text_only()
    };
    for text in ["", r#","modalities":["text"]"#, r#","modalities":null,"audio":null"#] {
        assert!(!asks(text), "{text}");
    }
    for media in [
        r#","modalities":["text","audio"]"#,
        r#","audio":{"voice":"alloy"}"#,
        r#","modalities":"image""#,
    ] {
        assert!(asks(media), "{media}");
    }
}
