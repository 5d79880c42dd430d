//! A node dies before, amid and after an answer.

use std::time::{Duration, Instant};

use domain::Amount;
use serde_json::json;
use simulator::{Faults, Outcome, Rule};
use support::{TestApp, anthropic_body, openai_body};

use super::{
    amount, assert_settled_at_a_note, available, faulty, id_of, long_answer, make_known, noted, noted_output,
    pause_after, read_rest, tokens, up_to, wait_for_note,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_before_the_hold_is_durable_has_given_out_nothing_and_charges_nothing() {
    let mut app = TestApp::start().await;
    make_known(&app).await;
    let before = available(&app).await;
    let locked = app.lock_ledger().await;
    let client = app.client();
    let call = tokio::spawn(async move { client.try_begin("/v1/chat/completions", &openai_body(true)).await });
    app.simulator
        .wait_until(|log| log.first().is_some_and(|entry| entry.outcome == Outcome::Finished))
        .await;
    app.kill();
    assert!(call.await.unwrap().is_err(), "the client has seen nothing");
    locked.release().await;

    app.restart().await;
    app.wait_for_holds(0).await;
    assert_eq!(
        app.number("SELECT COUNT(*) FROM charge").await,
        1,
        "the first request's"
    );
    assert_eq!(available(&app).await, before);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_before_any_output_gives_everything_back() {
    let mut app = TestApp::start().await;
    let silent = Faults {
        hang_before_head: true,
        ..Faults::default()
    };
    app.simulator
        .script(Rule {
            times: Some(1),
            ..faulty(silent)
        })
        .unwrap();
    // the second one's head and first event have come: a role, and no word yet
    app.simulator.script(faulty(pause_after(1))).unwrap();
    let client = app.client();
    let call = tokio::spawn(async move { client.try_begin("/v1/chat/completions", &openai_body(true)).await });
    app.simulator.wait_until(|log| log.len() == 1).await;
    let begun = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    app.wait_for_holds(2).await;
    app.kill();
    assert!(call.await.unwrap().is_err(), "the client has seen nothing");
    let id = id_of(&begun);
    read_rest(begun).await;

    app.restart().await;
    app.wait_for_holds(0).await;
    let closed = app.closed(&id).await;
    assert_eq!(
        (&closed["reason"], &closed["cost_usd"]),
        (&json!("relay_crashed"), &json!("0.00"))
    );
    app.wait_for_number(
        "SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'relay_crashed'",
        2,
    )
    .await;
    assert_eq!(available(&app).await, Amount::from_usd(5));
    let loss = app
        .number("SELECT CAST(SUM(amount) AS BIGINT) FROM entry WHERE account LIKE 'operator_loss:%'")
        .await;
    let payable = app
        .number("SELECT CAST(SUM(amount) AS BIGINT) FROM entry WHERE account LIKE 'provider_payable:%'")
        .await;
    assert!(
        loss > 0 && payable == -loss,
        "what the providers may bill is the operator's: {loss} {payable}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_mid_stream_charges_what_it_had_noted() {
    let mut app = TestApp::start().await;
    app.simulator.script(long_answer(90, 0, pause_after(60))).unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(app.client().begin("/v1/chat/completions", &openai_body(true)).await);
    }
    streams.push(app.client().begin("/v1/messages", &anthropic_body(true)).await);
    let log = app
        .simulator
        .wait_until(|log| log.iter().filter(|entry| entry.events_sent >= 60).count() == 3)
        .await;
    // the last word of each may still be growing
    let sent: u64 = log.iter().map(|entry| entry.tokens_generated).sum();
    wait_for_note(&app, sent - 6).await;
    let noted = noted(&app).await;
    app.kill();
    app.assert_books_are_clean();
    let ids: Vec<String> = streams.iter().map(id_of).collect();
    for stream in streams {
        let text = read_rest(stream).await;
        assert!(
            !text.contains("[DONE]") && !text.contains("message_stop"),
            "cut off: {text}"
        );
    }

    app.restart().await;
    app.wait_for_holds(0).await;
    let mut cost = 0;
    for id in ids {
        let closed = app.closed(&id).await;
        let is_chat = closed["dialect"] == "openai_chat";
        let mut sent = log
            .iter()
            .filter(|entry| entry.path.ends_with("/chat/completions") == is_chat);
        assert_settled_at_a_note(&closed, sent.next().unwrap());
        cost += amount(&closed["cost_usd"]).nanos();
    }
    assert_eq!(cost, noted);
    assert_eq!(available(&app).await.nanos(), Amount::from_usd(5).nanos() - cost);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_answer_is_noted_by_its_tokens() {
    let mut app = TestApp::start().await;
    // two seconds: first noted when it has begun, then by tokens, and the last of it by time
    app.simulator.script(long_answer(1_500, 1, pause_after(1_400))).unwrap();
    let response = app
        .client()
        .begin("/v1/chat/completions", &up_to(2_000, openai_body(true)))
        .await;
    let id = id_of(&response);
    let reading = tokio::spawn(read_rest(response));
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while seen.last().is_none_or(|last| *last < 1_390) {
        assert!(Instant::now() < deadline, "no more is noted: {seen:?}");
        let now = noted_output(&app).await;
        let sent = app.simulator.log()[0].tokens_generated;
        assert!(now <= sent, "{now} noted of {sent}");
        if seen.last() != Some(&now) {
            assert!(
                seen.last().is_none_or(|last| *last < now),
                "notes are cumulative: {now} after {seen:?}"
            );
            seen.push(now);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    app.kill();
    reading.await.unwrap();

    app.restart().await;
    let closed = app.closed(&id).await;
    assert_settled_at_a_note(&closed, &app.simulator.log()[0]);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_after_the_end_and_before_its_charge_charges_what_it_had_noted() {
    let mut app = TestApp::start().await;
    app.simulator.script(long_answer(90, 0, pause_after(60))).unwrap();
    let response = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    let id = id_of(&response);
    let log = app.simulator.wait_until(|log| log[0].events_sent >= 60).await;
    wait_for_note(&app, log[0].tokens_generated - 2).await;
    let noted = noted(&app).await;
    let locked = app.lock_ledger().await;
    app.simulator.release("rest");
    let text = read_rest(response).await;
    assert!(text.ends_with("data: [DONE]\n\n"), "the client has all of it");
    app.kill();
    locked.release().await;

    app.restart().await;
    app.wait_for_holds(0).await;
    let closed = app.closed(&id).await;
    let sent = app.simulator.log().remove(0);
    assert_settled_at_a_note(&closed, &sent);
    assert_eq!(amount(&closed["cost_usd"]).nanos(), noted);
    assert!(tokens(&closed, "output") < sent.tokens_generated);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_streamed_is_free_when_its_node_dies() {
    let mut app = TestApp::start().await;
    let held = Faults {
        hold_before_head: Some("head".to_owned()),
        ..Faults::default()
    };
    app.simulator.script(faulty(held)).unwrap();
    let client = app.client();
    let call = tokio::spawn(async move { client.try_begin("/v1/chat/completions", &openai_body(false)).await });
    app.simulator.wait_until(|log| log.len() == 1).await;
    app.wait_for_holds(1).await;
    app.kill();
    assert!(call.await.unwrap().is_err());

    app.restart().await;
    app.wait_for_number(
        "SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'relay_crashed'",
        1,
    )
    .await;
    assert_eq!(available(&app).await, Amount::from_usd(5));
    app.finish().await;
}
