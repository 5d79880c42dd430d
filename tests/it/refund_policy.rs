//! The published refund policy, proved: for every row that `GET /v1/refund-policy` publishes the case is provoked, and the
//! charge is what the row says. A row without a proof here does not compile.

use domain::{
    Amount,
    refund_rules::{Always, Reason},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use simulator::{Answer, Cut, CutPoint, ErrorEvent, Faults, Fixed, Generate, Hold, Match, Outcome, Rule, UsageReport};
use support::{KeyOptions, TestApp, TestAppOptions, anthropic_body, openai_body};

use crate::{
    charges::{cost, faulty, offer_of_groq, only_request, status},
    faults_stopped_node::{AGE_HOLDS, watchful},
    recovery::{id_of, long_answer, make_known, noted, pause_after, read_rest, wait_for_note},
};

/// List prices of input and output, in nano-USD a token, and the multiplier in tenths.
#[derive(Clone, Copy)]
struct Price(i64, i64, i64);

const GPT_4O: Price = Price(2_500, 10_000, 17);
const SONNET: Price = Price(3_000, 15_000, 0);
const GROQ: Price = Price(1_000, 2_000, 10);

/// A case that was provoked.
struct Case {
    /// As its customer sees it.
    closed: Value,
    price: Price,
    /// Whether the provider reported usage.
    is_reported: bool,
    /// Whether a provider has worked in vain, so that the operator bears something.
    is_borne: bool,
    /// What had been noted when the node went away, in nano-USD.
    noted: i64,
}

impl Case {
    fn of(closed: Value) -> Self {
        Self {
            closed,
            price: GPT_4O,
            is_reported: false,
            is_borne: false,
            noted: 0,
        }
    }

    fn reported(self) -> Self {
        Self {
            is_reported: true,
            ..self
        }
    }

    fn borne(self) -> Self {
        Self { is_borne: true, ..self }
    }

    /// What the usage on the request costs at its prices, no more than was held.
    fn price_of_usage(&self) -> Amount {
        let Price(input, output, tenths) = self.price;
        let tokens = |class: &str| self.closed["usage"]["tokens"][class].as_i64().unwrap_or(0);
        let list = tokens("input") * input + tokens("output") * output;
        let held: Amount = self.closed["held_usd"].as_str().unwrap().parse().unwrap();
        Amount::from_nanos((list * tenths + 9) / 10).min(held)
    }
}

/// What is posted on an account of the operator's losses, in nano-USD.
async fn posted(app: &TestApp, account: &str) -> i64 {
    let sql = match account {
        "operator_loss:unbilled" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:unbilled'"
        }
        "operator_loss:overrun" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:overrun'"
        }
        "operator_loss:late" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:late'"
        }
        "operator_loss:node" => {
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:node'"
        }
        other => panic!("the policy names an account that the ledger has not: {other}"),
    };
    app.number(sql).await
}

