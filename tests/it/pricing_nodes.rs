//! Prices change while three nodes serve: every charge is that of the version on its record, and around an instant the
//! cheaper of both applies.

use std::time::Duration;

use domain::{Amount, clock::UnixMs, pricing::PRICE_CHANGE_TOLERANCE_MS};
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Client, KeyOptions, TestApp, TestAppOptions, openai_body};

/// How long after a publication the change counts.
const LEAD_MS: i64 = 12_000;
/// The multipliers, one after the other; the first is the one that the set-up publishes.
const MULTIPLIERS: [&str; 3] = ["1.7", "0.6", "2.2"];

#[tokio::test(flavor = "multi_thread")]
async fn under_load_no_request_is_charged_by_another_version_than_its_own() {
    let mut app = TestApp::start_with(TestAppOptions {
        config: "[pricing]\nnotice_days = 0\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let (second, third) = tokio::join!(app.start_second_node(), app.start_second_node());
    let (_, key) = app.tenant_with("100", KeyOptions::default()).await;
    let clients = [app.client_with(&key), second.client_with(&key), third.client_with(&key)];
    let mut versions = vec![(0, UnixMs(0))];
    let mut closed = Vec::new();
    for multiplier in &MULTIPLIERS[1..] {
        let at = UnixMs::now().plus_ms(LEAD_MS);
        let change = json!({ "kind": "pool_multiplier", "pool": app.seeded.openai_pool, "multiplier": multiplier });
        let body = json!({ "effective_at": at.to_rfc3339(), "changes": [change] });
        let published = app.admin.create("/price-versions", body).await;
        versions.push((published["version"].as_i64().unwrap(), at));
        // one more version, which is cancelled at once, with an instant that the load passes
        let never = json!({ "kind": "pool_multiplier", "pool": app.seeded.openai_pool, "multiplier": "0.1" });
        let later = at.plus_ms(10_000);
        let body = json!({ "effective_at": later.to_rfc3339(), "changes": [never] });
        let never = app.admin.create("/price-versions", body).await;
        let path = format!("/price-versions/{}/cancel", never["version"]);
        app.admin.create(&path, json!({ "reason": "never" })).await;
        closed.extend(load_until(&clients, later.plus_ms(1_500)).await);
    }
    let mut seen = [0; 3];
    let mut near = 0;
    for (place, request) in closed.iter().enumerate() {
        assert_eq!(request["reason"], "completed", "{request}");
        let admitted_at = UnixMs::from_rfc3339(request["started_at"].as_str().unwrap()).unwrap();
        let expected = expected_place(&versions, admitted_at);
        seen[expected] += 1;
        let instants = versions.iter().map(|(_, at)| (at.0 - admitted_at.0).abs());
        near += usize::from(instants.min().unwrap() <= PRICE_CHANGE_TOLERANCE_MS);
        assert_eq!(
            request["multiplier"], MULTIPLIERS[expected],
            "admitted at {admitted_at:?}: {request}"
        );
        if expected > 0 {
            assert_eq!(
                request["price_version"].as_i64(),
                Some(versions[expected].0),
                "{request}"
            );
        }
        assert_eq!(cost_of(request), recomputed(request), "{request}");
        // the public list says the same of that instant; some are enough
        if place.is_multiple_of(10) {
            let in_force = versions.iter().rposition(|(_, at)| *at <= admitted_at).unwrap();
            let listed = listed_factor(&app, admitted_at).await;
            assert_eq!(listed, MULTIPLIERS[in_force], "at {admitted_at:?}");
        }
    }
    assert!(
        seen.iter().all(|count| *count > 0),
        "every version was charged: {seen:?}"
    );
    assert!(near > 0, "some were admitted around an instant");
    eprintln!(
        "{} requests, by version {seen:?}, {near} of them within a second of a change",
        closed.len()
    );
    app.finish_second_node(second).await;
    app.finish_second_node(third).await;
    app.finish().await;
}

/// The price in force at an instant; within a second of a change the cheaper of both.
fn expected_place(versions: &[(i64, UnixMs)], admitted_at: UnixMs) -> usize {
    let in_force = versions.iter().rposition(|(_, at)| *at <= admitted_at).unwrap();
    let candidates = (0..versions.len()).filter(|place| {
        let starts = versions[*place].1.0 - PRICE_CHANGE_TOLERANCE_MS <= admitted_at.0;
        let ends = versions.get(place + 1).map(|(_, at)| at.0 + PRICE_CHANGE_TOLERANCE_MS);
        *place == in_force || (starts && ends.is_none_or(|end| admitted_at.0 <= end))
    });
    let factor = |place: &usize| MULTIPLIERS[*place].parse::<domain::pricing::Multiplier>().unwrap();
    candidates.min_by_key(factor).unwrap()
}

/// The factor that everybody can look up, as of an instant.
async fn listed_factor(app: &TestApp, at: UnixMs) -> String {
    let path = format!("/v1/pricing?model=openai/gpt-4o&at={}", at.to_rfc3339());
    let list: Value = reqwest::get(format!("{}{path}", app.relay_url()))
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let price = &list["models"][0]["offers"][0]["price"];
    price["multiplier"].as_str().expect("a factor").to_owned()
}

fn cost_of(request: &Value) -> i64 {
    request["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap().nanos()
}

/// The charge by the lines and the multiplier on the record: the exact product, rounded up once.
fn recomputed(request: &Value) -> i64 {
    let lines = request["lines"].as_array().unwrap();
    let list: i64 = lines
        .iter()
        .map(|line| line["nano_usd_exact"].as_str().unwrap().parse::<i64>().unwrap())
        .sum();
    let tenths: i64 = request["multiplier"]
        .as_str()
        .unwrap()
        .replace('.', "")
        .parse()
        .unwrap();
    (list * tenths + 9) / 10
}

/// Keeps all nodes busy until an instant has passed, and answers what became of every request.
async fn load_until(clients: &[Client], end: UnixMs) -> Vec<Value> {
    let callers = clients.iter().map(|client| async move {
        let mut closed = Vec::new();
        while UnixMs::now() < end {
            let answer = client.openai(&openai_body(false)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            closed.push(client.closed_request(&answer.request_id()).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        closed
    });
    join_all(callers).await.into_iter().flatten().collect()
}
