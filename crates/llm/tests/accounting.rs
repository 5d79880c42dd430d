//! Who is believed about usage: the provider where its report is whole and sane, else our own count.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use domain::{
    request::Dialect::{self, AnthropicMessages, OpenaiChat},
    usage::{TokenClass, UsageSource},
};
use llm::{
    Accounted, ChatRequest, Observed, StreamError, StreamObserver, StreamOptions, UsageLimits, UsageProfile,
    UsageReport, usage_or_estimate, usage_so_far,
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
    let limits = UsageLimits {
        input_tokens: 1_000,
        output_tokens: 1_000,
    };
    let mut observer = StreamObserver::new(StreamOptions {
        limits,
        ..StreamOptions::new(dialect, profile)
    });
    observer
        .push(&Bytes::copy_from_slice(stream.as_bytes()), &mut |_| {})
        .expect("small");
    observer.finish(&mut |_| {});
    observer.conclude()
}

fn account(dialect: Dialect, stream: &str) -> Accounted {
    let body = Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"one two three"}]}"#);
    let request = ChatRequest::parse(dialect, body).expect("valid");
    usage_or_estimate(&request, &watch(dialect, stream))
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
        assert_eq!(
            accounted.usage.total_output_tokens(),
            4,
            "the text that was seen: {usage}"
        );
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

/// As many chunks as it takes, each with the text, until the observer fails or the number is reached.
fn flood(limit: u64, text: &str, chunks: usize) -> (Result<(), StreamError>, Observed) {
    let chunk = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let mut observer = StreamObserver::new(StreamOptions {
        limits: UsageLimits {
            input_tokens: 1_000,
            output_tokens: limit,
        },
        ..StreamOptions::new(OpenaiChat, UsageProfile::OpenaiChat)
    });
    let result = (0..chunks).try_for_each(|_| observer.push(&Bytes::from(chunk.clone()), &mut |_| {}));
    (result, observer.conclude())
}

/// The same, metered so often that little is ever kept undecoded.
#[test]
fn an_answer_that_is_metered_often_is_cut_off_too() {
    let chunk = Bytes::from("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" one two three\"}}]}\n\n");
    let mut observer = StreamObserver::new(StreamOptions {
        limits: UsageLimits {
            input_tokens: 1_000,
            output_tokens: 100,
        },
        ..StreamOptions::new(OpenaiChat, UsageProfile::OpenaiChat)
    });
    let result = (0..10_000).try_for_each(|_| {
        observer.push(&chunk, &mut |_| {})?;
        observer.metered_output();
        Ok(())
    });
    assert_eq!(result, Err(StreamError::BeyondLimit));
}

#[test]
fn an_answer_far_beyond_its_limit_is_cut_off_and_counted() {
    let (result, observed) = flood(100, " one two three four five six seven eight nine ten", 100_000);
    assert_eq!(result, Err(StreamError::BeyondLimit));
    let tokens = llm::estimate_output_tokens(&observed);
    assert!(tokens > 200, "{tokens}");
    assert!(tokens < 20_000, "cut soon after the limit, not at the end: {tokens}");
}

#[test]
fn an_answer_within_its_limit_is_never_cut_off() {
    let blanks = " ".repeat(60);
    for (limit, text) in [
        (30_000, " word"),
        (30_000, blanks.as_str()),
        (60_000, "\u{4f60}\u{597d}"),
    ] {
        assert_eq!(flood(limit, text, 30_000).0, Ok(()), "{text}");
    }
}

#[test]
fn what_comes_from_an_error_on_is_kept_back_once() {
    let good = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let bad = "data: {\"error\":{\"message\":\"no\"}}\n\n";
    for size in [1, 7, 1_000] {
        let mut observer = StreamObserver::new(StreamOptions::new(OpenaiChat, UsageProfile::OpenaiChat));
        let (mut out, mut kept) = (Vec::new(), Vec::new());
        for piece in format!("{good}{bad}{good}").as_bytes().chunks(size) {
            let piece = Bytes::copy_from_slice(piece);
            observer
                .push(&piece, &mut |bytes| out.extend_from_slice(&bytes))
                .expect("small");
            kept.extend(observer.take_after_error().into_iter().flatten());
        }
        assert_eq!(String::from_utf8(out).expect("text"), good);
        assert_eq!(String::from_utf8(kept).expect("text"), format!("{bad}{good}"));
    }
}

#[test]
fn what_was_used_so_far_is_never_above_the_estimate_and_believes_a_report() {
    let prompt = "Tell me about rivers, their sources and their mouths, and what people have built beside them.";
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let request = ChatRequest::parse(OpenaiChat, Bytes::from(body)).expect("valid");
    assert!(!request.is_counted());
    let chunk =
        "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello there, world\"}}]}\n\n";
    let observed = watch(OpenaiChat, chunk);
    let (so_far, estimate) = (
        usage_so_far(&request, &observed, 3),
        usage_or_estimate(&request, &observed),
    );
    assert!(request.is_counted());
    assert_eq!(
        (so_far.source, &so_far.flags),
        (UsageSource::Estimate, &vec!["estimated"])
    );
    assert_eq!(so_far.usage.total_output_tokens(), 3);
    let (least, most) = (so_far.usage.total_input_tokens(), estimate.usage.total_input_tokens());
    assert!(most * 3 / 4 <= least + 3 && least < most, "{least} of {most}");
    let started = watch(AnthropicMessages, &format!("{START}{DELTA}"));
    let reported = usage_so_far(&request, &started, 2).usage;
    assert_eq!((reported.total_input_tokens(), reported.total_output_tokens()), (57, 2));
    let running = watch(
        OpenaiChat,
        &format!("{chunk}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":5}}}}\n\n"),
    );
    let reported = usage_so_far(&request, &running, 2);
    assert_eq!(
        (reported.source, reported.usage.total_output_tokens()),
        (UsageSource::Provider, 5)
    );
}
