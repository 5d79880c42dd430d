//! Each row's case, provoked on a relay of its own.

use futures_util::StreamExt;
use serde_json::{Value, json};
use simulator::{Answer, Cut, CutPoint, ErrorEvent, Faults, Fixed, Generate, Hold, Outcome, Rule, UsageReport};
use support::{KeyOptions, TestApp, TestAppOptions, anthropic_body, openai_body};

use super::{Case, GROQ, SONNET};
use crate::{
    charges::{faulty, offer_of_groq, only_request, status},
    faults_stopped_node::{AGE_HOLDS, watchful},
    recovery::{id_of, long_answer, make_known, noted, pause_after, read_rest, wait_for_note},
};

async fn answered(body: Value) -> (TestApp, String) {
    let app = TestApp::start().await;
    let id = app.client().openai(&body).await.request_id();
    (app, id)
}

/// One request to a provider that follows a rule.
async fn with_rule(rule: Rule, body: Value) -> (TestApp, Case) {
    let app = TestApp::start().await;
    app.simulator.script(rule).unwrap();
    let answer = if body["model"].as_str().unwrap().starts_with("anthropic") {
        app.client().anthropic(&body).await
    } else {
        app.client().openai(&body).await
    };
    let closed = app.closed(&answer.request_id()).await;
    (app, Case::of(closed))
}

fn generate(generate: Generate) -> Rule {
    Rule {
        answer: Answer::Generate(generate),
        ..Rule::default()
    }
}

pub async fn a_whole_answer() -> (TestApp, Case) {
    let (app, id) = answered(openai_body(true)).await;
    let closed = app.closed(&id).await;
    let sent = app.simulator.log().remove(0);
    assert_eq!(
        closed["usage"]["tokens"]["output"].as_u64(),
        Some(sent.tokens_generated)
    );
    (app, Case::of(closed))
}

pub async fn an_answer_of_another_model() -> (TestApp, Case) {
    let other = generate(Generate {
        served_model: Some("gpt-4o-mini".to_owned()),
        ..Generate::default()
    });
    let (app, case) = with_rule(other, openai_body(true)).await;
    (app, case.borne())
}

pub async fn a_whole_answer_without_usage() -> (TestApp, Case) {
    let missing = Generate {
        usage: UsageReport::Missing,
        ..Generate::default()
    };
    with_rule(generate(missing), openai_body(true)).await
}

/// A stream that is left after some of it, whose upstream has sent so many events.
async fn left_in_mid_stream(app: &TestApp, body: &Value) -> String {
    let hold = Hold {
        gate: "later".to_owned(),
        events: 8,
    };
    let faults = Faults {
        hold_after_events: Some(hold),
        ..Faults::default()
    };
    app.simulator.script(faulty(faults)).unwrap();
    let response = app.client().begin("/v1/chat/completions", body).await;
    let id = id_of(&response);
    let mut stream = response.bytes_stream();
    app.simulator.wait_until(|log| log[0].events_sent >= 8).await;
    stream.next().await.unwrap().unwrap();
    id
}

pub async fn a_client_that_leaves_in_mid_stream() -> (TestApp, Case) {
    let app = TestApp::start().await;
    let id = left_in_mid_stream(&app, &openai_body(true)).await;
    app.simulator
        .wait_until(|log| log[0].outcome == Outcome::ClientGone)
        .await;
    let closed = app.closed(&id).await;
    (app, Case::of(closed))
}

pub async fn a_client_that_leaves_a_provider_that_bills_on() -> (TestApp, Case) {
    let app = TestApp::start().await;
    offer_of_groq(&app).await;
    let mut body = openai_body(true);
    body["model"] = "openai/gpt-4o-mini".into();
    let id = left_in_mid_stream(&app, &body).await;
    app.wait_for_metric("truerelay_unattended_answers_total 1").await;
    app.simulator.release("later");
    let log = app
        .simulator
        .wait_until(|log| log[0].outcome == Outcome::Finished)
        .await;
    let closed = app.closed(&id).await;
    assert_eq!(
        closed["usage"]["tokens"]["output"].as_u64(),
        Some(log[0].tokens_generated)
    );
    let case = Case {
        price: GROQ,
        ..Case::of(closed).reported()
    };
    (app, case)
}

pub async fn a_client_that_leaves_before_the_head() -> (TestApp, Case) {
    let app = TestApp::start().await;
    let silent = Faults {
        hang_before_head: true,
        ..Faults::default()
    };
    app.simulator.script(faulty(silent)).unwrap();
    let (client, body) = (app.client(), openai_body(true));
    let call = tokio::spawn(async move { client.try_begin("/v1/chat/completions", &body).await.map(|_| ()) });
    app.simulator.wait_until(|log| !log.is_empty()).await;
    call.abort();
    app.wait_for_number("SELECT COUNT(*) FROM charge", 1).await;
    let id = only_request(&app).await;
    let closed = app.closed(&id).await;
    (app, Case::of(closed))
}

fn cut_after(events: usize) -> Faults {
    Faults {
        cut: Some(Cut {
            after: CutPoint::Events(events),
            how: Default::default(),
        }),
        ..Faults::default()
    }
}

pub async fn an_answer_that_is_cut_off() -> (TestApp, Case) {
    with_rule(faulty(cut_after(6)), openai_body(true)).await
}

