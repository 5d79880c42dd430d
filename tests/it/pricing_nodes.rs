//! Prices change while three nodes serve: every charge is that of the version on its receipt, around an instant the cheaper
//! of both applies, and what it cost at any time can be asked afterwards.

use std::time::Duration;

use domain::{Amount, clock::UnixMs, pricing::PRICE_CHANGE_TOLERANCE_MS};
use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use support::{Client, Dice, KeyOptions, TestApp, TestAppOptions, openai_body};

use crate::{
    receipts::{Desk, receipt},
    recompute::recompute,
};

/// How long after a publication the change counts.
const LEAD_MS: i64 = 12_000;
/// The multipliers, one after the other; the first is the one that the set-up publishes.
const MULTIPLIERS: [&str; 3] = ["1.7", "0.6", "2.2"];
/// All receipts are read; of so many one is checked with the two programs that customers have, which takes a tenth of a
/// second each.
const CHECKED_ONE_IN: usize = 20;
/// Instants at which the price is asked for.
const INSTANTS: usize = 150;

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
    for request in &closed {
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
    }
    assert_receipts_agree(&app, &clients[0], &closed).await;
    assert_any_instant_has_its_price(&app, &versions).await;
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

/// A public answer.
async fn public(app: &TestApp, query: &str) -> Value {
    let url = format!("{}/v1/pricing?model=openai/gpt-4o&{query}", app.relay_url());
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 200, "{query}");
    answer.json().await.expect("JSON")
}

/// What everybody can look up, as of an instant.
async fn listed(app: &TestApp, at: UnixMs) -> (Value, Value) {
    let list = public(app, &format!("at={}", at.to_rfc3339())).await;
    let price = list["models"][0]["offers"][0]["price"].clone();
    (list, price)
}

/// The receipt of each says the version and the charge that its owner was told, and the charge is that of the list.
async fn assert_receipts_agree(app: &TestApp, client: &Client, closed: &[Value]) {
    let keys = reqwest::get(format!("{}/.well-known/truerelay-log-keys.json", app.relay_url()));
    let keys: &Value = &keys.await.unwrap().json().await.unwrap();
    let check = |(place, request): (usize, &Value)| {
        let (id, request) = (request["id"].as_str().unwrap().to_owned(), request.clone());
        async move {
            let receipt = receipt(client, &id).await;
            let said: Value = serde_json::from_str(receipt["statement"].as_str().unwrap()).unwrap();
            assert_eq!(said["record"]["price_version"], request["price_version"], "{said}");
            assert_eq!(said["amount_nano_usd"].as_i64(), Some(cost_of(&request)), "{said}");
            if !place.is_multiple_of(CHECKED_ONE_IN) {
                return;
            }
            // as docs/verify.md says: near a change the price may be that of a second earlier or later
            let admitted_at = UnixMs(said["record"]["started_at"].as_i64().unwrap());
            let mut prices = Value::Null;
            let a_second = PRICE_CHANGE_TOLERANCE_MS + 1;
            for shift_ms in [0, -a_second, a_second] {
                let (list, _) = listed(app, admitted_at.plus_ms(shift_ms)).await;
                if list["version"] == said["record"]["price_version"] {
                    prices = list;
                    break;
                }
            }
            assert!(!prices.is_null(), "no list has the version of {said}");
            let keys = keys.clone();
            let checked = tokio::task::spawn_blocking(move || {
                let desk = Desk::new();
                let (holds, output) = desk.verify(&receipt, &[("--keys", &desk.put("keys.json", &keys))]);
                assert!(holds, "{output}");
                let files = (desk.put("receipt.json", &receipt), desk.put("prices.json", &prices));
                let (agrees, output) = recompute(&files.0, &files.1);
                assert!(agrees, "{output}");
            });
            checked.await.unwrap();
        }
    };
    let checks = stream::iter(closed.iter().enumerate()).map(check);
    // a node reads no more than three old price lists at once
    checks.buffer_unordered(2).collect::<Vec<()>>().await;
}

/// The history has one price for every instant, and the list of that instant has the same. Nothing of it was cancelled.
async fn assert_any_instant_has_its_price(app: &TestApp, versions: &[(i64, UnixMs)]) {
    let history = public(app, "history=true").await;
    let prices = history["offers"][0]["prices"].as_array().unwrap();
    let instant = |value: &Value| value.as_str().map(|text| UnixMs::from_rfc3339(text).unwrap());
    let spans: Vec<_> = prices
        .iter()
        .filter(|price| price["state"] != "cancelled")
        .map(|price| {
            (
                instant(&price["effective_at"]).unwrap(),
                instant(&price["until"]),
                price,
            )
        })
        .collect();
    assert_eq!(spans.len(), versions.len(), "{history}");
    let (first, last) = (spans[0].0, versions[versions.len() - 1].1);
    let mut dice = Dice::of_run();
    let span_ms = u64::try_from(last.0 - first.0).unwrap() + 60_000;
    let at_random = (0..INSTANTS).map(|_| first.plus_ms(i64::try_from(dice.below(span_ms)).unwrap()));
    let at_changes = spans.iter().flat_map(|span| [-1, 0, 1].map(|ms| span.0.plus_ms(ms)));
    let instants: Vec<UnixMs> = at_random.chain(at_changes).filter(|at| *at >= first).collect();
    for at in instants {
        let holds = |span: &&(UnixMs, Option<UnixMs>, &Value)| span.0 <= at && span.1.is_none_or(|until| at < until);
        let found: Vec<_> = spans.iter().filter(holds).collect();
        assert_eq!(found.len(), 1, "one price at {at:?}: {history}");
        let in_force = versions.iter().rposition(|(_, from)| *from <= at).unwrap();
        let (_, price) = listed(app, at).await;
        for said in [found[0].2, &price] {
            assert_eq!(said["multiplier"], MULTIPLIERS[in_force], "at {at:?}");
        }
        assert_eq!(price["version"], found[0].2["version"], "at {at:?}");
    }
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
