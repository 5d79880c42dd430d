//! Who is believed about usage: the provider where its report is whole and sane, else our own count.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use domain::{
    request::Dialect::{self, AnthropicMessages, OpenaiChat},
    usage::{TokenClass, UsageSource},
};
use llm::{
    Accounted, ChatRequest, Observed, StreamObserver, StreamOptions, UsageProfile, UsageReport, usage_or_estimate,
};

const START: &str = r#"event: message_start
data: {"type":"message_start","message":{"model":"c","usage":{"input_tokens":50,"cache_read_input_tokens":7,"output_tokens":1}}}

"#;
const DELTA: &str = r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello there, world"}}

"#;

fn watch(dialect: Dialect, stream: &str) -> Observed {
    let profile = if dialect == OpenaiChat {
        UsageProfile::OpenaiChat
    } else {
        UsageProfile::Anthropic
    };
    let mut observer = StreamObserver::new(StreamOptions::new(dialect, profile));
    observer
        .push(&Bytes::copy_from_slice(stream.as_bytes()), &mut |_| {})
        .expect("small");
    observer.finish(&mut |_| {});
    observer.conclude()
}

fn account(dialect: Dialect, stream: &str) -> Accounted {
    let body = Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"one two three"}]}"#);
    let request = ChatRequest::parse(dialect, body).expect("valid");
    usage_or_estimate(&request, &watch(dialect, stream), 1_000, 1_000)
}

#[test]
fn a_cut_stream_keeps_the_reported_input_and_estimates_its_output() {
    let accounted = account(AnthropicMessages, &format!("{START}{DELTA}"));
    assert_eq!(
        (accounted.source, accounted.flags),
        (UsageSource::Estimate, vec!["estimated"])
    );
    assert_eq!(accounted.usage.tokens(TokenClass::Input), 50);
    assert_eq!(accounted.usage.tokens(TokenClass::CachedInputRead), 7);
    assert_eq!(accounted.usage.tokens(TokenClass::Output), 4);
    let silent = account(AnthropicMessages, START);
    assert_eq!(
        silent.usage.total_output_tokens(),
        0,
        "the opening output_tokens of 1 is a placeholder"
    );
}

#[test]
fn cumulative_reports_replace_and_never_add() {
    let delta = |usage: &str| format!("event: message_delta\ndata: {{\"delta\":{{}},\"usage\":{usage}}}\n\n");
    let stream = format!(
        "{START}{DELTA}{}{}",
        delta(r#"{"output_tokens":4}"#),
        delta(r#"{"input_tokens":60,"output_tokens":9,"server_tool_use":{"web_search_requests":2}}"#)
    );
    let accounted = account(AnthropicMessages, &stream);
    assert_eq!(
        (accounted.source, accounted.flags.is_empty()),
        (UsageSource::Provider, true)
    );
    assert_eq!(accounted.usage.total_input_tokens(), 67);
    assert_eq!(accounted.usage.tokens(TokenClass::Output), 9);
    assert_eq!(accounted.usage.units.web_searches, 2);
}

#[test]
fn an_absurd_report_is_not_believed() {
    let chunk = |usage: &str| {
        format!(
            "data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Hello there, world\"}}}}]}}\n\n\
             data: {{\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n"
        )
    };
    let sane = account(OpenaiChat, &chunk(r#"{"prompt_tokens":5,"completion_tokens":6}"#));
    assert_eq!(
        (sane.source, sane.usage.total_output_tokens()),
        (UsageSource::Provider, 6)
    );
    let zero = account(OpenaiChat, &chunk(r#"{"prompt_tokens":5,"completion_tokens":0}"#));
    assert_eq!(
        (zero.source, zero.usage.total_output_tokens()),
        (UsageSource::Provider, 0),
        "an explicit 0 is a report"
    );
    for usage in [
        r#"{"prompt_tokens":-5,"completion_tokens":6}"#,
        r#"{"prompt_tokens":5,"completion_tokens":9223372036854775808}"#,
        r#"{"prompt_tokens":5,"completion_tokens":2001}"#,
        r#"{"prompt_tokens":5.5,"completion_tokens":6}"#,
        "{}",
    ] {
        let accounted = account(OpenaiChat, &chunk(usage));
        assert_eq!(accounted.source, UsageSource::Estimate, "{usage}");
        assert_eq!(accounted.flags, ["usage_absurd", "estimated"], "{usage}");
        assert!(accounted.usage.total_input_tokens() >= 3, "{usage}");
    }
    assert_eq!(account(OpenaiChat, "data: [DONE]\n\n").usage.total_output_tokens(), 0);
}

#[test]
fn an_end_needs_every_choice_or_the_end_mark() {
    let finish = |index: u8| format!("data: {{\"choices\":[{{\"index\":{index},\"finish_reason\":\"stop\"}}]}}\n\n");
    let mut options = StreamOptions::new(OpenaiChat, UsageProfile::OpenaiChat);
    options.choices = 2;
    let mut observer = StreamObserver::new(options);
    for (event, ended) in [(finish(0), false), (finish(0), false), (finish(1), true)] {
        observer.push(&Bytes::from(event), &mut |_| {}).expect("small");
        assert_eq!(observer.observed().ended_normally(), ended);
    }
    assert_eq!(observer.observed().usage, UsageReport::Missing);
}
