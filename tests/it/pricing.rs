//! The public price list, notice and cancellation over HTTP, tiers, margins, and what a change would do.

use std::time::{Duration, Instant};

use domain::{Amount, clock::UnixMs};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{KeyOptions, TestApp, TestAppOptions, openai_body};

/// Asks without a key.
async fn list(app: &TestApp, query: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = reqwest::Client::new().get(format!("{}/v1/pricing{query}", app.relay_url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

async fn listed(app: &TestApp, query: &str) -> Value {
    let answer = list(app, query, &[]).await;
    assert_eq!(answer.status(), 200, "{query}");
    answer.json().await.expect("JSON")
}

fn offer_of<'a>(list: &'a Value, model: &str) -> &'a Value {
    let models = list["models"].as_array().expect("models");
    let model = models.iter().find(|found| found["id"] == model).expect("the model");
    &model["offers"][0]
}

fn price_of(offer: &Value, class: &str) -> String {
    let prices = offer["price"]["prices"].as_array().expect("prices");
    let line = prices.iter().find(|line| line["class"] == class).expect("the class");
    line["price_usd"].as_str().expect("text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_read_the_current_price_list() {
    let app = TestApp::start().await;
    let answer = list(&app, "", &[]).await;
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert!(etag.starts_with('"'), "a strong validator: {etag}");
    assert!(
        answer.headers()["cache-control"]
            .to_str()
            .unwrap()
            .starts_with("public, max-age=")
    );
    let current: Value = answer.json().await.unwrap();
    assert_eq!(
        (&current["notice_days"], &current["currency"]),
        (&json!(7), &json!("USD"))
    );
    let offer = offer_of(&current, "openai/gpt-4o");
    assert_eq!(offer["price"]["multiplier"], "1.7");
    assert_eq!(offer["price"]["list_price"]["price"]["input"], "2.5");
    assert_eq!(price_of(offer, "input"), "4.25");
    for text in ["version", "effective_at", "published_at"] {
        assert!(!offer["price"][text].is_null(), "{text} is missing: {offer}");
    }
    let again = list(&app, "", &[("if-none-match", &format!("W/\"x\", {etag}"))]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert!(again.bytes().await.unwrap().is_empty());
    assert_eq!(
        listed(&app, "?model=gpt-4o").await["models"].as_array().unwrap().len(),
        1
    );

    let csv = list(&app, "?model=gpt-4o", &[("accept", "text/csv")]).await;
    assert!(csv.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
    let csv = csv.text().await.unwrap();
    assert_eq!(
        csv,
        list(&app, "?model=gpt-4o&format=csv", &[]).await.text().await.unwrap()
    );
    let line = csv.lines().find(|line| line.contains(",input,base,")).expect("a line");
    assert!(line.contains(",1M tokens,2.5,1.7,4.25,"), "{line}");

    let published = offer["price"]["published_at"].as_str().unwrap();
    let then = listed(&app, &format!("?at={published}&model=openai/gpt-4o")).await;
    assert_eq!(price_of(offer_of(&then, "openai/gpt-4o"), "output"), "17");
    assert_eq!(listed(&app, "?at=2000-01-01T00:00:00Z").await["models"], json!([]));
    for (bad, status) in [
        ("?at=yesterday", 400),
        ("?format=xml", 400),
        ("?history=true", 400),
        ("?colour=red", 400),
        ("?model=nobody/nothing", 404),
        ("?tier=nobody", 404),
        ("?at=2000-01-01T00:00:00Z&model=nobody/nothing", 404),
    ] {
        assert_eq!(list(&app, bad, &[]).await.status().as_u16(), status, "{bad}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rises_wait_and_what_was_announced_can_be_cancelled() {
    let app = TestApp::start().await;
    let pool = &app.seeded.openai_pool;
    let change = |multiplier: &str| json!({ "kind": "pool_multiplier", "pool": pool, "multiplier": multiplier });
    let publish = |body: Value| app.admin.call(Method::POST, "/price-versions", Some(body));
    let (status, refused) = publish(json!({ "changes": [change("1.8")] })).await;
    assert_eq!(status, 422, "{refused}");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("every price (multiplier) from 1.7 to 1.8"),
        "{message}"
    );
    let named = message
        .split("take effect from ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .expect("an instant");
    let (status, accepted) = publish(json!({ "changes": [change("1.8")], "effective_at": named })).await;
    assert_eq!(status, 201, "{accepted}");
    let version = accepted["version"].as_i64().unwrap();

    let deadline = Instant::now() + Duration::from_secs(20);
    while offer_of(&listed(&app, "").await, "openai/gpt-4o")["scheduled"][0]["multiplier"] != "1.8" {
        assert!(Instant::now() < deadline, "what is announced is never shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let path = format!("/price-versions/{version}/cancel");
    let cancelled = app.admin.create(&path, json!({ "reason": "not needed" })).await;
    assert_eq!(cancelled["cancelled"]["reason"], "not needed");
    let audit = app.admin.get("/audit").await;
    let entry = &audit["data"][0];
    assert_eq!(entry["action"], "price_book.cancel", "{entry}");
    assert_eq!(
        offer_of(&listed(&app, "").await, "openai/gpt-4o")["scheduled"],
        json!([])
    );
    let history = listed(&app, "?model=openai/gpt-4o&history=true").await;
    let prices = history["offers"][0]["prices"].as_array().unwrap();
    let states: Vec<_> = prices.iter().map(|price| price["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["current", "cancelled"]);
    assert!(
        !history.to_string().contains("not needed"),
        "the reason is for operators"
    );
    let then = listed(&app, &format!("?at={named}&model=openai/gpt-4o")).await;
    assert_eq!(offer_of(&then, "openai/gpt-4o")["price"]["multiplier"], "1.7");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tiers_costs_margins_and_previews_agree_with_the_charges() {
    let mut app = TestApp::start_with(TestAppOptions {
        config: "[pricing]\nnotice_days = 0\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    let pool = app.seeded.openai_pool.clone();
    let started = UnixMs::now().plus_ms(-60_000).to_rfc3339();
    let (tenant, key) = app.tenant_with("5", KeyOptions::default()).await;
    app.admin
        .change(&format!("/tenants/{tenant}"), json!({ "tier": "gold" }))
        .await;
    let changes = json!([
        { "kind": "tier_multiplier", "tier": "gold", "multiplier": "0.333333" },
        { "kind": "cost_multiplier", "pool": pool, "multiplier": "0.5" },
    ]);
    app.admin.create("/price-versions", json!({ "changes": changes })).await;
    let client = app.client_with(&key);
    let deadline = Instant::now() + Duration::from_secs(40);
    let closed = loop {
        let answer = client.openai(&openai_body(false)).await;
        let closed = client.closed_request(&answer.request_id()).await;
        if closed["multiplier"] == "0.5666661" && closed["flags"] == json!([]) {
            break closed;
        }
        assert!(Instant::now() < deadline, "{closed}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(
        (&closed["tier"], &closed["multipliers"]["tier"]),
        (&json!("gold"), &json!("0.333333"))
    );
    let gold = listed(&app, "?tier=gold").await;
    assert_eq!(gold["tier"], json!({ "name": "gold", "multiplier": "0.333333" }));
    assert_eq!(price_of(offer_of(&gold, "openai/gpt-4o"), "input"), "1.41666525");
    let public = listed(&app, "?model=openai/gpt-4o&history=true").await.to_string();
    assert!(
        !public.contains("cost"),
        "what the operator pays is nobody else's business: {public}"
    );

    let nanos = |value: &Value| value.as_str().unwrap().parse::<Amount>().unwrap().nanos();
    let lines = closed["lines"].as_array().unwrap();
    let list: i64 = lines
        .iter()
        .map(|line| line["nano_usd_exact"].as_str().unwrap().parse::<i64>().unwrap())
        .sum();
    let seen = app
        .admin
        .get(&format!("/requests/{}", closed["id"].as_str().unwrap()))
        .await;
    assert_eq!(nanos(&seen["charge"]["provider_cost_usd"]), (list + 1) / 2);
    assert_eq!(
        nanos(&closed["cost_usd"]),
        (list * 5_666_661 + 9_999_999) / 10_000_000,
        "rounded once"
    );

    let to = UnixMs::now().plus_ms(60_000).to_rfc3339();
    let mut sums = Vec::new();
    for group in ["model", "pool", "tenant", "request"] {
        let (mut cursor, mut sum) = (String::new(), (0, 0, 0));
        loop {
            let path = format!("/margins?from={started}&to={to}&group_by={group}&limit=2{cursor}");
            let page = app.admin.get(&path).await;
            for row in page["data"].as_array().unwrap() {
                sum.0 += row["requests"].as_i64().unwrap();
                sum.1 += nanos(&row["revenue_usd"]);
                sum.2 += nanos(&row["cost_usd"]);
                assert_eq!(
                    nanos(&row["margin_usd"]),
                    nanos(&row["revenue_usd"]) - nanos(&row["cost_usd"])
                );
            }
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={}", next.replace('/', "%2F"));
        }
        sums.push(sum);
    }
    assert!(sums[0].0 > 1 && sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    let charged = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
    assert_eq!(app.number(charged).await, sums[0].1);
    let owed = "SELECT CAST(COALESCE(-SUM(amount), 0) AS BIGINT) FROM entry WHERE account LIKE 'provider_payable:%'";
    assert_eq!(app.number(owed).await, sums[0].2, "what the ledger owes to providers");
    let long = "/margins?from=2026-01-01T00:00:00Z&to=2026-02-02T00:00:00Z&group_by=model";
    assert_eq!(app.admin.call(Method::GET, long, None).await.0, 400, "at most 31 days");

    let changes = json!([{ "kind": "pool_multiplier", "pool": pool, "multiplier": "3.4" }]);
    let preview = app
        .admin
        .create(
            "/prices/preview",
            json!({ "from": started, "to": to, "changes": changes }),
        )
        .await;
    assert_eq!(preview["requests"].as_i64().unwrap(), sums[0].0);
    let (before, after) = (
        nanos(&preview["before"]["revenue_usd"]),
        nanos(&preview["after"]["revenue_usd"]),
    );
    assert!(
        after > before && after <= 2 * before,
        "twice the multiplier, rounded once: {preview}"
    );
    assert_eq!(preview["before"]["cost_usd"], preview["after"]["cost_usd"]);
    assert_eq!(preview["tenants"][0]["key"], json!(tenant));
    assert_eq!(preview["models"][0]["key"], "openai/gpt-4o");
    let book = app.admin.get("/price-versions?limit=1").await;
    assert_ne!(book["data"][0]["items"][0]["value"], "3.4", "nothing was published");
    app.finish().await;
}
