//! Incidents that rules open, and what the rules do.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use simulator::{Answer, Faults, Generate, Hold, Match, Rule};
use support::{OPENAI_MODEL, TestApp, TestAppOptions, openai_body};

use super::{ask, fails, feed, public, quick};

fn reports(model: &str, upstream: Option<&str>) -> Rule {
    Rule {
        matching: Match {
            model: upstream.map(str::to_owned),
            ..Match::default()
        },
        answer: Answer::Generate(Generate {
            served_model: Some(model.to_owned()),
            ..Generate::default()
        }),
        ..Rule::default()
    }
}

/// Waits until the feed shows what is wanted.
async fn wait_for(app: &TestApp, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let shown = feed(app, "").await;
        if wanted(&shown) {
            return shown;
        }
        assert!(Instant::now() < deadline, "{what}: {shown:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A second offer of the same model, tried after the first, under another name.
async fn second_offer(app: &TestApp) -> String {
    let offer = app
        .admin
        .create(
            "/offers",
            json!({ "model": OPENAI_MODEL, "pool": app.seeded.openai_pool, "upstream_model_id": "second", "priority": 5 }),
        )
        .await;
    offer["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_answers_as_another_model_goes_out_and_the_next_requests_go_elsewhere() {
    let app = TestApp::start_with(quick("substitutions = 2")).await;
    second_offer(&app).await;
    app.simulator
        .script(reports("sk-anything-at-all", Some("gpt-4o")))
        .unwrap();
    let offer = format!("/offers/{}", app.seeded.openai_offer);
    let mut concerned = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let closed = loop {
        let (status, closed) = ask(&app).await;
        // no request is lost on the way
        assert_eq!(status, 200, "{closed}");
        if closed["served_model"] == "second" {
            break closed;
        }
        assert_eq!(closed["reason"], "model_substituted", "{closed}");
        concerned.push(closed["id"].as_str().unwrap().to_owned());
        assert!(Instant::now() < deadline, "the offer stays for sale");
    };
    assert_eq!(closed["state"], "settled");
    assert!(concerned.len() >= 2);
    assert_eq!(app.admin.get(&offer).await["enabled"], false);
    let count = concerned.len();
    let shown = wait_for(&app, "all are listed", |shown| {
        shown.len() == 1 && shown[0]["requests"] == count
    })
    .await;
    let incident = &shown[0];
    assert_eq!(
        (&incident["kind"], &incident["state"]),
        (&json!("substitution"), &json!("open"))
    );
    assert_eq!(incident["free_requests"], count);
    assert_eq!(
        (&incident["charged_usd"], &incident["refunded_usd"]),
        (&json!("0.00"), &json!("0.00"))
    );
    assert_eq!(incident["updates"].as_array().unwrap().len(), 2, "{incident}");
    // each of them says so to its owner, and nobody else learns of it
    let id = incident["id"].as_str().unwrap();
    assert_eq!(app.closed(&concerned[0]).await["incidents"], json!([id]));
    assert_eq!(closed["incidents"], json!([]));
    let text = incident.to_string();
    for secret in [
        &app.seeded.tenant,
        &app.seeded.key_id,
        &concerned[0],
        &app.seeded.openai_credential,
        "sk-anything-at-all",
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    // the operator sees which, and as what
    let requests = app.admin.get(&format!("/incidents/{id}/requests")).await;
    assert_eq!(requests["data"].as_array().unwrap().len(), count);
    assert_eq!(requests["data"][0]["reported"], "sk-anything-at-all");
    let audit = app.admin.get("/audit?limit=200").await;
    let by_rule = |action: &str| {
        let rows = audit["data"].as_array().unwrap();
        rows.iter()
            .any(|row| row["action"] == action && row["actor"] == "system:incidents")
    };
    assert!(by_rule("offer.update") && by_rule("incident.open"), "{audit}");

    // put back by the operator it is sold again, and counts from then on
    app.simulator.reset();
    app.admin.change(&offer, json!({ "enabled": true })).await;
    let (_, again) = ask(&app).await;
    assert_eq!(again["served_model"], "gpt-4o", "{again}");
    app.simulator.script(reports("x", Some("gpt-4o"))).unwrap();
    let (_, once) = ask(&app).await;
    assert_eq!(once["reason"], "model_substituted");
    wait_for(&app, "it is listed", |shown| shown[0]["requests"] == count + 1).await;
    assert_eq!(app.admin.get(&offer).await["enabled"], true, "one is not two");
    app.finish().await;
}

/// Requests that were under way when the offer went out end after the operator has closed the matter and put it back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_admitted_before_an_offer_was_put_back_does_not_count_against_it() {
    let app = TestApp::start_with(quick("substitutions = 2")).await;
    let pause = Faults {
        hold_after_events: Some(Hold {
            gate: "rest".to_owned(),
            events: 3,
        }),
        ..Faults::default()
    };
    let held = Rule {
        times: Some(2),
        faults: pause,
        ..reports("other", None)
    };
    app.simulator.script(held).unwrap();
    let client = app.client();
    let mut under_way = Vec::new();
    for _ in 0..2 {
        under_way.push(client.begin("/v1/chat/completions", &openai_body(true)).await);
    }
    app.simulator.script(reports("other", None)).unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&app).await.1["reason"], "model_substituted");
    }
    let offer = format!("/offers/{}", app.seeded.openai_offer);
    let shown = wait_for(&app, "the offer goes out", |shown| {
        shown
            .first()
            .is_some_and(|first| first["updates"].as_array().unwrap().len() == 2)
    })
    .await;
    assert_eq!(app.admin.get(&offer).await["enabled"], false);
    let incident = shown[0]["id"].as_str().unwrap();
    let resolve = format!("/incidents/{incident}/resolve");
    let (status, _) = app
        .admin
        .call(
            Method::POST,
            &resolve,
            Some(json!({ "text": "The provider has mended it." })),
        )
        .await;
    assert_eq!(status, 200);
    app.admin.change(&offer, json!({ "enabled": true })).await;

    app.simulator.release("rest");
    for response in under_way {
        response.bytes().await.unwrap();
    }
    let of_them = |shown: &[Value]| shown[0]["state"] == "open" && shown[0]["requests"] == 2;
    wait_for(&app, "they are listed", of_them).await;
    assert_eq!(
        app.admin.get(&offer).await["enabled"],
        true,
        "they were admitted before"
    );
    // what comes after counts
    for _ in 0..2 {
        assert_eq!(ask(&app).await.1["reason"], "model_substituted");
    }
    wait_for(&app, "they are listed too", |shown| shown[0]["requests"] == 4).await;
    assert_eq!(app.admin.get(&offer).await["enabled"], false);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_leaves_behind_the_next_one_finds() {
    let mut app = TestApp::start_with(TestAppOptions {
        config: "[incidents]\ncheck_every_s = 3600\nsubstitutions = 1\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    app.simulator.script(reports("other", None)).unwrap();
    let (_, closed) = ask(&app).await;
    assert!(
        feed(&app, "").await.is_empty(),
        "the rules have not looked since the start"
    );
    app.kill();
    app.restart().await;
    let shown = wait_for(&app, "it is found", |shown| !shown.is_empty()).await;
    assert_eq!(shown[0]["requests"], 1);
    assert_eq!(
        app.closed(closed["id"].as_str().unwrap()).await["incidents"],
        json!([shown[0]["id"]])
    );
    let offer = app.admin.get(&format!("/offers/{}", app.seeded.openai_offer)).await;
    assert_eq!(offer["enabled"], false);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_opens_and_ends_by_rule() {
    let rules = "outage_attempts = 4\noutage_percent = 60\noutage_window_s = 5";
    let app = TestApp::start_with(quick(rules)).await;
    app.simulator.script(fails()).unwrap();
    let mut ids = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while feed(&app, "?state=open").await.is_empty() {
        let (status, closed) = ask(&app).await;
        assert_eq!((status.as_u16(), &closed["reason"]), (502, &json!("upstream_failed")));
        ids.push(closed["id"].as_str().unwrap().to_owned());
        assert!(Instant::now() < deadline, "no incident opens");
    }
    assert!(ids.len() >= 4, "{}", ids.len());
    let shown = feed(&app, "?state=open").await;
    assert_eq!(
        (&shown[0]["kind"], &shown[0]["title"]),
        (&json!("outage"), &json!("openai fails"))
    );
    app.wait_for_metric("truerelay_incidents_open 1").await;
    app.simulator.reset();
    // it works again, and the failures grow old
    let shown = loop {
        assert_eq!(ask(&app).await.0, 200);
        let shown = feed(&app, "?state=resolved").await;
        if !shown.is_empty() {
            break shown;
        }
        assert!(
            Instant::now() < deadline + Duration::from_secs(60),
            "the incident does not end"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(shown[0]["requests"].as_u64().unwrap() >= 4, "{shown:?}");
    assert_eq!(shown[0]["free_requests"], shown[0]["requests"]);
    assert_ne!(shown[0]["resolved_at"], json!(null));
    assert_eq!(feed(&app, "").await.len(), 1, "one outage is one incident");
    assert_eq!(app.closed(&ids[0]).await["incidents"], json!([shown[0]["id"]]));
    app.wait_for_metric("truerelay_incidents_open 0").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_that_differs_from_the_books_opens_one_that_only_operators_see() {
    let app = TestApp::start_with(quick("")).await;
    let (_, closed) = ask(&app).await;
    assert_eq!(closed["state"], "settled");
    let booked = app
        .number("SELECT CAST(-SUM(amount) AS BIGINT) FROM entry WHERE account = 'provider_payable:openai'")
        .await;
    let usd = |nanos: i64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let enter = async |key: &str, billed: i64, to: &str| {
        let body = json!({ "provider": "openai", "from": "2026-01-01T00:00:00Z", "to": to, "billed_usd": usd(billed) });
        let headers = [("idempotency-key", key)];
        let (status, answer) = app
            .admin
            .call_with(Method::POST, "/provider-statements", Some(body), &headers)
            .await;
        (status.as_u16(), answer)
    };
    // nothing was booked then
    let (status, old) = enter("old", 0, "2026-02-01T00:00:00Z").await;
    assert_eq!(status, 201, "{old}");
    let now = closed["closed_at"].as_str().unwrap();
    let now = domain::clock::UnixMs::from_rfc3339(now)
        .unwrap()
        .plus_ms(1)
        .to_rfc3339();
    let (_, fits) = enter("fits", booked + booked / 200, &now).await;
    let (_, differs) = enter("differs", booked + booked / 50, &now).await;
    assert_eq!(
        enter("differs", booked + booked / 50, &now).await.1,
        differs,
        "a repetition is one"
    );
    assert_eq!(enter("differs", booked, &now).await.0, 409);
    assert_eq!(enter("future", 1, "2030-01-01T00:00:00Z").await.0, 400);
    let deadline = Instant::now() + Duration::from_secs(60);
    let rows = loop {
        let rows = app.admin.get("/provider-statements").await["data"]
            .as_array()
            .unwrap()
            .clone();
        if rows.iter().all(|row| !row["checked_at"].is_null()) {
            break rows;
        }
        assert!(Instant::now() < deadline, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let of = |entered: &Value| rows.iter().find(|row| row["id"] == entered["id"]).unwrap().clone();
    assert_eq!(
        (rows.len(), &of(&old)["incident"], &of(&fits)["incident"]),
        (3, &json!(null), &json!(null))
    );
    assert_eq!(of(&fits)["booked_usd"], of(&differs)["booked_usd"]);
    let incident = of(&differs)["incident"].as_str().unwrap().to_owned();
    let told = app.admin.get(&format!("/incidents/{incident}")).await;
    assert_eq!(
        (&told["kind"], &told["public"]),
        (&json!("billing_drift"), &json!(false))
    );
    assert_eq!(public(&app, &format!("/v1/incidents/{incident}")).await.0, 404);
    assert!(feed(&app, "").await.is_empty());
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_stops_to_sell_it() {
    let app = TestApp::start_with(quick("substitutions = 1")).await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    second_offer(&app).await;
    let other_node = app.start_second_node().await;
    app.simulator.script(reports("x", Some("gpt-4o"))).unwrap();
    let (_, closed) = ask(&app).await;
    assert_eq!(closed["reason"], "model_substituted");
    let client = other_node.client_with(&app.seeded.key);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = client.openai(&support::openai_body(false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let closed = client.closed_request(&answer.request_id()).await;
        if closed["served_model"] == "second" {
            break;
        }
        assert!(Instant::now() < deadline, "the other node goes on selling it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let shown = wait_for(&app, "one incident", |shown| !shown.is_empty()).await;
    assert_eq!(shown.len(), 1, "whichever node sees it: {shown:?}");
    app.finish_second_node(other_node).await;
    app.finish().await;
}
