//! What a customer can look up with the key alone.

use domain::Amount;
use support::{KeyOptions, TestApp, anthropic_body, openai_body};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_tells_what_it_cost_and_why_to_its_own_tenant_only() {
    let mut app = TestApp::start().await;
    let answer = app.client().anthropic(&anthropic_body(true)).await;
    let id = answer.request_id();
    let closed = app.closed(&id).await;
    assert_eq!(closed["state"], "settled");
    assert_eq!(closed["model"], "anthropic/claude-sonnet-4.6");
    assert_eq!(closed["provider"], "anthropic");
    assert!(closed["explanation"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(closed["attempts"][0]["outcome"], "won");
    let lines = closed["lines"].as_array().unwrap();
    let exact: i64 = lines
        .iter()
        .map(|line| line["nano_usd_exact"].as_str().unwrap().parse::<i64>().unwrap())
        .sum();
    assert_eq!(
        closed["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap(),
        Amount::from_nanos(exact)
    );

    let (_, stranger) = app.tenant_with("1", KeyOptions::default()).await;
    let stranger = app.client_with(&stranger);
    let response = stranger.get(&format!("/v1/requests/{id}")).await;
    assert_eq!(response.status(), 404, "another tenant's request does not exist");
    for nonsense in [
        "nonsense",
        "req_00000000000000000000000000000000",
        "ten_00000000000000000000000000000000",
    ] {
        assert_eq!(stranger.get(&format!("/v1/requests/{nonsense}")).await.status(), 404);
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_tells_balance_and_limits() {
    let mut app = TestApp::start().await;
    let tenant = app.seeded.tenant.clone();
    let options = KeyOptions {
        requests_per_minute: Some(60),
        budget: Some(("1.00".to_owned(), "month")),
        allowed_models: Some(vec!["openai/gpt-4o".to_owned()]),
        expires_at: None,
    };
    let (id, key) = app.key_of(&tenant, options).await;
    let shown = app.client_with(&key).key().await;
    assert_eq!(shown["id"], id);
    assert_eq!(shown["balance"]["available_usd"], "5.00");
    assert_eq!(shown["balance"]["held_usd"], "0.00");
    assert_eq!(shown["budget"]["limit_usd"], "1.00");
    assert_eq!(shown["budget"]["period"], "month");
    assert_eq!(shown["requests_per_minute"], 60);
    assert_eq!(shown["last4"].as_str(), key.get(key.len() - 4..));
    assert!(!shown.to_string().contains(&key));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_the_callers_dialect() {
    let app = TestApp::start().await;
    let list = app.client().get("/v1/models").await.json().await;
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"].as_array().unwrap().len(), 2, "only what is for sale");
    let http = reqwest::Client::new();
    let anthropic: serde_json::Value = serde_json::from_str(
        &http
            .get(format!("{}/v1/models", app.relay_url()))
            .header("x-api-key", &app.seeded.key)
            .header("anthropic-version", "2023-06-01")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(anthropic["has_more"], false);
    assert_eq!(anthropic["data"][0]["type"], "model");
    assert!(anthropic["data"][0]["display_name"].is_string());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_can_be_looked_up_too() {
    let mut app = TestApp::start().await;
    let (_, poor) = app.tenant_with("0", KeyOptions::default()).await;
    let client = app.client_with(&poor);
    let refused = client.openai(&openai_body(false)).await;
    let closed = client.closed_request(&refused.request_id()).await;
    assert_eq!(closed["state"], "refused");
    assert_eq!(closed["reason"], "insufficient_credit");
    assert_eq!(closed["cost_usd"], "0.00");
    app.finish().await;
}
