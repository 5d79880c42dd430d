//! The charge rules, case by case: what the customer pays, and what the operator bears.

use std::time::Duration;

use domain::Amount;
use futures_util::StreamExt;
use serde_json::{Value, json};
use simulator::{Answer, Cut, CutPoint, ErrorEvent, Faults, Fixed, Generate, Hold, Outcome, Rule, UsageReport};
use support::{COMPLETION_CANARY, TestApp, TestAppOptions, anthropic_body, openai_body};

pub fn cost(closed: &Value) -> Amount {
    closed["cost_usd"]
        .as_str()
        .unwrap_or_else(|| panic!("no cost: {closed}"))
        .parse()
        .unwrap()
}

pub fn faulty(faults: Faults) -> Rule {
    Rule {
        faults,
        ..Rule::default()
    }
}

pub fn status(status: u16) -> Rule {
    let body = json!({ "error": { "message": "no", "type": "x", "code": "y" } });
    Rule {
        answer: Answer::Fixed(Fixed {
            status,
            body_json: Some(body),
            ..Fixed::default()
        }),
        ..Rule::default()
    }
}

/// The operator's losses of a kind, in nano-USD.
async fn loss(app: &TestApp, kind: &str) -> i64 {
    match kind {
        "unbilled" => {
            app.number(
                "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:unbilled'",
            )
            .await
        }
        "overrun" => {
            app.number(
                "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:overrun'",
            )
            .await
        }
        other => panic!("no such loss: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_normal_answer_costs_the_reported_usage_at_list_price_times_multiplier() {
    let app = TestApp::start().await;
    let answer = app.client().openai(&openai_body(true)).await;
    let closed = app.closed(&answer.request_id()).await;
    let sent = app.simulator.log().remove(0);
    let input = i64::try_from(sent.input_tokens).unwrap();
    let output = i64::try_from(sent.tokens_generated).unwrap();
    let list = input * 2_500 + output * 10_000;
    assert_eq!(cost(&closed), Amount::from_nanos((list * 17 + 9) / 10));
    assert_eq!(closed["multiplier"], "1.7");
    assert_eq!(closed["state"], "settled");
    let key = app.client().key().await;
    let available: Amount = key["balance"]["available_usd"].as_str().unwrap().parse().unwrap();
    assert_eq!(available.checked_add(cost(&closed)), Some(Amount::from_usd(5)));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_is_free() {
    let app = TestApp::start().await;
    for code in [500, 502, 503, 529] {
        app.simulator.reset();
        app.simulator.script(status(code)).unwrap();
        let answer = app.client().openai(&openai_body(true)).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.json()["error"]["charged"], false);
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(
            (closed["reason"].as_str(), closed["cost_usd"].as_str()),
            (Some("upstream_failed"), Some("0.00"))
        );
    }
    assert_eq!(loss(&app, "unbilled").await, 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_upstream_rejects_is_free_and_its_words_come_through() {
    let app = TestApp::start().await;
    app.simulator.script(status(400)).unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["message"], "no");
    assert_eq!(answer.json()["error"]["code"], "y");
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["reason"], "upstream_rejected");
    assert_eq!(app.simulator.counts().requests, 1, "it is not tried again");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_request_that_comes_to_nothing_is_free_and_the_prompt_is_the_operators() {
    let app = TestApp::start().await;
    app.simulator
        .script(faulty(Faults {
            cut: Some(Cut {
                after: CutPoint::Events(0),
                how: Default::default(),
            }),
            ..Faults::default()
        }))
        .unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["cost_usd"], "0.00");
    assert!(loss(&app, "unbilled").await > 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_event_before_any_output_is_free() {
    let app = TestApp::start().await;
    let error = ErrorEvent {
        after_events: 1,
        data: None,
    };
    app.simulator
        .script(faulty(Faults {
            error_event: Some(error),
            ..Faults::default()
        }))
        .unwrap();
    let answer = app.client().anthropic(&anthropic_body(true)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("event: error"));
    assert!(!answer.text().contains("message_stop"));
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(
        (closed["reason"].as_str(), closed["cost_usd"].as_str()),
        (Some("upstream_no_output"), Some("0.00"))
    );
    assert!(loss(&app, "unbilled").await > 0, "the prompt is the operator's");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_output_costs_what_was_relayed_and_never_looks_whole() {
    let app = TestApp::start().await;
    for (body, path) in [
        (openai_body(true), "/v1/chat/completions"),
        (anthropic_body(true), "/v1/messages"),
    ] {
        app.simulator.reset();
        let cut = Cut {
            after: CutPoint::Events(6),
            how: Default::default(),
        };
        app.simulator
            .script(faulty(Faults {
                cut: Some(cut),
                ..Faults::default()
            }))
            .unwrap();
        let answer = if path == "/v1/messages" {
            app.client().anthropic(&body).await
        } else {
            app.client().openai(&body).await
        };
        assert!(
            answer.text().contains("upstream_cut_off"),
            "a typed error ends it: {}",
            answer.text()
        );
        assert!(!answer.text().contains("[DONE]") && !answer.text().contains("message_stop"));
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(closed["reason"], "upstream_cut_off");
        assert_eq!(closed["usage_source"], "estimate");
        assert!(cost(&closed) > Amount::ZERO);
        let relayed = app.simulator.log().remove(0).tokens_generated;
        let charged = closed["usage"]["tokens"]["output"].as_u64().unwrap();
        assert!(
            charged <= relayed * 3 && charged > 0,
            "{charged} charged, {relayed} generated"
        );
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_usage_is_estimated_and_flagged() {
    let app = TestApp::start().await;
    let generate = Generate {
        usage: UsageReport::Missing,
        ..Generate::default()
    };
    app.simulator
        .script(Rule {
            answer: Answer::Generate(generate),
            ..Rule::default()
        })
        .unwrap();
    for stream in [true, false] {
        let answer = app.client().openai(&openai_body(stream)).await;
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(closed["reason"], "completed_usage_estimated");
        assert_eq!(closed["usage_source"], "estimate");
        assert!(closed["flags"].as_array().unwrap().contains(&json!("estimated")));
        assert!(cost(&closed) > Amount::ZERO);
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_usage_never_moves_money_the_wrong_way() {
    let app = TestApp::start().await;
    for usage in [
        json!({ "prompt_tokens": -50_000, "completion_tokens": -1, "total_tokens": -50_001 }),
        json!({ "prompt_tokens": 9_223_372_036_854_775_807_i64, "completion_tokens": 1, "total_tokens": 1 }),
        json!({ "prompt_tokens": 1e300, "completion_tokens": 1, "total_tokens": 1 }),
        json!("lots"),
    ] {
        app.simulator.reset();
        let generate = Generate {
            usage: UsageReport::Override(usage.clone()),
            ..Generate::default()
        };
        app.simulator
            .script(Rule {
                answer: Answer::Generate(generate),
                ..Rule::default()
            })
            .unwrap();
        let answer = app.client().openai(&openai_body(true)).await;
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(closed["usage_source"], "estimate", "{usage}");
        let held: Amount = closed["held_usd"].as_str().unwrap().parse().unwrap();
        assert!(
            cost(&closed) > Amount::ZERO && cost(&closed) <= held,
            "{usage}: {closed}"
        );
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_beyond_the_limit_costs_the_customer_no_more_than_the_hold() {
    let app = TestApp::start().await;
    let generate = Generate {
        tokens: Some(195),
        ignore_limit: true,
        ..Generate::default()
    };
    app.simulator
        .script(Rule {
            answer: Answer::Generate(generate),
            ..Rule::default()
        })
        .unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["reason"], "completed");
    let held: Amount = closed["held_usd"].as_str().unwrap().parse().unwrap();
    assert!(cost(&closed) <= held);
    let charged_as_used = closed["usage"]["tokens"]["output"].as_u64() == Some(195);
    assert!(charged_as_used, "{closed}");
    let over = loss(&app, "overrun").await;
    assert_eq!(
        over > 0,
        cost(&closed) == held,
        "what is beyond the hold is the operator's: {over} {closed}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_head_pays_nothing() {
    let app = TestApp::start().await;
    app.simulator
        .script(faulty(Faults {
            hang_before_head: true,
            ..Faults::default()
        }))
        .unwrap();
    let (client, body) = (app.client(), openai_body(true));
    let request = tokio::spawn(async move { client.try_begin("/v1/chat/completions", &body).await.map(|_| ()) });
    app.simulator.wait_until(|log| !log.is_empty()).await;
    request.abort();
    app.simulator
        .wait_until(|log| log[0].outcome == Outcome::ClientGone)
        .await;
    app.wait_for_number("SELECT COUNT(*) FROM charge", 1).await;
    let id = only_request(&app).await;
    let closed = app.closed(&id).await;
    assert_eq!(
        (closed["reason"].as_str(), closed["cost_usd"].as_str()),
        (Some("client_gone_before_head"), Some("0.00"))
    );
    app.finish().await;
}

/// The id of the only request in the operator's log.
pub async fn only_request(app: &TestApp) -> String {
    let page = app.admin.get("/requests").await;
    let data = page["data"].as_array().expect("a page");
    assert_eq!(data.len(), 1, "{page}");
    data[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_mid_stream_pays_for_what_was_produced_and_the_upstream_is_cancelled() {
    let app = TestApp::start().await;
    for (body, path) in [
        (openai_body(true), "/v1/chat/completions"),
        (anthropic_body(true), "/v1/messages"),
    ] {
        app.simulator.reset();
        let hold = Hold {
            gate: "never".to_owned(),
            events: 8,
        };
        app.simulator
            .script(faulty(Faults {
                hold_after_events: Some(hold),
                ..Faults::default()
            }))
            .unwrap();
        let response = app.client().begin(path, &body).await;
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let mut stream = response.bytes_stream();
        app.simulator
            .wait_until(|log| log.last().is_some_and(|entry| entry.events_sent >= 8))
            .await;
        stream.next().await.unwrap().unwrap();
        drop(stream);
        let log = app
            .simulator
            .wait_until(|log| log.last().is_some_and(|entry| entry.outcome == Outcome::ClientGone))
            .await;
        let closed = app.closed(&id).await;
        assert_eq!(closed["reason"], "client_gone", "{closed}");
        assert!(cost(&closed) > Amount::ZERO);
        let generated = log.last().unwrap().tokens_generated;
        let charged = closed["usage"]["tokens"]["output"].as_u64().unwrap_or(0);
        assert!(charged <= generated * 3, "{charged} charged, {generated} generated");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_cancelling_does_not_stop_the_bill_the_answer_is_read_to_its_end_and_charged_as_reported() {
    let app = TestApp::start().await;
    offer_of_groq(&app).await;
    let hold = Hold {
        gate: "later".to_owned(),
        events: 5,
    };
    app.simulator
        .script(faulty(Faults {
            hold_after_events: Some(hold),
            ..Faults::default()
        }))
        .unwrap();
    let mut body = openai_body(true);
    body["model"] = "openai/gpt-4o-mini".into();
    let response = app.client().begin("/v1/chat/completions", &body).await;
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    app.simulator.wait_until(|log| log[0].events_sent >= 5).await;
    drop(response);
    app.wait_for_metric("truerelay_unattended_answers_total 1").await;
    app.simulator.release("later");
    let log = app
        .simulator
        .wait_until(|log| log[0].outcome == Outcome::Finished)
        .await;
    let closed = app.closed(&id).await;
    assert_eq!(closed["reason"], "client_gone_billed_on");
    assert_eq!(closed["usage_source"], "provider");
    assert_eq!(
        closed["usage"]["tokens"]["output"].as_u64(),
        Some(log[0].tokens_generated)
    );
    app.finish().await;
}

/// A provider that goes on generating for a client that has left, and sells one model.
pub async fn offer_of_groq(app: &TestApp) {
    let provider = app
        .admin
        .create(
            "/providers",
            json!({ "slug": "groq", "name": "Groq", "formats": ["openai_chat"],
            "base_url": format!("{}/v1", simulator_url(app).await), "allow_private_address": true }),
        )
        .await;
    let pool = app
        .admin
        .create(
            "/pools",
            json!({ "provider": provider["id"], "name": "groq", "multiplier": "1" }),
        )
        .await;
    app.admin
        .add_credential(pool["id"].as_str().unwrap(), "sk-groq-test")
        .await;
    app.admin
        .create(
            "/offers",
            json!({ "model": "openai/gpt-4o-mini", "pool": pool["id"], "format": "openai_chat",
            "upstream_model_id": "gpt-4o-mini", "usage_profile": "openai_chat",
            "price": { "price": { "input": "1", "output": "2" } } }),
        )
        .await;
}

/// Where the seeded pools point to.
async fn simulator_url(app: &TestApp) -> String {
    let provider = app
        .admin
        .get(&format!("/providers/{}", app.seeded.openai_provider))
        .await;
    provider["base_url"]
        .as_str()
        .unwrap()
        .trim_end_matches("/v1")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_time_limits_cost_nothing_before_output_and_the_relayed_part_after() {
    let app = TestApp::start_with(TestAppOptions {
        config: "[relay]\nfirst_byte_timeout_ms = 500\nidle_timeout_ms = 700\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    app.simulator
        .script(faulty(Faults {
            hang_before_head: true,
            ..Faults::default()
        }))
        .unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(
        (closed["reason"].as_str(), closed["cost_usd"].as_str()),
        (Some("timeout_before_output"), Some("0.00"))
    );

    app.simulator.reset();
    app.simulator
        .script(faulty(Faults {
            hang_after_events: Some(8),
            ..Faults::default()
        }))
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), app.client().anthropic(&anthropic_body(true)))
        .await
        .unwrap();
    assert!(answer.text().contains("timeout_after_output"), "{}", answer.text());
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["reason"], "timeout_after_output");
    assert!(cost(&closed) > Amount::ZERO);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_instead_of_an_answer_is_not_handed_on_and_free() {
    let app = TestApp::start().await;
    let page = Fixed {
        body_text: Some(format!("<html>{COMPLETION_CANARY}</html>")),
        headers: [("content-type".to_owned(), "text/html".to_owned())].into(),
        ..Fixed::default()
    };
    app.simulator
        .script(Rule {
            answer: Answer::Fixed(page),
            ..Rule::default()
        })
        .unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("<html>"));
    assert_eq!(app.closed(&answer.request_id()).await["cost_usd"], "0.00");
    app.finish().await;
}
