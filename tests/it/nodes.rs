//! Two nodes on one database and one Redis. The embedded default has one node, so there these tests end at once.

use std::time::{Duration, Instant};

use domain::Amount;
use reqwest::{Method, StatusCode};
use serde_json::json;
use simulator::{Faults, Rule};
use support::{Admin, Client, KeyOptions, OPENAI_MODEL, SecondNode, TestApp, openai_body};

/// An app with a second node; nothing where nodes cannot share.
async fn two_nodes() -> Option<(TestApp, SecondNode)> {
    let app = TestApp::start().await;
    if !app.backend.is_shared() {
        app.finish().await;
        return None;
    }
    let second = app.start_second_node().await;
    Some((app, second))
}

async fn finish(app: TestApp, second: SecondNode) {
    app.finish_second_node(second).await;
    app.finish().await;
}

async fn wait_for_status(client: &Client, path: &str, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get(path).await.status().as_u16() != status {
        assert!(Instant::now() < deadline, "{path} never answers {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_on_one_node_is_refused_by_the_other() {
    let Some((mut app, second)) = two_nodes().await else {
        return;
    };
    let tenant = app.seeded.tenant.clone();
    let (id, key) = app.key_of(&tenant, KeyOptions::default()).await;
    let there = second.client_with(&key);
    // asked twice, so that the second node has it in its cache
    wait_for_status(&there, "/v1/key", 200).await;
    wait_for_status(&there, "/v1/key", 200).await;
    app.admin.create(&format!("/keys/{id}/revoke"), json!({})).await;
    wait_for_status(&there, "/v1/key", 401).await;
    assert_eq!(there.openai(&openai_body(false)).await.status, 401);
    finish(app, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_token_revoked_on_one_node_is_refused_by_the_other() {
    let Some((mut app, second)) = two_nodes().await else {
        return;
    };
    let created = app
        .admin
        .create("/operator-tokens", json!({ "name": "leaver", "role": "full" }))
        .await;
    let secret = created["secret"].as_str().expect("it is shown once").to_owned();
    app.must_not_leak(secret.clone());
    let leaver = Admin::new(second.admin.url().to_owned(), secret);
    assert_eq!(leaver.call(Method::GET, "/tenants", None).await.0, StatusCode::OK);
    let id = created["token"]["id"].as_str().expect("it has an id");
    app.admin
        .create(&format!("/operator-tokens/{id}/revoke"), json!({}))
        .await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while leaver.call(Method::GET, "/tenants", None).await.0 != StatusCode::UNAUTHORIZED {
        assert!(Instant::now() < deadline, "the other node still lets it in");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    finish(app, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_catalog_on_one_node_counts_on_the_other() {
    let Some((app, second)) = two_nodes().await else {
        return;
    };
    let there = second.client_with(&app.seeded.key);
    let path = format!("/v1/models/{OPENAI_MODEL}");
    wait_for_status(&there, &path, 200).await;
    let offer = format!("/offers/{}", app.seeded.openai_offer);
    app.admin.change(&offer, json!({ "enabled": false })).await;
    wait_for_status(&there, &path, 404).await;
    // and the other way round
    second.admin.change(&offer, json!({ "enabled": true })).await;
    wait_for_status(&app.client(), &path, 200).await;
    wait_for_status(&there, &path, 200).await;
    assert_eq!(there.openai(&openai_body(false)).await.status, 200);
    finish(app, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_a_request_limit() {
    let Some((mut app, second)) = two_nodes().await else {
        return;
    };
    let tenant = app.seeded.tenant.clone();
    let options = KeyOptions {
        requests_per_minute: Some(4),
        ..KeyOptions::default()
    };
    let (_, key) = app.key_of(&tenant, options).await;
    let (here, there) = (app.client_with(&key), second.client_with(&key));
    for client in [&here, &there, &here, &there] {
        let answer = client.openai(&openai_body(false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for client in [&here, &there] {
        let refused = client.openai(&openai_body(false)).await;
        assert_eq!(refused.status, 429, "{}", refused.text());
    }
    finish(app, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_for_one_is_spent_once_over_two_nodes() {
    const CALLS: usize = 60;
    let Some((mut app, second)) = two_nodes().await else {
        return;
    };
    let body = openai_body(true);
    let (_, poor) = app.tenant_with("0", KeyOptions::default()).await;
    let refused = app.client_with(&poor).openai(&body).await;
    let needed: Amount = refused.json()["error"]["needed_usd"]
        .as_str()
        .expect("it says what is needed")
        .parse()
        .expect("an amount");
    let (_, key) = app.tenant_with(&needed.to_string(), KeyOptions::default()).await;
    let faults = Faults {
        hold_before_head: Some("refusals".to_owned()),
        ..Faults::default()
    };
    app.simulator
        .script(Rule {
            faults,
            ..Rule::default()
        })
        .expect("the script is valid");
    let clients = [app.client_with(&key), second.client_with(&key)];
    let mut calls = tokio::task::JoinSet::new();
    for client in clients.iter().cycle().take(CALLS) {
        let (client, body) = (client.clone(), body.clone());
        calls.spawn(async move { client.openai(&body).await });
    }
    for _ in 1..CALLS {
        let answer = calls.join_next().await.expect("a call").expect("it ends");
        assert_eq!(answer.status, 402, "{}", answer.text());
    }
    app.simulator.release("refusals");
    let served = calls.join_next().await.expect("the last call").expect("it ends");
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(app.simulator.counts().requests, 1, "the refused were never sent");
    for client in &clients {
        let closed = client.closed_request(&served.request_id()).await;
        assert_eq!(closed["reason"], "completed", "either node tells what it cost");
    }
    finish(app, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_leaves_the_others_serving_and_its_holds_are_closed_when_it_is_back() {
    let Some((mut app, second)) = two_nodes().await else {
        return;
    };
    let faults = Faults {
        hold_before_head: Some("never".to_owned()),
        ..Faults::default()
    };
    app.simulator
        .script(Rule {
            faults,
            times: Some(1),
            ..Rule::default()
        })
        .expect("the script is valid");
    let (client, body) = (app.client(), openai_body(true));
    let cut = tokio::spawn(async move { client.try_begin("/v1/chat/completions", &body).await.is_err() });
    app.wait_for_holds(1).await;
    app.simulator.wait_until(|log| log.len() == 1).await;
    app.kill();
    assert!(cut.await.expect("it ends"), "the connection was cut");
    let there = second.client_with(&app.seeded.key);
    let answer = there.openai(&openai_body(false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    there.closed_request(&answer.request_id()).await;
    app.restart().await;
    app.wait_for_holds(0).await;
    app.assert_books_are_clean();
    finish(app, second).await;
}
