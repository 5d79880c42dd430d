//! The admin API from outside: listeners, roles, audit.

use reqwest::Method;
use serde_json::json;
use simulator::{Faults, Rule};
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
async fn a_node_is_shown_with_what_it_holds_and_a_retirement_stops_nobody() {
    let app = TestApp::start().await;
    let paused = Faults {
        hold_before_head: Some("rest".to_owned()),
        ..Faults::default()
    };
    app.simulator
        .script(Rule {
            faults: paused,
            ..Rule::default()
        })
        .unwrap();
    let client = app.client();
    let call = tokio::spawn(async move { client.openai(&support::openai_body(true)).await });
    app.wait_for_holds(1).await;
    let nodes = app.admin.get("/nodes").await;
    let node = &nodes["data"][0];
    assert_eq!(
        (nodes["data"].as_array().unwrap().len(), &node["boots"]),
        (1, &json!(1))
    );
    assert_eq!((&node["open_holds"], &node["retired_at"]), (&json!(1), &json!(null)));
    let held: domain::Amount = node["held_usd"].as_str().unwrap().parse().unwrap();
    assert!(!held.is_zero() && !held.is_negative());

    let path = format!("/nodes/{}/retire", node["id"].as_str().unwrap());
    let retired = app.admin.create(&path, json!({ "reason": "a mistake" })).await;
    assert_eq!(
        (&retired["holds_to_close"], &retired["held_to_close_usd"]),
        (&json!(1), &node["held_usd"])
    );
    assert!(retired["node"]["retired_at"].is_string() && retired["what_happens"].is_string());
    let audit = app.admin.get("/audit?limit=1").await;
    assert_eq!(audit["data"][0]["action"], "node.retire");

    app.simulator.release("rest");
    assert_eq!(call.await.unwrap().status, 200);
    app.simulator.reset();
    let next = app.client().openai(&support::openai_body(false)).await;
    assert_eq!(next.status, 200, "a node that still runs goes on: {}", next.text());
    assert_eq!(app.closed(&next.request_id()).await["reason"], "completed");
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
