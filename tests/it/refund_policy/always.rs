//! What holds for every request.

use domain::{Amount, refund_rules::Always};
use serde_json::json;
use simulator::{Answer, Cut, CutPoint, Faults, Generate, Rule, UsageReport};
use support::{TestApp, openai_body};

use super::{Case, cases, posted};
use crate::charges::{cost, faulty};

#[tokio::test(flavor = "multi_thread")]
async fn what_always_holds_holds() {
    for always in Always::ALL {
        match always {
            Always::RefusedByRelay => nothing_that_the_relay_refuses_is_charged().await,
            Always::WinningAttemptOnly => only_the_winning_attempt_is_charged().await,
            Always::NeverAboveHold => the_hold_is_the_most().await,
            Always::ChargedOnce => what_comes_later_is_the_operators().await,
            Always::PromptCacheAsReported => the_prompt_cache_is_charged_as_reported().await,
        }
    }
}

async fn nothing_that_the_relay_refuses_is_charged() {
    let app = TestApp::start().await;
    assert_eq!(
        app.client_with("sk-tr-wrong").openai(&openai_body(true)).await.status,
        401
    );
    let mut body = openai_body(true);
    body["model"] = "nobody/nothing".into();
    assert_eq!(app.client().openai(&body).await.status, 404);
    assert_eq!(
        app.client()
            .raw("/v1/chat/completions", &[], b"{".to_vec())
            .await
            .status,
        401
    );
    assert_eq!(app.number("SELECT COUNT(*) FROM charge").await, 0);
    assert_eq!(app.simulator.counts().requests, 0);
    app.finish().await;
}

async fn only_the_winning_attempt_is_charged() {
    let mut app = TestApp::start().await;
    let second = "sk-openai-second-credential-0003";
    app.must_not_leak(second.to_owned());
    app.admin.add_credential(&app.seeded.openai_pool, second).await;
    let cut = Cut {
        after: CutPoint::Events(0),
        how: Default::default(),
    };
    let losing = Rule {
        times: Some(1),
        ..faulty(Faults {
            cut: Some(cut),
            ..Faults::default()
        })
    };
    app.simulator.script(losing).unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    let case = Case::of(app.closed(&answer.request_id()).await);
    assert_eq!(case.closed["attempts"].as_array().unwrap().len(), 2, "{}", case.closed);
    assert_eq!(case.closed["reason"], "completed");
    assert_eq!(cost(&case.closed), case.price_of_usage());
    assert!(posted(&app, "operator_loss:unbilled").await > 0);
    app.finish().await;
}

async fn the_hold_is_the_most() {
    let app = TestApp::start().await;
    let generate = Generate {
        tokens: Some(195),
        ignore_limit: true,
        ..Generate::default()
    };
    let rule = Rule {
        answer: Answer::Generate(generate),
        ..Rule::default()
    };
    app.simulator.script(rule).unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    let case = Case::of(app.closed(&answer.request_id()).await);
    assert_eq!(cost(&case.closed), case.price_of_usage());
    let held: Amount = case.closed["held_usd"].as_str().unwrap().parse().unwrap();
    let beyond = posted(&app, "operator_loss:overrun").await;
    assert_eq!(beyond > 0, cost(&case.closed) == held, "{beyond}: {}", case.closed);
    app.finish().await;
}

async fn what_comes_later_is_the_operators() {
    let (app, case) = cases::a_hold_that_nobody_ends().await;
    let late = "SELECT CAST(CASE WHEN SUM(amount) > 0 THEN 1 ELSE 0 END AS BIGINT) FROM entry WHERE account = 'operator_loss:late'";
    app.wait_for_number(late, 1).await;
    let closed = app.closed(case.closed["id"].as_str().unwrap()).await;
    assert_eq!(closed["cost_usd"], case.closed["cost_usd"]);
    assert_eq!(app.number("SELECT COUNT(*) FROM charge").await, 1);
    app.finish().await;
}

async fn the_prompt_cache_is_charged_as_reported() {
    let app = TestApp::start().await;
    let usage = json!({ "prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23,
        "prompt_tokens_details": { "cached_tokens": 8 } });
    let generate = Generate {
        usage: UsageReport::Override(usage),
        ..Generate::default()
    };
    let rule = Rule {
        answer: Answer::Generate(generate),
        ..Rule::default()
    };
    app.simulator.script(rule).unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    let closed = app.closed(&answer.request_id()).await;
    let list = 12 * 2_500 + 8 * 1_250 + 3 * 10_000;
    assert_eq!(cost(&closed), Amount::from_nanos((list * 17 + 9) / 10), "{closed}");
    app.finish().await;
}
