//! A node stops where it stands and goes on later, as a virtual machine does that is moved: the others do not wait for
//! it, they may close what it had under way, and what it says afterwards about that moves nobody's credit.

use domain::Amount;
use serde_json::json;
use support::{KeyOptions, TestApp, TestAppOptions, openai_body};

use crate::{
    faults::{dialects, id_of},
    faults_served::{Got, begin_served, begin_streams, finish_streams, price, stream, wait_for_notes},
};

/// The first hold that is placed takes so long that its node can be stopped meanwhile.
const SLOW_HOLD: &str = "CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(5); RETURN NULL; END $$; \
     CREATE TRIGGER slow AFTER INSERT ON hold FOR EACH ROW EXECUTE FUNCTION take_long()";
const QUICK_HOLD: &str = "CREATE OR REPLACE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN RETURN NULL; END $$";
const SLEEPING: &str =
    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

const PROVIDER_COST: &str = "SELECT provider_cost FROM charge WHERE state = 'settled' ORDER BY request_id DESC LIMIT 1";
const LATE: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:late'";
/// Nobody's request is that old.
pub const AGE_HOLDS: &str = "UPDATE hold SET created_at_ms = created_at_ms - 3600000";

/// Nodes that look for abandoned holds each second.
pub async fn watchful() -> TestApp {
    let often = "TRUERELAY__LEDGER__CLOSE_ABANDONED_HOLDS_EVERY_S";
    TestApp::start_with(TestAppOptions {
        environment: vec![(often.to_owned(), "1".to_owned())],
        ..TestAppOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_in_mid_transaction_keeps_nobody_waiting() {
    let mut app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let second = app.start_second_node().await;
    let (_, other) = app.tenant_with("5", KeyOptions::default()).await;
    let price = price(&app).await;
    let before = own(&app).await;
    let node = app.process().id();
    app.execute(SLOW_HOLD).await;
    let others = async {
        app.wait_for_number(SLEEPING, 1).await;
        app.execute(QUICK_HOLD).await;
        support::signal(node, "STOP");
        // its transaction holds the locks of its tenant: nobody else's
        for _ in 0..3 {
            let answer = second.client_with(&other).openai(&openai_body(false)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        assert_eq!(app.number(SLEEPING).await, 1, "it has not let go of them yet");
        // those of its tenant come free when the database ends a transaction that says nothing
        let (path, body) = dialects().into_iter().next().unwrap();
        let same = Got::of(begin_served(&second.client_with(&app.seeded.key), path, &body).await).await;
        support::signal(node, "CONT");
        same
    };
    let (stopped, same) = tokio::join!(stream(&app), others);
    let mut served = 0;
    for got in [stopped, same] {
        if got.status == 200 {
            let closed = app.closed(&got.id).await;
            assert_eq!((&closed["reason"], got.words), (&json!("completed"), 20), "{closed}");
            served += 1;
        } else {
            // it may have been stopped for so long that its database seemed away to it
            assert_eq!((got.status, got.words), (503, 0));
        }
    }
    app.wait_for_holds(0).await;
    let after = own(&app).await;
    let made = (after.0 - before.0, after.1 - before.1);
    assert_eq!(made, (served, served * price), "{served} were served");
    app.finish_second_node(second).await;
    app.finish().await;
}

/// How many requests of the first tenant were charged, and how much.
async fn own(app: &TestApp) -> (i64, i64) {
    const SETTLED: &str = "SELECT COUNT(*) FROM charge WHERE state = 'settled' AND tenant_id = \
         (SELECT id FROM tenant WHERE name = 'tests')";
    const CHARGED: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge WHERE tenant_id = \
         (SELECT id FROM tenant WHERE name = 'tests')";
    (app.number(SETTLED).await, app.number(CHARGED).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_until_others_had_closed_its_requests_changes_nothing_for_customers() {
    let mut app = watchful().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let second = app.start_second_node().await;
    let whole = price(&app).await;
    let cost_of_whole = app.number(PROVIDER_COST).await;
    let streams = begin_streams(&app, 3).await;
    let ids: Vec<String> = streams.iter().map(id_of).collect();
    wait_for_notes(&app).await;
    app.process().signal("STOP");
    app.execute(AGE_HOLDS).await;
    let there = second.client_with(&app.seeded.key);
    let mut closed_by_others = Vec::new();
    for id in &ids {
        let closed = there.closed_request(id).await;
        assert_eq!(closed["reason"], "hold_expired", "{closed}");
        let charged = closed["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap().nanos();
        assert!(0 < charged && charged < whole, "as far as was noted: {closed}");
        closed_by_others.push(closed);
    }
    app.wait_for_holds(0).await;
    let charges = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
    let booked = "SELECT CAST(SUM(provider_cost) AS BIGINT) FROM charge WHERE reason = 'hold_expired'";
    let (charged, booked) = (app.number(charges).await, app.number(booked).await);
    assert_eq!(app.number(LATE).await, 0);

    app.process().signal("CONT");
    for got in finish_streams(&app, streams).await {
        assert_eq!((got.status, got.words), (200, 20), "its customers get the rest");
    }
    let late = i64::try_from(ids.len()).unwrap() * cost_of_whole - booked;
    app.wait_for_number(LATE, late).await;
    assert!(late > 0, "they cost more than had been noted");
    assert_eq!(app.number(charges).await, charged, "no customer pays more");
    for (id, earlier) in ids.iter().zip(closed_by_others) {
        let now = app.closed(id).await;
        assert_eq!(
            (&now["reason"], &now["cost_usd"]),
            (&json!("hold_expired"), &earlier["cost_usd"]),
            "the first end stands"
        );
    }
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 200, "it serves again: {}", answer.text());
    app.finish_second_node(second).await;
    app.finish().await;
}
