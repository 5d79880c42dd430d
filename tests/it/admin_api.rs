//! The admin API from outside: listeners, roles, audit.

use reqwest::Method;
use serde_json::json;
use support::{Admin, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn customers_and_operators_have_listeners_of_their_own() {
    let app = TestApp::start().await;
    let http = reqwest::Client::new();
    let on_relay = http
        .get(format!("{}/admin/v1/tenants", app.relay_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(
        on_relay.status(),
        404,
        "the admin API is not on the customers' listener"
    );
    let metrics = http.get(format!("{}/metrics", app.relay_url())).send().await.unwrap();
    assert_eq!(metrics.status(), 404, "nor are the metrics");
    let with_customer_key = http
        .get(format!("{}/admin/v1/tenants", app.admin.url()))
        .bearer_auth(&app.seeded.key)
        .send()
        .await
        .unwrap();
    assert_eq!(with_customer_key.status(), 401);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_operator_reads_and_writes_nothing() {
    let mut app = TestApp::start().await;
    let created = app
        .admin
        .create("/operator-tokens", json!({ "name": "auditor", "role": "read_only" }))
        .await;
    let secret = created["secret"].as_str().unwrap().to_owned();
    app.must_not_leak(secret.clone());
    let auditor = Admin::new(app.admin.url().to_owned(), secret);
    assert_eq!(auditor.call(Method::GET, "/tenants", None).await.0, 200);
    let (status, answer) = auditor
        .call(Method::POST, "/tenants", Some(json!({ "name": "x" })))
        .await;
    assert_eq!(status, 403, "{answer}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_leaves_an_audit_row() {
    let app = TestApp::start().await;
    let page = app.admin.get("/audit?limit=200").await;
    let actions: Vec<&str> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].as_str().unwrap())
        .collect();
    for action in [
        "tenant.create",
        "provider.create",
        "pool.create",
        "credential.create",
        "offer.create",
        "grant.create",
    ] {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
    assert!(
        actions
            .iter()
            .any(|action| action.contains("key") && action.ends_with("create")),
        "{actions:?}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_shown_with_entries_that_sum_to_zero() {
    let app = TestApp::start().await;
    let answer = app.client().openai(&support::openai_body(false)).await;
    app.closed(&answer.request_id()).await;
    let page = app.admin.get("/ledger/transactions").await;
    let transactions = page["data"].as_array().unwrap();
    let kinds: Vec<&str> = transactions
        .iter()
        .map(|transaction| transaction["kind"].as_str().unwrap())
        .collect();
    assert!(
        kinds.contains(&"grant") && kinds.contains(&"usage") && kinds.contains(&"operator_cost"),
        "{kinds:?}"
    );
    for transaction in transactions {
        let sum: i64 = transaction["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                entry["amount_usd"]
                    .as_str()
                    .unwrap()
                    .parse::<domain::Amount>()
                    .unwrap()
                    .nanos()
            })
            .sum();
        assert_eq!(sum, 0, "{transaction}");
    }
    app.finish().await;
}
