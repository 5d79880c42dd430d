//! What leaves the relay, in either direction, and what never does.

use serde_json::json;
use simulator::{Answer, Fixed, Generate, Rule};
use support::{COMPLETION_CANARY, PROMPT_CANARY, TestApp, anthropic_body, openai_body};

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_gets_only_the_headers_that_it_needs() {
    let app = TestApp::start().await;
    let bearer = format!("Bearer {}", app.seeded.key);
    let headers = [
        ("authorization", bearer.as_str()),
        ("cookie", "session=1"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-secret-header", "value"),
        ("openai-organization", "org-1"),
        ("anthropic-beta", "a-beta"),
        ("content-type", "application/json"),
    ];
    let body = anthropic_body(false).to_string().into_bytes();
    assert_eq!(app.client().raw("/v1/messages", &headers, body).await.status, 200);
    let log = app.simulator.log();
    let names: Vec<&str> = log[0].headers.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "accept-encoding",
            "anthropic-beta",
            "anthropic-version",
            "content-length",
            "content-type",
            "host",
            "user-agent",
            "x-api-key"
        ]
    );
    assert!(app.seeded.anthropic_secret.ends_with(&log[0].credential_suffix));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_gets_no_header_of_the_upstreams_account() {
    let app = TestApp::start().await;
    let reply = json!({ "id": "x", "model": "m", "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hi" } }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4 } });
    let headers = [
        ("set-cookie", "a=b"),
        ("openai-organization", "org-operator"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("content-type", "application/json"),
    ];
    let fixed = Fixed {
        body_json: Some(reply),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Fixed::default()
    };
    app.simulator
        .script(Rule {
            answer: Answer::Fixed(fixed),
            ..Rule::default()
        })
        .unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for name in ["set-cookie", "openai-organization", "x-ratelimit-remaining-tokens"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_are_kept_nowhere() {
    let app = TestApp::start().await;
    let generate = Generate {
        text: Some(format!("The answer is {COMPLETION_CANARY}, that is all.")),
        ..Generate::default()
    };
    app.simulator
        .script(Rule {
            answer: Answer::Generate(generate),
            ..Rule::default()
        })
        .unwrap();
    for stream in [true, false] {
        let answer = app.client().openai(&openai_body(stream)).await;
        assert!(answer.status == 200);
        let answer = app.client().anthropic(&anthropic_body(stream)).await;
        assert!(answer.status == 200);
    }
    // errors of every kind repeat nothing either
    let mut bad = openai_body(false);
    bad["n"] = "many".into();
    assert!(!app.client().openai(&bad).await.text().contains(PROMPT_CANARY));
    app.simulator.reset();
    let repeats = format!("Incorrect API key provided: {}", app.seeded.openai_secret);
    let fixed = Fixed {
        status: 400,
        body_json: Some(json!({ "error": { "message": repeats, "code": "other" } })),
        ..Fixed::default()
    };
    app.simulator
        .script(Rule {
            answer: Answer::Fixed(fixed),
            ..Rule::default()
        })
        .unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    assert!(!answer.text().contains(&app.seeded.openai_secret), "{}", answer.text());
    // `finish` searches log, metrics and every table for canaries, keys and credentials
    app.finish().await;
}
