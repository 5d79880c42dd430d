//! Incidents that operators open, tell about, refund and resolve; the feed that everybody reads.

use reqwest::Method;
use serde_json::{Value, json};
use support::{OPENAI_MODEL, TestApp};

use super::{ask, fails, feed, public, quick};

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
    let forged = reqwest::Client::new()
        .get(&url)
        .header("x-forwarded-host", "evil.example");
    let response = forged.send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        header("cache-control"),
        "private, max-age=10",
        "its links depend on the caller"
    );
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
