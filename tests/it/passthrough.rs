//! What goes up and what comes down: only what must change is changed.

use serde_json::{Value, json};
use simulator::{Answer, Chunking, Fixed, Rule};
use support::{TestApp, anthropic_body, openai_body};

/// The events of a stream, without the end mark.
fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter(|data| data.trim() != "[DONE]")
        .map(|data| serde_json::from_str(data.trim()).expect("an event in JSON"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openai_stream_ends_with_done_and_has_no_usage_that_was_not_asked_for() {
    let app = TestApp::start().await;
    let answer = app.client().openai(&openai_body(true)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert!(
        events(&text)
            .iter()
            .all(|event| event.get("usage").is_none_or(Value::is_null))
    );

    let sent = &app.simulator.log()[0];
    assert_eq!(
        sent.body["stream_options"]["include_usage"], true,
        "usage is always asked for upstream"
    );
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["reason"], "completed");
    assert_eq!(closed["usage_source"], "provider");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openai_stream_has_the_usage_that_was_asked_for() {
    let app = TestApp::start().await;
    let mut body = openai_body(true);
    body["stream_options"] = json!({ "include_usage": true });
    let answer = app.client().openai(&body).await;
    let last = events(&answer.text()).pop().expect("events");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], app.simulator.log()[0].usage.clone().unwrap());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anthropic_stream_comes_through_as_it_was_sent() {
    let app = TestApp::start().await;
    let answer = app.client().anthropic(&anthropic_body(true)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    assert!(text.starts_with("event: message_start"));
    assert!(text.contains("event: message_stop"));
    let sent = &app.simulator.log()[0];
    assert_eq!(
        u64::try_from(answer.bytes.len()).unwrap(),
        sent.bytes_sent,
        "not a byte more or less"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_survive_in_both_directions() {
    let app = TestApp::start().await;
    let mut body = openai_body(false);
    body["a_field_of_next_year"] = json!({ "deep": [1, 2.50, null] });
    let reply = r#"{"id":"x","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"hi","odd":  1.0},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12,"new":{"x":1}},"later":[ ]}"#;
    let rule = Rule {
        answer: Answer::Fixed(Fixed {
            body_text: Some(reply.to_owned()),
            chunks: Chunking::Bytes(7),
            ..Fixed::default()
        }),
        ..Rule::default()
    };
    app.simulator.script(rule).unwrap();
    let answer = app.client().openai(&body).await;
    assert_eq!(answer.text(), reply);
    let sent = &app.simulator.log()[0];
    assert_eq!(sent.body["a_field_of_next_year"], body["a_field_of_next_year"]);
    assert_eq!(sent.model, "gpt-4o", "the upstream's own name of the model");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_name_request_provider_model_price_and_cost() {
    let app = TestApp::start().await;
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.header("x-truerelay-provider"), Some("openai"));
    assert_eq!(answer.header("x-truerelay-model"), Some("openai/gpt-4o"));
    assert_eq!(answer.header("x-request-id"), answer.header("request-id"));
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(
        answer.header("x-truerelay-price-version").unwrap(),
        closed["price_version"].to_string()
    );
    assert_eq!(
        answer.header("x-truerelay-cost-usd").unwrap(),
        closed["cost_usd"].as_str().unwrap()
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_answers_to_its_aliases_in_any_case() {
    let app = TestApp::start().await;
    for name in ["gpt-4o", "GPT-4o", "openai/gpt-4o", "gpt-4o-2024-08-06"] {
        let mut body = openai_body(false);
        body["model"] = name.into();
        let answer = app.client().openai(&body).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(app.closed(&answer.request_id()).await["model"], "openai/gpt-4o");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_output_limit_is_set_and_named() {
    let app = TestApp::start().await;
    let mut body = openai_body(false);
    body.as_object_mut().unwrap().remove("max_tokens");
    let answer = app.client().openai(&body).await;
    let limit: u64 = answer
        .header("x-truerelay-output-limit")
        .expect("the limit is named")
        .parse()
        .unwrap();
    assert_eq!(limit, 16_384);
    let sent = &app.simulator.log()[0];
    assert_eq!(sent.body["max_completion_tokens"], limit, "the upstream enforces it");

    let given = app.client().openai(&openai_body(false)).await;
    assert_eq!(given.header("x-truerelay-output-limit"), None);
    assert_eq!(app.simulator.log()[1].body["max_tokens"], 100, "a given limit is kept");
    app.finish().await;
}
