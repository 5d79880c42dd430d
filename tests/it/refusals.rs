//! What is refused before anything is sent: clear, in the client's dialect, and free.

use serde_json::{Value, json};
use support::{TestApp, anthropic_body, openai_body};

/// Headers, the expected status, the expected code.
type Case<'a> = (&'a [(&'a str, &'a str)], u16, &'a str);

async fn assert_nothing_was_sent(app: &TestApp) {
    assert_eq!(app.simulator.counts().requests, 0, "nothing reached the provider");
    assert_eq!(app.number("SELECT COUNT(*) FROM charge").await, 0, "nothing was held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_exactly_one_valid_key() {
    let app = TestApp::start().await;
    let client = app.client();
    let body = openai_body(false).to_string().into_bytes();
    let key = app.seeded.key.clone();
    let bearer = format!("Bearer {key}");
    let other = if key.ends_with('x') { 'y' } else { 'x' };
    let mistyped = format!("Bearer {}{other}", &key[..key.len() - 1]);
    let unknown = "Bearer sk-tr-00000000000000000000000000000000000000";
    let cases: [Case<'_>; 6] = [
        (&[], 401, "missing_api_key"),
        (&[("authorization", &mistyped)], 401, "invalid_api_key"),
        (&[("authorization", unknown)], 401, "invalid_api_key"),
        (&[("authorization", "Basic eDp5")], 401, "invalid_api_key"),
        (
            &[("authorization", &bearer), ("x-api-key", &key)],
            400,
            "two_credentials",
        ),
        (&[("x-api-key", &key), ("x-api-key", &key)], 400, "two_credentials"),
    ];
    for (headers, status, code) in cases {
        let answer = client.raw("/v1/chat/completions", headers, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{code}");
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], code);
        assert_eq!(error["charged"], false);
        assert!(error["what_to_do"].as_str().is_some_and(|advice| !advice.is_empty()));
    }
    assert_nothing_was_sent(&app).await;
    let by_header = client.raw("/v1/chat/completions", &[("x-api-key", &key)], body).await;
    assert_eq!(by_header.status, 200);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_come_in_the_dialect_of_the_route() {
    let app = TestApp::start().await;
    let mut body = anthropic_body(false);
    body["model"] = "no/such-model".into();
    let answer = app.client().anthropic(&body).await;
    assert_eq!(answer.status, 404);
    let error = answer.json();
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "not_found_error");
    assert_eq!(error["error"]["code"], "model_not_found");
    assert_eq!(error["request_id"].as_str(), answer.header("request-id"));

    let mut body = openai_body(false);
    body["model"] = "no/such-model".into();
    let error = app.client().openai(&body).await.json();
    assert_eq!(error["error"]["type"], "invalid_request_error");
    assert_eq!(error["error"]["param"], "model");
    assert_nothing_was_sent(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_named() {
    let app = TestApp::start().await;
    let client = app.client();
    let with = |field: &str, value: Value| {
        let mut body = openai_body(false);
        body[field] = value;
        body
    };
    let cases = [
        (json!({ "messages": [] }), "missing_field"),
        (with("max_tokens", json!(-1)), "invalid_field"),
        (with("max_tokens", json!(1.5)), "invalid_field"),
        (with("n", json!(0)), "invalid_field"),
        (with("stream", json!("yes")), "invalid_field"),
        (with("web_search_options", json!({})), "unbounded_tool"),
        (with("api_base", json!("https://example.com")), "field_not_accepted"),
    ];
    for (body, code) in cases {
        let answer = client.openai(&body).await;
        assert_eq!(answer.status, 400, "{code}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], code);
    }
    let bearer = format!("Bearer {}", app.seeded.key);
    let headers = [("authorization", bearer.as_str())];
    for (bytes, code) in [
        (b"{\"model\":".to_vec(), "invalid_json"),
        (b"\xff\xfe".to_vec(), "invalid_json"),
        (
            br#"{"model":"gpt-4o","model":"gpt-4","messages":[]}"#.to_vec(),
            "duplicate_field",
        ),
        (
            format!(
                "{{\"model\":\"gpt-4o\",\"messages\":{}1{}}}",
                "[".repeat(200),
                "]".repeat(200)
            )
            .into_bytes(),
            "json_too_deep",
        ),
    ] {
        let answer = client.raw("/v1/chat/completions", &headers, bytes).await;
        assert_eq!(answer.status, 400, "{code}");
        assert_eq!(answer.json()["error"]["code"], code);
    }
    let mut web_search = anthropic_body(false);
    web_search["tools"] = json!([{ "type": "web_search_20250305", "name": "web_search" }]);
    assert_eq!(
        client.anthropic(&web_search).await.json()["error"]["code"],
        "unbounded_tool"
    );
    assert_nothing_was_sent(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let app = TestApp::start_with(support::TestAppOptions {
        config: "[relay]\nmax_request_bytes = 10000\n".to_owned(),
        ..Default::default()
    })
    .await;
    let mut body = openai_body(false);
    body["messages"][0]["content"] = "x".repeat(20_000).into();
    let answer = app.client().openai(&body).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "request_too_large");
    assert_nothing_was_sent(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_sold_only_in_the_dialects_of_its_offers() {
    let app = TestApp::start().await;
    let mut body = anthropic_body(false);
    body["model"] = "openai/gpt-4o".into();
    let answer = app.client().anthropic(&body).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "model_not_for_sale");
    assert_nothing_was_sent(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_an_answer_where_there_is_no_route() {
    let app = TestApp::start().await;
    let response = app.client().get("/v1/nothing").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.json().await["error"]["code"], "no_such_route");
    app.finish().await;
}
