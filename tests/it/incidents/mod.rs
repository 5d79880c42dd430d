//! Incidents: opened by rule from durable rows or by an operator, told to everybody without a word about any customer.

mod by_hand;
mod by_rule;

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Answer, Fixed, Rule};
use support::{TestApp, TestAppOptions, openai_body};

/// Rules that look often, at windows as short as a test.
fn quick(more: &str) -> TestAppOptions {
    TestAppOptions {
        config: format!("[incidents]\ncheck_every_s = 1\n{more}\n"),
        ..TestAppOptions::default()
    }
}

fn fails() -> Rule {
    Rule {
        answer: Answer::Fixed(Fixed {
            status: 500,
            body_json: Some(json!({ "error": { "message": "no" } })),
            ..Fixed::default()
        }),
        ..Rule::default()
    }
}

/// The public feed, as somebody without a key reads it.
async fn public(app: &TestApp, path: &str) -> (StatusCode, String) {
    let response = reqwest::get(format!("{}{path}", app.relay_url())).await.unwrap();
    let status = response.status();
    (status, response.text().await.unwrap())
}

async fn feed(app: &TestApp, query: &str) -> Vec<Value> {
    let (status, text) = public(app, &format!("/v1/incidents{query}")).await;
    assert_eq!(status, 200, "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    page["data"].as_array().unwrap().clone()
}

async fn ask(app: &TestApp) -> (StatusCode, Value) {
    let answer = app.client().openai(&openai_body(true)).await;
    let closed = app.closed(&answer.request_id()).await;
    (answer.status, closed)
}
