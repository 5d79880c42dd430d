//! Incidents: opened by rule from durable rows or by an operator, told to everybody without a word about any customer.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use simulator::{Answer, Fixed, Generate, Match, Rule};
use support::{OPENAI_MODEL, TestApp, TestAppOptions, openai_body};

/// Rules that look often, at windows as short as a test.
fn quick(more: &str) -> TestAppOptions {
    TestAppOptions {
        config: format!("[incidents]\ncheck_every_s = 1\n{more}\n"),
        ..TestAppOptions::default()
    }
}

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

async fn ask(app: &TestApp) -> (StatusCode, Value) {
    let answer = app.client().openai(&openai_body(true)).await;
    let closed = app.closed(&answer.request_id()).await;
    (answer.status, closed)
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
async fn an_operator_opens_tells_attaches_and_resolves() {
    let app = TestApp::start_with(quick("")).await;
    let (_, first) = ask(&app).await;
    let (_, second) = ask(&app).await;
    let open = async |key: &str, title: &str| {
        let body = json!({ "title": title, "text": "Some answers were slow.\nWe look into it." });
        let headers = [("idempotency-key", key)];
        let (status, answer) = app
            .admin
            .call_with(Method::POST, "/incidents", Some(body), &headers)
            .await;
        (status.as_u16(), answer)
    };
    let (status, opened) = open("one", "Slow <answers> & more").await;
    assert_eq!(status, 201, "{opened}");
    assert_eq!(open("one", "Slow <answers> & more").await.1, opened);
    assert_eq!(open("one", "Other").await.0, 409);
    assert_eq!(open("two", "a\nb").await.0, 400);
    let id = opened["id"].as_str().unwrap();
    let path = format!("/incidents/{id}");
    let attach = async |body: Value| {
        let (status, answer) = app
            .admin
            .call(Method::POST, &format!("{path}/requests"), Some(body))
            .await;
        (status.as_u16(), answer)
    };
    assert_eq!(attach(json!({ "requests": [first["id"]] })).await.1["attached"], 1);
    let period =
        |model: &str| json!({ "filter": { "from": "2026-01-01T00:00:00Z", "to": first["closed_at"], "model": model } });
    assert_eq!(attach(period("x/y")).await.0, 400, "more than 31 days");
    let filter = |model: &str| {
        let now = domain::clock::UnixMs::from_rfc3339(second["closed_at"].as_str().unwrap()).unwrap();
        json!({ "filter": {
            "from": now.plus_ms(-3_600_000).to_rfc3339(), "to": now.plus_ms(1_000).to_rfc3339(), "model": model,
        } })
    };
    assert_eq!(attach(filter("x/y")).await.1["attached"], 0);
    let (_, attached) = attach(filter(OPENAI_MODEL)).await;
    assert_eq!(
        (&attached["attached"], &attached["next_cursor"]),
        (&json!(1), &json!(null)),
        "one was there"
    );
    assert_eq!(attach(filter(OPENAI_MODEL)).await.1["attached"], 0);
    assert_eq!(attach(json!({})).await.0, 400);
    let unknown = domain::RequestId::generate().to_string();
    assert_eq!(attach(json!({ "requests": [unknown] })).await.0, 400);

    let update = json!({ "text": "It was the network." });
    let headers = [("idempotency-key", "update")];
    for _ in 0..2 {
        let (status, answer) = app
            .admin
            .call_with(Method::POST, &format!("{path}/updates"), Some(update.clone()), &headers)
            .await;
        assert_eq!((status.as_u16(), answer["updates"].as_array().unwrap().len()), (201, 2));
    }
    for _ in 0..2 {
        let (status, answer) = app
            .admin
            .call(
                Method::POST,
                &format!("{path}/resolve"),
                Some(json!({ "text": "Over." })),
            )
            .await;
        assert_eq!((status.as_u16(), &answer["state"]), (200, &json!("resolved")));
    }
    let (status, _) = app
        .admin
        .call_with(
            Method::POST,
            &format!("{path}/updates"),
            Some(json!({ "text": "x" })),
            &[("idempotency-key", "late")],
        )
        .await;
    assert_eq!(status, 409);

    // what everybody reads
    let shown = feed(&app, "").await;
    let cents = |closed: &Value| closed["cost_usd"].as_str().unwrap().parse::<domain::Amount>().unwrap();
    let charged = cents(&first).checked_add(cents(&second)).unwrap();
    assert_eq!(
        (&shown[0]["requests"], &shown[0]["free_requests"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(shown[0]["charged_usd"], charged.to_string());
    assert_eq!(shown[0]["updates"].as_array().unwrap().len(), 3);
    assert_eq!(feed(&app, "?state=open").await.len(), 0);
    assert_eq!(feed(&app, "?until=2026-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(public(&app, "/v1/incidents?state=x").await.0, 400);
    assert_eq!(
        app.closed(first["id"].as_str().unwrap()).await["incidents"],
        json!([id])
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_paged_cacheable_and_valid_rss() {
    let app = TestApp::start_with(quick("")).await;
    for place in 0..3 {
        let body = json!({ "title": format!("<No {place}> & \"more\""), "text": "]]> <b>text</b>" });
        let key = format!("k{place}");
        let headers = [("idempotency-key", key.as_str())];
        app.admin
            .call_with(Method::POST, "/incidents", Some(body), &headers)
            .await;
    }
    let hidden = json!({ "title": "hidden", "text": "not for everybody", "public": false });
    app.admin
        .call_with(Method::POST, "/incidents", Some(hidden), &[("idempotency-key", "h")])
        .await;
    let mut titles = Vec::new();
    let mut cursor = String::new();
    loop {
        let (_, text) = public(&app, &format!("/v1/incidents?limit=1{cursor}")).await;
        let page: Value = serde_json::from_str(&text).unwrap();
        for incident in page["data"].as_array().unwrap() {
            titles.push(incident["title"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let wanted: Vec<String> = (0..3).rev().map(|place| format!("<No {place}> & \"more\"")).collect();
    assert_eq!(titles, wanted);

    let url = format!("{}/v1/incidents.rss", app.relay_url());
    let response = reqwest::get(&url).await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("cache-control"), "public, max-age=10");
    assert!(header("content-type").starts_with("application/rss+xml"));
    let tag = header("etag");
    let channel = rss::Channel::read_from(response.text().await.unwrap().as_bytes()).unwrap();
    assert_eq!(channel.items().len(), 3);
    let item = &channel.items()[0];
    assert_eq!(item.title(), Some(wanted[0].as_str()));
    assert!(item.description().unwrap().contains("]]> <b>text</b>"));
    assert!(item.pub_date().is_some());
    let link = item.link().unwrap();
    assert!(link.ends_with(item.guid().unwrap().value()), "{link}");
    assert_eq!(reqwest::get(link).await.unwrap().status(), 200);
    let again = reqwest::Client::new()
        .get(&url)
        .header("if-none-match", tag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 304);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_requests_of_an_incident_are_refunded_once() {
    let app = TestApp::start_with(quick("")).await;
    let (_, first) = ask(&app).await;
    let (_, second) = ask(&app).await;
    app.simulator.script(fails()).unwrap();
    let (_, free) = ask(&app).await;
    let body = json!({ "title": "Bad answers", "text": "They are refunded." });
    let (_, opened) = app
        .admin
        .call_with(Method::POST, "/incidents", Some(body), &[("idempotency-key", "one")])
        .await;
    let path = format!("/incidents/{}", opened["id"].as_str().unwrap());
    let ids = json!({ "requests": [first["id"], second["id"], free["id"]] });
    app.admin.create(&format!("{path}/requests"), ids).await;
    let cost = |closed: &Value| closed["cost_usd"].as_str().unwrap().parse::<domain::Amount>().unwrap();
    let total = cost(&first).checked_add(cost(&second)).unwrap();
    let available = async || {
        let key = app.client().key().await;
        key["balance"]["available_usd"]
            .as_str()
            .unwrap()
            .parse::<domain::Amount>()
            .unwrap()
    };
    let before = available().await;

    let reason = json!({ "reason": "the incident" });
    let preview = app
        .admin
        .create(&format!("{path}/refunds/preview"), reason.clone())
        .await;
    assert_eq!(
        (&preview["refunded"], &preview["amount_usd"]),
        (&json!(2), &json!(total.to_string()))
    );
    assert_eq!(available().await, before, "a preview changes nothing");
    // one has been given back by itself, for another reason
    let alone = json!({ "kind": "refund", "reason": "asked for" });
    let one = format!("/requests/{}/corrections", second["id"].as_str().unwrap());
    let (status, answer) = app
        .admin
        .call_with(Method::POST, &one, Some(alone), &[("idempotency-key", "alone")])
        .await;
    assert_eq!(status, 201, "{answer}");
    for (refunded, amount) in [(1, cost(&first)), (0, domain::Amount::ZERO)] {
        let done = app.admin.create(&format!("{path}/refunds"), reason.clone()).await;
        assert_eq!(
            (&done["refunded"], &done["amount_usd"], &done["next_cursor"]),
            (&json!(refunded), &json!(amount.to_string()), &json!(null)),
            "{done}"
        );
        assert_eq!(done["refused"][0]["request"], second["id"], "nothing is left of it");
    }
    assert_eq!(available().await, before.checked_add(total).unwrap());
    let shown = feed(&app, "?state=open").await;
    assert_eq!(shown[0]["refunded_usd"], cost(&first).to_string(), "{shown:?}");
    assert_eq!(app.closed(first["id"].as_str().unwrap()).await["net_cost_usd"], "0.00");
    // a call that broke off between the refund and its note is finished by the next one
    app.execute("UPDATE incident_request SET refunded = 0").await;
    app.execute("UPDATE incident SET refunded = 0").await;
    let done = app.admin.create(&format!("{path}/refunds"), reason).await;
    assert_eq!((&done["refunded"], &done["repeated"]), (&json!(0), &json!(1)), "{done}");
    assert_eq!(
        feed(&app, "?state=open").await[0]["refunded_usd"],
        cost(&first).to_string()
    );
    assert_eq!(available().await, before.checked_add(total).unwrap());
    app.finish().await;
}
