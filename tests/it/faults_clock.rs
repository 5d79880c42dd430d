//! A node whose wall clock is wrong: what depends on time goes by the database's clock, so that nothing expires early,
//! late or twice, and no request is given up because somebody's clock has jumped.

use std::path::Path;

use domain::clock::UnixMs;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Client, KeyOptions, SecondNode, TestApp, openai_body};

use crate::{
    faults::id_of,
    faults_served::{begin_streams, begin_streams_of, finish_streams, price, wait_for_notes},
    faults_stopped_node::watchful,
};

const HOUR_MS: i64 = 3_600_000;
/// Which clocks, and by how much they are ahead.
const CLOCKS: [(&str, i64); 4] = [
    ("+1h", HOUR_MS),
    ("-1h", -HOUR_MS),
    ("+1d", 24 * HOUR_MS),
    ("-1d", -24 * HOUR_MS),
];
/// Where Debian has it, for whichever machine.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
const EXPIRIES: &str = "SELECT COUNT(*) FROM tx WHERE kind = 'expiry'";

/// What makes a process believe in another time of day; its timers stay right. `None`, with a line for the report, where
/// that is not to be had.
fn shifted(clock: &str) -> Option<Vec<(String, String)>> {
    let Some(library) = LIBRARIES.iter().find(|library| Path::new(library).exists()) else {
        eprintln!("not run: there is no faketime to change a node's clock with");
        return None;
    };
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Some(vec![
        setting("LD_PRELOAD", library),
        setting("FAKETIME", clock),
        setting("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        setting("DONT_FAKE_MONOTONIC", "1"),
    ])
}

/// The last line of a node's log is from its own time, not from ours.
fn assert_is_elsewhere(log: &str, ahead_ms: i64) {
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let at = UnixMs::from_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    let found = at.0 - UnixMs::now().0;
    assert!(
        (found - ahead_ms).abs() < HOUR_MS / 2,
        "the clock is {found} ms ahead: {line}"
    );
}

async fn is_served(client: &Client) -> bool {
    let answer = client.openai(&openai_body(false)).await;
    assert!(
        [200, 402, 403].contains(&answer.status.as_u16()),
        "{}: {}",
        answer.status,
        answer.text()
    );
    answer.status == 200
}

async fn wait_until_refused(client: &Client) {
    while is_served(client).await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn in_a(ms: i64) -> String {
    UnixMs::now().plus_ms(ms).to_rfc3339()
}

/// A new tenant with credit that expires then: a key of it.
async fn tenant_until(app: &mut TestApp, name: &str, expires_at: String) -> String {
    let tenant = app.admin.create_tenant(name).await;
    let body = json!({ "amount_usd": "5", "kind": "promotion", "note": "test", "expires_at": expires_at });
    let path = format!("/tenants/{tenant}/grants");
    let key = name.replace(' ', "-");
    let headers = [("idempotency-key", key.as_str())];
    let (status, answer) = app.admin.call_with(Method::POST, &path, Some(body), &headers).await;
    assert!(status.is_success(), "{status} {answer}");
    app.key_of(&tenant, KeyOptions::default()).await.1
}

/// Keys and credit of which the time comes soon, or in half an hour, which for some of the nodes has passed.
async fn assert_expires_in_time(app: &mut TestApp, others: &[SecondNode]) {
    let tenant = app.seeded.tenant.clone();
    let key_until = |ms: i64| KeyOptions {
        expires_at: Some(in_a(ms)),
        ..KeyOptions::default()
    };
    let (_, lasting) = app.key_of(&tenant, key_until(HOUR_MS / 2)).await;
    let rich = tenant_until(app, "rich", in_a(HOUR_MS / 2)).await;
    let (_, short) = app.key_of(&tenant, key_until(4_000)).await;
    let soon_poor = tenant_until(app, "soon poor", in_a(4_000)).await;
    let everywhere = |app: &TestApp, key: &str| {
        let mut clients = vec![app.client_with(key)];
        clients.extend(others.iter().map(|node| node.client_with(key)));
        clients
    };
    for client in [everywhere(app, &short), everywhere(app, &soon_poor)].concat() {
        wait_until_refused(&client).await;
    }
    app.wait_for_number(EXPIRIES, 1).await;
    for client in [everywhere(app, &lasting), everywhere(app, &rich)].concat() {
        assert!(is_served(&client).await, "its time has not come");
    }
    assert_eq!(app.number(EXPIRIES).await, 1, "nothing expires twice or early");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_wrong_clocks_expire_nothing_early_late_or_twice() {
    let mut app = watchful().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let price = price(&app).await;
    let mut others = Vec::new();
    for (clock, ahead_ms) in CLOCKS {
        let Some(environment) = shifted(clock) else {
            return app.finish().await;
        };
        let mut node = app.start_node_on(&app.backend, environment).await;
        assert_is_elsewhere(&node.process().log(), ahead_ms);
        others.push(node);
    }
    let mut customers = vec![app.client()];
    customers.extend(others.iter().map(|node| node.client_with(&app.seeded.key)));
    let streams = begin_streams_of(&app, &customers).await;
    wait_for_notes(&app).await;
    // meanwhile all nodes look for abandoned holds and expired credit, several times
    assert_expires_in_time(&mut app, &others).await;
    let ids: Vec<String> = streams.iter().map(id_of).collect();
    finish_streams(&app, streams).await;
    for id in ids {
        let closed = app.closed(&id).await;
        let charged = closed["cost_usd"].as_str().unwrap().parse::<domain::Amount>().unwrap();
        assert_eq!(
            (&closed["reason"], charged.nanos()),
            (&json!("completed"), price),
            "{closed}"
        );
    }
    for node in others {
        let (status, report) = node.command(&["ledger", "verify"]);
        assert!(status.success(), "{report}");
        app.finish_second_node(node).await;
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_jumps_between_its_boots_recovers_what_it_had_under_way() {
    let mut app = TestApp::start().await;
    let whole = price(&app).await;
    for (clock, ahead_ms) in CLOCKS.into_iter().chain([("+0", 0)]) {
        let Some(environment) = shifted(clock) else {
            return app.finish().await;
        };
        // on the embedded default the database's clock is the node's: prices of the future are not in force
        let has_gone_back = !app.backend.is_shared() && ahead_ms < 0;
        let streams = begin_streams(&app, 2).await;
        wait_for_notes(&app).await;
        let ids: Vec<String> = streams.iter().map(id_of).collect();
        app.kill();
        drop(streams);
        app.restart_with(&environment).await;
        assert_is_elsewhere(&app.process().log(), ahead_ms);
        app.wait_for_holds(0).await;
        for id in ids {
            let closed = app.closed(&id).await;
            assert_eq!(closed["reason"], "relay_crashed", "{clock}: {closed}");
            let charged = closed["cost_usd"]
                .as_str()
                .unwrap()
                .parse::<domain::Amount>()
                .unwrap()
                .nanos();
            assert!(0 < charged && charged < whole, "{clock}: {closed}");
        }
        app.assert_books_are_clean();
        if has_gone_back {
            let answer = app.client().openai(&openai_body(false)).await;
            assert_eq!(answer.status, 404, "{clock}: {}", answer.text());
            app.kill();
            app.restart_with(&shifted("+0").unwrap()).await;
        }
    }
    app.finish().await;
}
