//! From credential to credential and from offer to offer, before the first byte and never after.

use serde_json::{Value, json};
use simulator::{Answer, Cut, CutKind, CutPoint, Faults, Fixed, Match, Rule};
use support::{TestApp, TestAppOptions, openai_body};

fn refuse(credential: &str, status: u16, headers: &[(&str, &str)]) -> Rule {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Rule {
        matching: Match {
            credential: Some(credential.to_owned()),
            ..Match::default()
        },
        answer: Answer::Fixed(Fixed {
            status,
            headers,
            body_json: Some(json!({ "error": { "message": "no" } })),
            ..Fixed::default()
        }),
        ..Rule::default()
    }
}

fn suffix(secret: &str) -> String {
    secret[secret.len() - 8..].to_owned()
}

fn outcomes(closed: &Value) -> Vec<&str> {
    closed["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_pool_take_turns() {
    let app = TestApp::start().await;
    let second = "sk-openai-second-credential-0002";
    app.admin.add_credential(&app.seeded.openai_pool, second).await;
    for _ in 0..6 {
        assert_eq!(app.client().openai(&openai_body(false)).await.status, 200);
    }
    let counts = app.simulator.counts().by_credential;
    assert_eq!(counts[&suffix(second)], 3, "{counts:?}");
    assert_eq!(counts[&suffix(&app.seeded.openai_secret)], 3, "{counts:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_refused_is_taken_out_and_the_next_one_answers() {
    for status in [401, 429] {
        let mut app = TestApp::start().await;
        let second = format!("sk-openai-second-credential-{status}");
        app.must_not_leak(second.clone());
        app.admin.add_credential(&app.seeded.openai_pool, &second).await;
        app.simulator
            .script(refuse(&app.seeded.openai_secret, status, &[("retry-after", "60")]))
            .unwrap();
        for _ in 0..5 {
            let answer = app.client().openai(&openai_body(true)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let counts = app.simulator.counts().by_credential;
        assert_eq!(
            counts[&suffix(&app.seeded.openai_secret)],
            1,
            "asked once, then left alone: {counts:?}"
        );
        assert_eq!(counts[&suffix(&second)], 5);
        let shown = app
            .admin
            .get(&format!("/credentials/{}", app.seeded.openai_credential))
            .await;
        assert!(shown["outage"]["until_at"].is_string(), "{shown}");
        app.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_offer_answers_when_the_first_fails_and_the_winner_is_charged() {
    let app = TestApp::start().await;
    let base = app
        .admin
        .get(&format!("/providers/{}", app.seeded.openai_provider))
        .await["base_url"]
        .clone();
    let provider = app
        .admin
        .create("/providers", json!({ "slug": "azure_openai", "name": "Azure", "formats": ["openai_chat"], "base_url": base, "allow_private_address": true }))
        .await;
    let pool = app
        .admin
        .create(
            "/pools",
            json!({ "provider": provider["id"], "name": "azure", "multiplier": "3" }),
        )
        .await;
    app.admin
        .add_credential(pool["id"].as_str().unwrap(), "sk-azure-credential-0001")
        .await;
    app.admin
        .create(
            "/offers",
            json!({ "model": "openai/gpt-4o", "pool": pool["id"], "priority": 1 }),
        )
        .await;

    app.simulator
        .script(refuse(&app.seeded.openai_secret, 500, &[]))
        .unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-truerelay-provider"), Some("azure_openai"));
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(outcomes(&closed), ["status_500", "won"]);
    assert_eq!(closed["multiplier"], "3", "the winner's price");

    // a connection that breaks before the first byte is no answer either
    app.simulator.reset();
    let cut = Cut {
        after: CutPoint::BeforeHead,
        how: Default::default(),
    };
    app.simulator
        .script(Rule {
            matching: Match {
                credential: Some(app.seeded.openai_secret.clone()),
                ..Match::default()
            },
            faults: Faults {
                cut: Some(cut),
                ..Faults::default()
            },
            ..Rule::default()
        })
        .unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    assert_eq!(answer.header("x-truerelay-provider"), Some("azure_openai"));
    let closed = app.closed(&answer.request_id()).await;
    // where the first connection was one from before, a new one was tried too
    assert!((2..=3).contains(&outcomes(&closed).len()), "{closed}");
    assert_eq!(outcomes(&closed).last(), Some(&"won"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_byte_nothing_is_tried_again() {
    let app = TestApp::start().await;
    app.admin
        .add_credential(&app.seeded.openai_pool, "sk-openai-second-credential-0002")
        .await;
    let cut = Cut {
        after: CutPoint::Events(3),
        how: Default::default(),
    };
    app.simulator
        .script(Rule {
            faults: Faults {
                cut: Some(cut),
                ..Faults::default()
            },
            ..Rule::default()
        })
        .unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    assert_eq!(outcomes(&app.closed(&answer.request_id()).await), ["won"]);
    assert_eq!(app.simulator.counts().requests, 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_at_a_private_address_is_not_called_unless_allowed() {
    let app = TestApp::start().await;
    app.admin
        .change(
            &format!("/providers/{}", app.seeded.openai_provider),
            json!({ "name": "OpenAI" }),
        )
        .await;
    let (status, answer) = app
        .admin
        .call(
            reqwest::Method::PATCH,
            &format!("/providers/{}", app.seeded.openai_provider),
            Some(json!({ "allow_private_address": false })),
        )
        .await;
    if status.is_success() {
        // accepted, so the guard itself must hold: plain http to loopback is never called
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let answer = app.client().openai(&openai_body(false)).await;
            if answer.status == 502 {
                assert_eq!(outcomes(&app.closed(&answer.request_id()).await), ["forbidden_address"]);
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{}", answer.text());
        }
    } else {
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|text| text.contains("https")),
            "{answer}"
        );
    }
    app.finish().await;
}

/// Closes the connection without a word when the request has been read: what a request meets on a connection that its
/// server has given up meanwhile.
fn closes(how: CutKind, times: Option<u32>) -> Rule {
    let cut = Cut {
        after: CutPoint::BeforeHead,
        how,
    };
    Rule {
        times,
        faults: Faults {
            cut: Some(cut),
            ..Faults::default()
        },
        ..Rule::default()
    }
}

/// One worker, so that every request finds the connection of the one before.
async fn with_one_worker() -> TestApp {
    TestApp::start_with(TestAppOptions {
        environment: vec![("TRUERELAY__SERVER__WORKERS".to_owned(), "1".to_owned())],
        ..TestAppOptions::default()
    })
    .await
}

/// A request that is served and leaves its connection to the provider open.
async fn open_a_connection(app: &TestApp) {
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(outcomes(&app.closed(&answer.request_id()).await), ["won"]);
}

const BEARS: &str =
    "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:unbilled'";
const FAILURES: &str = "SELECT COUNT(*) FROM request WHERE upstream_failures > 0";

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_is_found_dead_costs_the_customer_nothing() {
    let app = with_one_worker().await;
    for how in [CutKind::Fin, CutKind::Rst] {
        for stream in [false, true] {
            app.simulator.reset();
            open_a_connection(&app).await;
            let borne = app.number(BEARS).await;
            app.simulator.script(closes(how, Some(1))).unwrap();
            // there is one credential and one offer
            let answer = app.client().openai(&openai_body(stream)).await;
            assert_eq!(answer.status, 200, "{how:?}: {}", answer.text());
            let closed = app.closed(&answer.request_id()).await;
            assert_eq!(outcomes(&closed), ["kept_connection_died", "won"], "{closed}");
            assert_eq!(closed["attempts"][0]["credential"], closed["attempts"][1]["credential"]);
            assert_eq!(closed["reason"], "completed");
            // the provider may have begun the first one, and the operator bears that
            assert!(app.number(BEARS).await > borne);
        }
    }
    assert_eq!(app.number(FAILURES).await, 0, "an idle connection may be closed");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_sent_again_once_and_not_after_a_fresh_connection_broke() {
    let app = with_one_worker().await;
    open_a_connection(&app).await;
    app.simulator.script(closes(CutKind::Fin, None)).unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(outcomes(&closed), ["kept_connection_died", "connection_broken"]);
    assert_eq!(app.number(FAILURES).await, 1, "that is a failure");
    // nothing is kept any more
    let answer = app.client().openai(&openai_body(false)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(outcomes(&app.closed(&answer.request_id()).await), ["connection_broken"]);
    // a second credential is another attempt, as ever
    let second = "sk-openai-second-credential-0002";
    app.admin.add_credential(&app.seeded.openai_pool, second).await;
    app.simulator.reset();
    open_a_connection(&app).await;
    app.simulator.script(closes(CutKind::Fin, None)).unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(
        outcomes(&closed),
        ["kept_connection_died", "connection_broken", "connection_broken"]
    );
    app.finish().await;
}
