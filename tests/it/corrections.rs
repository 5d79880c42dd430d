//! Corrections of charges that were made: what the operator does, what its customer sees, and that nothing is given twice.

use std::time::Duration;

use domain::{Amount, clock::UnixMs};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{KeyOptions, TestApp, openai_body};

use crate::charges::cost;

fn usd(value: &Value) -> Amount {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no amount: {value}"))
        .parse()
        .unwrap()
}

async fn available(app: &TestApp) -> Amount {
    usd(&app.client().key().await["balance"]["available_usd"])
}

/// A request that was charged.
async fn charged(app: &TestApp) -> (String, Amount) {
    let answer = app.client().openai(&openai_body(true)).await;
    let id = answer.request_id();
    let closed = app.closed(&id).await;
    (id, cost(&closed))
}

async fn correct(app: &TestApp, request: &str, key: &str, body: Value) -> (StatusCode, Value) {
    let path = format!("/requests/{request}/corrections");
    let headers = [("idempotency-key", key)];
    app.admin.call_with(Method::POST, &path, Some(body), &headers).await
}

async fn correct_all(app: &TestApp, key: &str, body: &Value) -> (StatusCode, Value) {
    let headers = [("idempotency-key", key)];
    app.admin
        .call_with(Method::POST, "/corrections", Some(body.clone()), &headers)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_comes_back_once_and_is_seen_everywhere() {
    let app = TestApp::start().await;
    let before = available(&app).await;
    let (id, charge) = charged(&app).await;
    let part = Amount::from_nanos(charge.nanos() / 3);
    let body = json!({ "kind": "refund", "amount_usd": part.to_string(), "reason": "the answer was cut" });

    let preview = app
        .admin
        .create(&format!("/requests/{id}/corrections/preview"), body.clone())
        .await;
    assert_eq!(usd(&preview["net_charge_usd"]), charge.less(part), "{preview}");
    assert_eq!(available(&app).await, before.less(charge), "a preview changes nothing");

    let (status, done) = correct(&app, &id, "one", body.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{done}");
    assert_eq!(usd(&done["amount_usd"]), part);
    let (status, again) = correct(&app, &id, "one", body.clone()).await;
    assert_eq!((status, &again), (StatusCode::CREATED, &done));
    let other = json!({ "kind": "refund", "reason": "another" });
    assert_eq!(correct(&app, &id, "one", other.clone()).await.0, StatusCode::CONFLICT);
    assert_eq!(available(&app).await, before.less(charge).checked_add(part).unwrap());

    let seen = app.closed(&id).await;
    assert_eq!((cost(&seen), usd(&seen["net_cost_usd"])), (charge, charge.less(part)));
    let correction = &seen["corrections"][0];
    assert_eq!(
        (&correction["kind"], &correction["transaction"]),
        (&json!("refund"), &done["transaction"])
    );
    assert!(correction["explanation"].as_str().unwrap().contains("given back"));
    assert!(correction.get("actor").is_none(), "who did it is the operator's");

    let shown = app.admin.get(&format!("/requests/{id}")).await;
    assert_eq!(
        usd(&shown["charge"]["amount_usd"]),
        charge,
        "the charge stands as it was written"
    );
    assert_eq!(usd(&shown["net_charge_usd"]), charge.less(part));
    assert_eq!(shown["corrections"].as_array().unwrap().len(), 1);
    let page = app.admin.get("/requests").await;
    assert_eq!(page["data"][0]["corrections"], shown["corrections"]);

    // the rest, and then nothing
    let (status, rest) = correct(&app, &id, "two", other.clone()).await;
    assert_eq!(
        (status, usd(&rest["net_charge_usd"])),
        (StatusCode::CREATED, Amount::ZERO),
        "{rest}"
    );
    let (status, refused) = correct(&app, &id, "three", other).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("rule_broken"))
    );
    assert_eq!(available(&app).await, before);
    assert_margin(&app, charge, Amount::ZERO).await;

    let goodwill = json!({ "kind": "goodwill", "amount_usd": "0.000001", "reason": "sorry" });
    assert_eq!(correct(&app, &id, "four", goodwill).await.0, StatusCode::CREATED);
    assert_eq!(available(&app).await.nanos(), before.nanos() + 1_000);
    assert_margin(&app, charge, Amount::from_nanos(1_000)).await;
    let audit = app.admin.get("/audit").await;
    let made = audit["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["action"] == "correction.create");
    assert_eq!(made.count(), 3, "{audit}");
    app.finish().await;
}

/// All of the charge was given back.
async fn assert_margin(app: &TestApp, charge: Amount, goodwill: Amount) {
    const HOUR_MS: i64 = 3_600_000;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let [from, to] = [now - HOUR_MS, now + HOUR_MS].map(|at| UnixMs(at).to_rfc3339());
    let margins = app
        .admin
        .get(&format!("/margins?from={from}&to={to}&group_by=tenant"))
        .await;
    let row = &margins["data"][0];
    assert!(charge > Amount::ZERO);
    assert_eq!(
        (usd(&row["revenue_usd"]), usd(&row["goodwill_usd"])),
        (Amount::ZERO, goodwill),
        "{margins}"
    );
    let lost = usd(&row["cost_usd"]).nanos() + goodwill.nanos();
    assert_eq!(usd(&row["margin_usd"]).nanos(), -lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_by_the_field() {
    let app = TestApp::start().await;
    let (id, charge) = charged(&app).await;
    let more = Amount::from_nanos(charge.nanos() + 1).to_string();
    for (body, status, field) in [
        (json!({ "kind": "refund" }), 400, Some("reason")),
        (json!({ "kind": "refund", "reason": " " }), 400, Some("reason")),
        (
            json!({ "kind": "refund", "reason": "x", "amount_usd": "0" }),
            400,
            Some("amount_usd"),
        ),
        (
            json!({ "kind": "refund", "reason": "x", "amount_usd": "-1" }),
            400,
            Some("amount_usd"),
        ),
        (json!({ "kind": "true_up", "reason": "x" }), 400, Some("amount_usd")),
        (json!({ "kind": "goodwill", "reason": "x" }), 400, Some("amount_usd")),
        (json!({ "kind": "refund", "reason": "x", "to": "me" }), 400, Some("to")),
        (
            json!({ "kind": "refund", "reason": "x", "amount_usd": more }),
            422,
            None,
        ),
        (
            json!({ "kind": "goodwill", "reason": "x", "amount_usd": "5" }),
            422,
            None,
        ),
    ] {
        let (found, answer) = correct(&app, &id, "k", body.clone()).await;
        assert_eq!(
            (found.as_u16(), answer["error"]["field"].as_str()),
            (status, field),
            "{body}: {answer}"
        );
    }
    let body = json!({ "kind": "refund", "reason": "x" });
    let path = format!("/requests/{id}/corrections");
    let (status, _) = app.admin.call(Method::POST, &path, Some(body.clone())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "an idempotency key is needed");
    let unknown = "req_0193a1c2e4f87d50a1b2c3d4e5f60718";
    assert_eq!(correct(&app, unknown, "k", body).await.0, StatusCode::NOT_FOUND);
    for requests in [json!([]), json!([id, id])] {
        let list = json!({ "requests": requests, "kind": "refund", "reason": "x" });
        assert_eq!(correct_all(&app, "l", &list).await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!(
        app.number("SELECT COUNT(*) FROM tx WHERE kind = 'request_refund'")
            .await,
        0
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_is_gone_on_with_and_nobody_is_refunded_twice() {
    let mut app = TestApp::start().await;
    let before = available(&app).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(app.client().openai(&openai_body(false)).await.request_id());
    }
    for id in &ids {
        app.closed(id).await;
    }
    let list = json!({ "requests": ids, "kind": "refund", "reason": "an outage" });
    let preview = app.admin.create("/corrections/preview", list.clone()).await;
    assert_eq!((&preview["corrected"], &preview["refused"]), (&json!(30), &json!(0)));
    assert_eq!(
        app.number("SELECT COUNT(*) FROM tx WHERE kind = 'request_refund'")
            .await,
        0
    );

    // the node dies somewhere in it
    let begun = correct_all(&app, "outage-7", &list);
    tokio::select! {
        _ = begun => {}
        () = some_are_corrected(&app) => {}
    }
    app.kill();
    app.restart().await;
    let (status, done) = correct_all(&app, "outage-7", &list).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    let count = |name: &str| done[name].as_u64().unwrap();
    assert_eq!(
        (count("corrected") + count("repeated"), count("refused")),
        (30, 0),
        "{done}"
    );
    assert!(count("repeated") > 0);
    assert_eq!(done["amount_usd"], preview["amount_usd"]);
    assert_eq!(available(&app).await, before);
    let (_, again) = correct_all(&app, "outage-7", &list).await;
    assert_eq!((&again["corrected"], &again["repeated"]), (&json!(0), &json!(30)));
    let other = json!({ "requests": [ids[0]], "kind": "refund", "reason": "an outage" });
    assert_eq!(correct_all(&app, "outage-7", &other).await.0, StatusCode::CONFLICT);
    // by another key there is nothing left to give
    let (_, refused) = correct_all(&app, "outage-8", &list).await;
    assert_eq!(
        (&refused["refused"], &refused["amount_usd"]),
        (&json!(30), &json!("0.00"))
    );
    assert_eq!(available(&app).await, before);
    app.finish().await;
}

async fn some_are_corrected(app: &TestApp) {
    while app
        .number("SELECT COUNT(*) FROM tx WHERE kind = 'request_refund'")
        .await
        < 3
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_back_is_not_used_of_the_budget() {
    let mut app = TestApp::start().await;
    let options = KeyOptions {
        budget: Some(("1".to_owned(), "day")),
        ..KeyOptions::default()
    };
    let (_, key) = app.tenant_with("5", options).await;
    let client = app.client_with(&key);
    let id = client.openai(&openai_body(true)).await.request_id();
    let charge = cost(&client.closed_request(&id).await);
    let used = async || usd(&client.key().await["budget"]["used_usd"]);
    assert_eq!(used().await, charge);
    let part = Amount::from_nanos(1_000);
    let body = json!({ "kind": "true_up", "amount_usd": part.to_string(), "reason": "counted again" });
    assert_eq!(correct(&app, &id, "a", body).await.0, StatusCode::CREATED);
    assert_eq!(used().await, charge.less(part));
    app.finish().await;
}