async fn policy(app: &TestApp) -> Value {
    let response = reqwest::get(format!("{}/v1/refund-policy", app.relay_url()))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// The row of a reason, as anybody reads it.
async fn published(app: &TestApp, reason: Reason) -> Value {
    let policy = policy(app).await;
    let rows = policy["rules"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.filter(|row| row["reason"] == reason.as_str()).collect();
    assert_eq!(rows.len(), 1, "{reason}");
    rows[0].clone()
}

/// The charge is what the row says.
async fn assert_done_as_published(app: &TestApp, reason: Reason, case: &Case) {
    let (rule, closed) = (published(app, reason).await, &case.closed);
    assert_eq!(closed["reason"], rule["reason"], "{closed}");
    assert_eq!(closed["explanation"], rule["explanation"]);
    let (paid, source) = (cost(closed), closed["usage_source"].as_str());
    match rule["customer_pays"].as_str().unwrap() {
        "nothing" => {
            assert_eq!(paid, Amount::ZERO, "{closed}");
            assert_ne!(closed["state"], "settled");
        }
        "reported_usage" => assert_eq!((source, paid), (Some("provider"), case.price_of_usage()), "{closed}"),
        "estimated_usage" => assert_eq!((source, paid), (Some("estimate"), case.price_of_usage()), "{closed}"),
        "reported_else_estimated_usage" => {
            let counted = if case.is_reported { "provider" } else { "estimate" };
            assert_eq!((source, paid), (Some(counted), case.price_of_usage()), "{closed}");
        }
        "noted_usage" => assert_eq!(paid.nanos(), case.noted, "{closed}"),
        other => panic!("a basis that nobody proves: {other}"),
    }
    assert!(
        paid > Amount::ZERO || rule["customer_pays"] == "nothing",
        "the case shows something"
    );
    if case.is_borne {
        let account = rule["operator_bears"].as_str().expect("an account");
        assert!(posted(app, account).await > 0, "the operator bears it: {rule}");
    }
}

/// A test for each row, and a match that no row is missing in.
macro_rules! proofs {
    ($($reason:ident by $case:ident,)+ $(; $other:ident by $elsewhere:literal,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let (app, case) = cases::$case().await;
                assert_done_as_published(&app, Reason::$reason, &case).await;
                app.finish().await;
            }
        )+

        fn where_proved(reason: Reason) -> &'static str {
            match reason {
                $(Reason::$reason => concat!("refund_policy::", stringify!($case)),)+
                $(Reason::$other => $elsewhere,)+
            }
        }
    };
}

proofs! {
    Completed by a_whole_answer,
    CompletedUsageEstimated by a_whole_answer_without_usage,
    ClientGone by a_client_that_leaves_in_mid_stream,
    ClientGoneBilledOn by a_client_that_leaves_a_provider_that_bills_on,
    ClientGoneBeforeHead by a_client_that_leaves_before_the_head,
    UpstreamCutOff by an_answer_that_is_cut_off,
    UpstreamNoOutput by an_answer_of_nothing,
    UpstreamFailed by a_provider_that_fails,
    UpstreamRejected by a_provider_that_refuses,
    ModelSubstituted by an_answer_of_another_model,
    FilteredBeforeOutput by moderation_before_output,
    FilteredAfterOutput by moderation_after_output,
    TimeoutBeforeOutput by silence_before_output,
    TimeoutAfterOutput by silence_after_output,
    InsufficientCredit by too_little_credit,
    BudgetExceeded by a_budget_that_is_too_small,
    RelayCrashed by a_node_that_dies,
    HoldExpired by a_hold_that_nobody_ends,
    LedgerUnavailable by a_ledger_that_does_not_answer,
    ; // nothing that a client or a provider can do makes the relay panic
    InternalError by "crates/ledger: tests::recovery::a_panic_gives_everything_back",
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_published_is_proved_and_can_be_kept() {
    let app = TestApp::start().await;
    let policy = policy(&app).await;
    let codes = |list: &str, key: &str| -> Vec<String> {
        let rows = policy[list].as_array().unwrap().iter();
        rows.map(|row| row[key].as_str().unwrap().to_owned()).collect()
    };
    for code in codes("rules", "reason") {
        let reason: Reason = code.parse().expect("a reason");
        assert!(!where_proved(reason).is_empty());
    }
    assert_eq!(codes("rules", "reason").len(), Reason::ALL.len());
    assert_eq!(
        codes("always", "code"),
        Always::ALL.map(|always| always.rule().code.to_owned())
    );
    for row in policy["rules"].as_array().unwrap() {
        assert!(
            codes("bases", "basis")
                .iter()
                .any(|basis| row["customer_pays"] == *basis),
            "{row}"
        );
    }
    let client = reqwest::Client::new();
    let url = format!("{}/v1/refund-policy", app.relay_url());
    let first = client.get(&url).send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    assert!(first.headers()["cache-control"].to_str().unwrap().contains("max-age="));
    let again = client.get(&url).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(client.post(&url).send().await.unwrap().status(), 405);
    app.finish().await;
}

/// Each case on a relay of its own.
mod cases {
    use super::*;

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
}

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
        matching: Match::default(),
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
