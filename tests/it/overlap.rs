//! The hold's commit runs beside the upstream call: nothing reaches the client before it, and a refusal cancels.

use domain::Amount;
use serde_json::json;
use simulator::{Faults, Hold, LogEntry, Outcome, Rule};
use support::{KeyOptions, TestApp, openai_body};
use tokio::task::JoinSet;

fn pause_after(events: usize) -> Rule {
    let hold = Hold {
        gate: "rest".to_owned(),
        events,
    };
    Rule {
        faults: Faults {
            hold_after_events: Some(hold),
            ..Faults::default()
        },
        ..Rule::default()
    }
}

/// One request, after which the node knows that the tenant is rich.
async fn make_known(app: &TestApp) {
    let answer = app.client().openai(&openai_body(false)).await;
    app.closed(&answer.request_id()).await;
    app.simulator.reset();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rich_tenants_request_is_sent_while_its_hold_commits_and_answered_after() {
    let app = TestApp::start().await;
    make_known(&app).await;
    let locked = app.lock_ledger().await;
    let client = app.client();
    let mut call = tokio::spawn(async move { client.openai(&openai_body(true)).await });
    app.simulator
        .wait_until(|log| log.first().is_some_and(|entry| entry.outcome == Outcome::Finished))
        .await;
    // the provider has sent everything; a relay that gave any of it out would have done so long before this
    let early = tokio::time::timeout(std::time::Duration::from_secs(1), &mut call).await;
    assert!(early.is_err(), "nothing is handed out before the hold is durable");
    locked.release().await;
    let answer = call.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(app.closed(&answer.request_id()).await["reason"], "completed");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_refused_after_dispatch_cancels_the_upstream_and_the_cost_is_the_operators() {
    let mut app = TestApp::start().await;
    let first = app.client().openai(&openai_body(false)).await;
    let held: Amount = app.closed(&first.request_id()).await["held_usd"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    app.simulator.reset();
    // so much is left that each of them may go at once, and not enough for all
    let budget = Amount::from_nanos(held.nanos() * 21).to_string();
    let tenant = app.seeded.tenant.clone();
    let options = KeyOptions {
        budget: Some((budget, "total")),
        ..KeyOptions::default()
    };
    let (_, key) = app.key_of(&tenant, options).await;
    let client = app.client_with(&key);
    // the key is read before the database is locked
    client.key().await;
    app.simulator.script(pause_after(4)).unwrap();
    let locked = app.lock_ledger().await;
    let mut calls = JoinSet::new();
    for _ in 0..23 {
        let client = client.clone();
        calls.spawn(async move { client.openai(&openai_body(true)).await });
    }
    let begun = |entry: &LogEntry| entry.events_sent >= 4;
    app.simulator
        .wait_until(|log| log.len() == 23 && log.iter().all(begun))
        .await;
    locked.release().await;
    let gone = |entry: &&LogEntry| entry.outcome == Outcome::ClientGone;
    app.simulator
        .wait_until(|log| log.iter().filter(gone).count() == 2)
        .await;
    app.simulator.release("rest");
    let answers = calls.join_all().await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 402).collect();
    assert_eq!(refused.len(), 2);
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 402 || answer.status == 200)
    );
    app.wait_for_number(
        "SELECT COUNT(*) FROM tx t JOIN entry e ON e.tx_id = t.id \
         WHERE t.kind = 'refused_cost' AND e.account = 'operator_loss:unbilled' AND e.amount > 0",
        2,
    )
    .await;
    for answer in refused {
        assert_eq!(answer.json()["error"]["code"], "budget_exceeded");
        let path = format!("/v1/requests/{}", answer.request_id());
        let shown = app.client().get(&path).await.json().await;
        assert_eq!(shown["state"], json!("refused"), "{shown}");
        assert_eq!(shown["cost_usd"], json!("0.00"));
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_its_hold_is_durable_leaves_nothing_behind() {
    let app = TestApp::start().await;
    make_known(&app).await;
    let before = app.client().key().await["balance"].clone();
    app.simulator
        .script(Rule {
            faults: Faults {
                hang_before_head: true,
                ..Faults::default()
            },
            ..Rule::default()
        })
        .unwrap();
    let locked = app.lock_ledger().await;
    let client = app.client();
    let call = tokio::spawn(async move {
        client
            .try_begin("/v1/chat/completions", &openai_body(true))
            .await
            .is_ok()
    });
    app.simulator.wait_until(|log| !log.is_empty()).await;
    call.abort();
    app.simulator
        .wait_until(|log| log[0].outcome == Outcome::ClientGone)
        .await;
    locked.release().await;
    app.wait_for_number(
        "SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'client_gone_before_head'",
        1,
    )
    .await;
    app.wait_for_holds(0).await;
    assert_eq!(app.client().key().await["balance"], before);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_kept_back_until_its_hold_is_durable_is_free_if_its_client_leaves() {
    let app = TestApp::start().await;
    make_known(&app).await;
    let before = app.client().key().await["balance"].clone();
    app.simulator.script(pause_after(4)).unwrap();
    let locked = app.lock_ledger().await;
    let client = app.client();
    let call = tokio::spawn(async move {
        client
            .try_begin("/v1/chat/completions", &openai_body(true))
            .await
            .is_ok()
    });
    // the relay has read the beginning of it: the second answer, after the one that made the tenant known
    app.wait_for_metric("truerelay_upstream_first_byte_seconds_count 2")
        .await;
    call.abort();
    app.simulator
        .wait_until(|log| log[0].outcome == Outcome::ClientGone)
        .await;
    locked.release().await;
    app.wait_for_number(
        "SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'client_gone_before_head'",
        1,
    )
    .await;
    app.wait_for_holds(0).await;
    assert_eq!(app.client().key().await["balance"], before);
    let borne = "SELECT COUNT(*) FROM entry WHERE account = 'operator_loss:unbilled' AND amount > 0";
    assert_eq!(
        app.number(borne).await,
        1,
        "what the provider may bill is the operator's"
    );
    app.finish().await;
}
