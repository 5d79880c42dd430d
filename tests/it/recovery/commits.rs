//! A node or its connection dies in the midst of a commit, or anywhere.

use std::time::Duration;

use domain::Amount;
use serde_json::json;
use simulator::Faults;
use support::{Dice, TestApp, openai_body};

use super::{
    amount, assert_settled_at_a_note, available, id_of, long_answer, make_known, noted, pause_after, read_rest, tokens,
    up_to, wait_for_note,
};

/// Makes a commit slow that places a hold, or one that ends a request. PostgreSQL only.
const SLEEP: &str = "CREATE FUNCTION sleep_in_commit() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END $$";
const SLOW_HOLD: &str = "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON hold DEFERRABLE INITIALLY DEFERRED \
     FOR EACH ROW EXECUTE FUNCTION sleep_in_commit()";
const SLOW_END: &str = "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON charge DEFERRABLE INITIALLY DEFERRED \
     FOR EACH ROW EXECUTE FUNCTION sleep_in_commit()";
const IN_SLOW_COMMIT: &str =
    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
const CUT_SLOW_COMMIT: &str = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// Whether any request has been charged by now, or would be if its node died.
const COMES_TO_SOMETHING: &str = "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM hold WHERE progress_amount > 0) \
     OR EXISTS (SELECT 1 FROM charge WHERE amount > 0) THEN 1 ELSE 0 END AS BIGINT)";

async fn slow_down(app: &TestApp, which: &'static str) {
    app.execute(SLEEP).await;
    app.execute(which).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_commit_outlives_its_node_is_given_back() {
    let mut app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    slow_down(&app, SLOW_HOLD).await;
    let client = app.client();
    let call = tokio::spawn(async move { client.try_begin("/v1/chat/completions", &openai_body(true)).await });
    app.wait_for_number(IN_SLOW_COMMIT, 1).await;
    app.kill();
    assert!(call.await.unwrap().is_err(), "the client has seen nothing");

    // the next boot starts while the hold is still being committed, by a connection that is nobody's
    app.restart().await;
    app.wait_for_number(
        "SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'relay_crashed'",
        1,
    )
    .await;
    app.wait_for_holds(0).await;
    assert_eq!(available(&app).await, Amount::from_usd(5));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_dies_with_its_node_in_the_commit_leaves_what_was_noted() {
    let mut app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    slow_down(&app, SLOW_END).await;
    app.simulator.script(long_answer(90, 0, pause_after(60))).unwrap();
    let response = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    let id = id_of(&response);
    let log = app.simulator.wait_until(|log| log[0].events_sent >= 60).await;
    wait_for_note(&app, log[0].tokens_generated - 2).await;
    let noted = noted(&app).await;
    app.simulator.release("rest");
    read_rest(response).await;
    app.wait_for_number(IN_SLOW_COMMIT, 1).await;
    app.kill();
    assert_eq!(app.number(CUT_SLOW_COMMIT).await, 1);

    app.restart().await;
    let closed = app.closed(&id).await;
    assert_settled_at_a_note(&closed, &app.simulator.log()[0]);
    assert_eq!(amount(&closed["cost_usd"]).nanos(), noted);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_outlives_its_node_stands_and_recovery_adds_nothing() {
    let mut app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    slow_down(&app, SLOW_END).await;
    let answer = app.client().openai(&openai_body(true)).await;
    app.wait_for_number(IN_SLOW_COMMIT, 1).await;
    app.kill();

    // the next boot meets the hold while its end is still being committed by nobody's connection
    app.restart().await;
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["reason"], "completed", "{closed}");
    let sent = app.simulator.log().remove(0);
    assert_eq!(tokens(&closed, "output"), sent.tokens_generated);
    app.wait_for_holds(0).await;
    app.wait_for_number(IN_SLOW_COMMIT, 0).await;
    assert_eq!(app.number("SELECT COUNT(*) FROM charge").await, 1);
    assert_eq!(
        available(&app).await.nanos(),
        Amount::from_usd(5).nanos() - amount(&closed["cost_usd"]).nanos()
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_connection_is_lost_is_made_once() {
    let app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    slow_down(&app, SLOW_END).await;
    let answer = app.client().openai(&openai_body(true)).await;
    app.wait_for_number(IN_SLOW_COMMIT, 1).await;
    assert_eq!(app.number(CUT_SLOW_COMMIT).await, 1);
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["reason"], "completed", "{closed}");
    assert_eq!(app.number("SELECT COUNT(*) FROM charge").await, 1);
    assert_eq!(
        available(&app).await.nanos(),
        Amount::from_usd(5).nanos() - amount(&closed["cost_usd"]).nanos()
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_node_dies_each_request_ends_once_and_is_charged_no_more_than_it_used() {
    let mut app = TestApp::start().await;
    make_known(&app).await;
    let start = available(&app).await;
    app.simulator.script(long_answer(400, 1, Faults::default())).unwrap();
    let mut dice = Dice::of_run();
    let mut ids = Vec::new();
    for round in 0..8 {
        let calls: Vec<_> = (0..6)
            .map(|number| {
                let client = app.client();
                let mut body = up_to(1_000, openai_body(number % 3 != 0));
                body["user"] = json!(format!("{round}-{number}"));
                let wait = Duration::from_millis(dice.below(300));
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let response = client.try_begin("/v1/chat/completions", &body).await.ok()?;
                    let id = id_of(&response);
                    read_rest(response).await;
                    Some((body["user"].clone(), id))
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(dice.below(1_200))).await;
        if round == 0 {
            app.wait_for_number(COMES_TO_SOMETHING, 1).await;
        }
        app.kill();
        for call in calls {
            ids.extend(call.await.unwrap());
        }
        app.restart().await;
    }
    app.wait_for_holds(0).await;
    let log = app.simulator.log();
    let mut cost = 0;
    for (name, id) in &ids {
        let closed = app.closed(id).await;
        let sent = log.iter().find(|entry| entry.body["user"] == *name).unwrap();
        assert!(tokens(&closed, "input") <= sent.input_tokens, "{closed}");
        assert!(tokens(&closed, "output") <= sent.tokens_generated, "{closed}");
        cost += amount(&closed["cost_usd"]).nanos();
    }
    // whoever has seen nothing has paid nothing
    assert_eq!(available(&app).await.nanos(), start.nanos() - cost);
    assert!(cost > 0, "one had come far enough in the first round");
    app.finish().await;
}
