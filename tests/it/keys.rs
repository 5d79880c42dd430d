//! Virtual keys: states, limits, allow-lists, and how soon a change counts.

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Client, KeyOptions, TestApp, anthropic_body, openai_body};

/// Waits until a key is answered as expected: a change counts within seconds on every node.
async fn wait_for(client: &Client, status: u16) -> serde_json::Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let response = client.get("/v1/key").await;
        if response.status().as_u16() == status {
            return response.json().await;
        }
        assert!(Instant::now() < deadline, "the key never answers {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_stops_working_and_looks_like_an_unknown_one() {
    let mut app = TestApp::start().await;
    let tenant = app.seeded.tenant.clone();
    let (id, key) = app.key_of(&tenant, KeyOptions::default()).await;
    let client = app.client_with(&key);
    assert_eq!(client.openai(&openai_body(false)).await.status, 200);
    app.admin.create(&format!("/keys/{id}/revoke"), json!({})).await;
    let answer = wait_for(&client, 401).await;
    assert_eq!(answer["error"]["code"], "invalid_api_key");
    assert_eq!(client.openai(&openai_body(false)).await.status, 401);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_can_be_disabled_and_enabled_again() {
    let mut app = TestApp::start().await;
    let tenant = app.seeded.tenant.clone();
    let (id, key) = app.key_of(&tenant, KeyOptions::default()).await;
    let client = app.client_with(&key);
    wait_for(&client, 200).await;
    app.admin
        .change(&format!("/keys/{id}"), json!({ "enabled": false }))
        .await;
    assert_eq!(wait_for(&client, 403).await["error"]["code"], "api_key_disabled");
    app.admin
        .change(&format!("/keys/{id}"), json!({ "enabled": true }))
        .await;
    wait_for(&client, 200).await;
    app.admin
        .change(&format!("/tenants/{tenant}"), json!({ "enabled": false }))
        .await;
    assert_eq!(wait_for(&client, 403).await["error"]["code"], "account_disabled");
    app.admin
        .change(&format!("/tenants/{tenant}"), json!({ "enabled": true }))
        .await;
    wait_for(&client, 200).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_says_so() {
    let mut app = TestApp::start().await;
    let tenant = app.seeded.tenant.clone();
    let (id, key) = app.key_of(&tenant, KeyOptions::default()).await;
    let client = app.client_with(&key);
    wait_for(&client, 200).await;
    let soon = domain::clock::UnixMs::now().plus_ms(1_500).to_rfc3339();
    app.admin
        .change(&format!("/keys/{id}"), json!({ "expires_at": soon }))
        .await;
    assert_eq!(wait_for(&client, 403).await["error"]["code"], "api_key_expired");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_limits_the_models() {
    let mut app = TestApp::start().await;
    let tenant = app.seeded.tenant.clone();
    let options = KeyOptions {
        allowed_models: Some(vec!["gpt-4o".to_owned()]),
        ..KeyOptions::default()
    };
    let (_, key) = app.key_of(&tenant, options).await;
    let client = app.client_with(&key);
    assert_eq!(client.openai(&openai_body(false)).await.status, 200);
    let refused = client.anthropic(&anthropic_body(false)).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "model_not_allowed");
    let models = client.get("/v1/models").await.json().await;
    let ids: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["openai/gpt-4o"]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_limit_is_kept_and_says_when_to_come_back() {
    let mut app = TestApp::start().await;
    let tenant = app.seeded.tenant.clone();
    let options = KeyOptions {
        requests_per_minute: Some(3),
        ..KeyOptions::default()
    };
    let (_, key) = app.key_of(&tenant, options).await;
    let client = app.client_with(&key);
    for _ in 0..3 {
        assert_eq!(client.openai(&openai_body(false)).await.status, 200);
    }
    let refused = client.openai(&openai_body(false)).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(
        app.client().openai(&openai_body(false)).await.status,
        200,
        "other keys are not touched"
    );
    app.finish().await;
}
