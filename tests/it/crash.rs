//! What holds after a node was asked to stop. What holds after it died is in `recovery`.

use std::time::Duration;

use futures_util::StreamExt;
use simulator::{Faults, Hold, Rule};
use support::{TestApp, TestAppOptions, openai_body};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_node_stops_is_charged_once() {
    let mut app = TestApp::start().await;
    app.simulator.script(pause_after(8)).unwrap();
    let response = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    app.simulator.wait_until(|log| log[0].events_sent >= 8).await;
    let mut stream = response.bytes_stream();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    app.process().signal("TERM");
    let status = app.process().wait(Duration::from_secs(60));
    assert!(status.success());
    app.assert_clean_after_stop("").await;
    assert_eq!(
        app.number("SELECT COUNT(*) FROM charge WHERE state = 'settled' AND reason = 'client_gone'")
            .await,
        1
    );

    app.restart().await;
    let closed = app.closed(&id).await;
    assert_eq!(closed["reason"], "client_gone");
    assert_ne!(closed["cost_usd"], "0.00");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_streams_finish_and_lets_nobody_in() {
    let mut app = TestApp::start().await;
    app.simulator.script(pause_after(6)).unwrap();
    let response = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    app.process().signal("TERM");
    let refused = loop {
        let answer = app.client().openai(&openai_body(false)).await;
        if answer.status == 503 {
            break answer;
        }
        // the signal has not been seen yet: this request is served, and waits for the gate
        assert_eq!(answer.status, 200);
    };
    assert_eq!(refused.json()["error"]["code"], "node_stopping");
    assert!(refused.header("retry-after").is_some());
    let ready = reqwest::get(format!("{}/readyz", app.admin.url())).await.unwrap();
    assert_eq!(ready.status(), 503, "readiness is off");

    app.simulator.release("rest");
    let mut text = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.expect("the stream is not cut"));
    }
    assert!(String::from_utf8(text).unwrap().ends_with("data: [DONE]\n\n"));
    let status = app.process().wait(Duration::from_secs(60));
    assert!(status.success());
    app.assert_clean_after_stop("").await;
    app.restart().await;
    assert_eq!(app.closed(&id).await["reason"], "completed");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_forever_and_the_cut_request_is_closed() {
    let mut app = TestApp::start_with(TestAppOptions {
        environment: vec![("TRUERELAY__SERVER__DRAIN_TIMEOUT_S".to_owned(), "1".to_owned())],
        ..TestAppOptions::default()
    })
    .await;
    app.simulator.script(pause_after(6)).unwrap();
    let response = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    app.process().signal("TERM");
    app.process().wait(Duration::from_secs(60));
    drop(response);
    app.restart().await;
    app.wait_for_holds(0).await;
    let closed = app.closed(&id).await;
    assert!(
        ["relay_crashed", "client_gone"].contains(&closed["reason"].as_str().unwrap()),
        "{closed}"
    );
    app.finish().await;
}