pub async fn an_answer_of_nothing() -> (TestApp, Case) {
    let error = ErrorEvent {
        after_events: 1,
        data: None,
    };
    let faults = Faults {
        error_event: Some(error),
        ..Faults::default()
    };
    let (app, case) = with_rule(faulty(faults), anthropic_body(true)).await;
    let case = Case {
        price: SONNET,
        ..case.borne()
    };
    (app, case)
}

pub async fn a_provider_that_fails() -> (TestApp, Case) {
    with_rule(status(503), openai_body(true)).await
}

pub async fn a_provider_that_refuses() -> (TestApp, Case) {
    with_rule(status(400), openai_body(false)).await
}

pub async fn moderation_before_output() -> (TestApp, Case) {
    let body = json!({
        "id": "c", "object": "chat.completion", "model": "gpt-4o",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "" }, "finish_reason": "content_filter" }],
        "usage": { "prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12 },
    });
    let fixed = Fixed {
        body_json: Some(body),
        ..Fixed::default()
    };
    let rule = Rule {
        answer: Answer::Fixed(fixed),
        ..Rule::default()
    };
    let (app, case) = with_rule(rule, openai_body(false)).await;
    (app, case.borne())
}

pub async fn moderation_after_output() -> (TestApp, Case) {
    let chunk = |delta: Value, finish: Value| {
        json!({
            "id": "c", "object": "chat.completion.chunk", "model": "gpt-4o",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        })
    };
    let events = [
        chunk(json!({ "role": "assistant", "content": "so" }), Value::Null),
        chunk(json!({ "content": " far" }), Value::Null),
        chunk(json!({}), json!("content_filter")),
        json!({ "id": "c", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [],
            "usage": { "prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14 } }),
    ];
    let mut text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    text.push_str("data: [DONE]\n\n");
    let fixed = Fixed {
        body_text: Some(text),
        headers: [("content-type".to_owned(), "text/event-stream".to_owned())].into(),
        ..Fixed::default()
    };
    let rule = Rule {
        answer: Answer::Fixed(fixed),
        ..Rule::default()
    };
    let (app, case) = with_rule(rule, openai_body(true)).await;
    (app, case.reported())
}

/// A relay that waits for nobody for long.
async fn impatient(faults: Faults) -> (TestApp, Case) {
    let app = TestApp::start_with(TestAppOptions {
        config: "[relay]\nfirst_byte_timeout_ms = 500\nidle_timeout_ms = 700\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    app.simulator.script(faulty(faults)).unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    let closed = app.closed(&answer.request_id()).await;
    (app, Case::of(closed))
}

pub async fn silence_before_output() -> (TestApp, Case) {
    impatient(Faults {
        hang_before_head: true,
        ..Faults::default()
    })
    .await
}

pub async fn silence_after_output() -> (TestApp, Case) {
    impatient(Faults {
        hang_after_events: Some(8),
        ..Faults::default()
    })
    .await
}

async fn refused(credit_usd: &str, options: KeyOptions) -> (TestApp, Case) {
    let mut app = TestApp::start().await;
    let (_, key) = app.tenant_with(credit_usd, options).await;
    let client = app.client_with(&key);
    let answer = client.openai(&openai_body(true)).await;
    assert_eq!(answer.status, 402, "{}", answer.text());
    let closed = client.closed_request(&answer.request_id()).await;
    (app, Case::of(closed))
}

pub async fn too_little_credit() -> (TestApp, Case) {
    refused("0.000001", KeyOptions::default()).await
}

pub async fn a_budget_that_is_too_small() -> (TestApp, Case) {
    let options = KeyOptions {
        budget: Some(("0.000001".to_owned(), "day")),
        ..KeyOptions::default()
    };
    refused("5", options).await
}

/// A stream that rests in the midst of it, and what is noted of it.
async fn resting(app: &TestApp) -> (reqwest::Response, i64) {
    app.simulator.script(long_answer(90, 0, pause_after(60))).unwrap();
    let response = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    let log = app.simulator.wait_until(|log| log[0].events_sent >= 60).await;
    wait_for_note(app, log[0].tokens_generated - 2).await;
    (response, noted(app).await)
}

pub async fn a_node_that_dies() -> (TestApp, Case) {
    let mut app = TestApp::start().await;
    let (response, noted) = resting(&app).await;
    let id = id_of(&response);
    app.kill();
    read_rest(response).await;
    app.restart().await;
    let closed = app.closed(&id).await;
    let case = Case {
        noted,
        ..Case::of(closed)
    };
    (app, case)
}

/// Its node goes on meanwhile: what it says of the request later moves nobody's credit.
pub async fn a_hold_that_nobody_ends() -> (TestApp, Case) {
    let app = watchful().await;
    let (response, noted) = resting(&app).await;
    let id = id_of(&response);
    app.execute(AGE_HOLDS).await;
    let case = Case {
        noted,
        ..Case::of(app.closed(&id).await)
    };
    app.simulator.release("rest");
    read_rest(response).await;
    (app, case)
}

pub async fn a_ledger_that_does_not_answer() -> (TestApp, Case) {
    let app = TestApp::start_with(TestAppOptions {
        config: "[relay]\nhold_timeout_ms = 300\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    make_known(&app).await;
    let locked = app.lock_ledger().await;
    let answer = app.client().openai(&openai_body(true)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    locked.release().await;
    let closed = app.closed(&answer.request_id()).await;
    (app, Case::of(closed).borne())
}
