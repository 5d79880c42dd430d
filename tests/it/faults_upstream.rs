//! Providers whose connections fail: silence, drips, resets and cuts, on the way as a real network does them.

use std::time::Duration;

use fault_proxy::{Cut, CutKind, CutPoint, Drip, Lane};
use futures_util::StreamExt;
use reqwest::Response;
use serde_json::json;
use simulator::{Answer, Faults, Fixed, Hold};
use support::{TestApp, TestAppOptions};

use crate::faults::{closed_free, closed_within_counts, dialects, id_of, whole, words};

async fn app(config: &str) -> TestApp {
    TestApp::start_with(TestAppOptions {
        provider_proxy: true,
        config: config.to_owned(),
        ..TestAppOptions::default()
    })
    .await
}

fn pause_after(events: usize) -> Faults {
    Faults {
        hold_after_events: Some(Hold {
            gate: "rest".to_owned(),
            events,
        }),
        ..Faults::default()
    }
}

/// A stream of which some has been read.
struct Reading {
    id: String,
    response: Response,
    text: String,
}

impl Reading {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        Self {
            id: id_of(&response),
            response,
            text: String::new(),
        }
    }

    async fn until_events(&mut self, count: usize) {
        while self.text.matches("\n\n").count() < count {
            let chunk = self.response.chunk().await.unwrap().expect("more events");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// What it said in all, to its end or its break.
    async fn read_to_end(mut self) -> String {
        let mut rest = self.response.bytes_stream();
        while let Some(Ok(chunk)) = rest.next().await {
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        self.text
    }
}

fn assert_broken_off(text: &str, reason: &str) {
    assert!(text.contains(reason), "an error event ends it: {text}");
    assert!(
        !text.contains("[DONE]") && !text.contains("message_stop"),
        "it never looks whole: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_mid_stream_costs_what_was_relayed_and_is_said() {
    let app = app("").await;
    for (path, body) in dialects() {
        for how in [CutKind::Rst, CutKind::Fin] {
            app.simulator.reset();
            app.simulator.script(words(60, pause_after(12))).unwrap();
            let mut reading = Reading::of(app.client().begin(path, &body).await);
            reading.until_events(12).await;
            app.provider_faults().break_open(how);
            let id = reading.id.clone();
            let text = reading.read_to_end().await;
            assert_broken_off(&text, "upstream_cut_off");
            let provider = app.simulator.log().remove(0);
            let closed = closed_within_counts(&app, &id, &text, &provider).await;
            assert_eq!(
                (&closed["reason"], &closed["usage_source"]),
                (&json!("upstream_cut_off"), &json!("estimate"))
            );
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_at_any_byte_is_free_or_costs_what_was_relayed_and_never_looks_whole() {
    let app = app("").await;
    for (path, body) in dialects() {
        app.simulator.reset();
        app.simulator.script(words(20, Faults::default())).unwrap();
        let before = app.provider_faults().counts().bytes_to_client;
        let undisturbed = Reading::of(app.client().begin(path, &body).await).read_to_end().await;
        let mark = if path == "/v1/messages" {
            "message_stop"
        } else {
            "[DONE]"
        };
        assert!(undisturbed.contains(mark));
        let total = app.provider_faults().counts().bytes_to_client - before;
        let mut charged = 0;
        for step in 0..24_u32 {
            app.simulator.reset();
            app.simulator.script(words(20, Faults::default())).unwrap();
            let after = CutPoint::Bytes(total * u64::from(step) / 24);
            let how = if step % 2 == 0 { CutKind::Fin } else { CutKind::Rst };
            app.provider_faults().change(|faults| {
                faults.to_client.cut = Some(Cut {
                    after: after.clone(),
                    how,
                    times: None,
                });
            });
            let response = app.client().begin(path, &body).await;
            let (id, status) = (id_of(&response), response.status().as_u16());
            if status != 200 {
                assert_eq!(status, 502, "{after:?}: {:?}", response.text().await);
                closed_free(&app, &id).await;
                continue;
            }
            let text = Reading::of(response).read_to_end().await;
            assert!(!text.contains(mark), "{after:?}: {text}");
            assert!(text.contains("\"error\""), "{after:?}: an error event ends it: {text}");
            let closed = app.closed(&id).await;
            if closed["reason"] == "upstream_no_output" {
                closed_free(&app, &id).await;
                continue;
            }
            charged += 1;
            assert_eq!(closed["reason"], "upstream_cut_off", "{after:?}");
            let provider = app.simulator.log().pop().unwrap();
            closed_within_counts(&app, &id, &text, &provider).await;
        }
        assert!((10..24).contains(&charged), "both kinds were met: {charged}");
        app.provider_faults().heal();
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_without_the_end_mark_is_an_answer_that_broke_off() {
    let app = app("").await;
    let (path, body) = dialects().into_iter().next().unwrap();
    let event = json!({ "choices": [{ "index": 0, "delta": { "content": "one" } }] });
    let mut rule = words(1, Faults::default());
    rule.answer = Answer::Fixed(Fixed {
        headers: [("content-type".to_owned(), "text/event-stream".to_owned())].into(),
        body_text: Some(format!("data: {event}\n\n")),
        ..Fixed::default()
    });
    app.simulator.script(rule).unwrap();
    let reading = Reading::of(app.client().begin(path, &body).await);
    let id = reading.id.clone();
    assert_broken_off(&reading.read_to_end().await, "upstream_cut_off");
    let closed = app.closed(&id).await;
    assert_eq!(
        (&closed["reason"], &closed["usage"]["tokens"]["output"]),
        (&json!("upstream_cut_off"), &json!(1))
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_accepts_and_says_nothing_costs_nothing_and_blocks_nothing() {
    let app = app("[relay]\nfirst_byte_timeout_ms = 500\ntotal_timeout_ms = 3000\n").await;
    for (path, body) in dialects() {
        app.simulator.script(words(5, Faults::default())).unwrap();
        app.provider_faults().blackhole();
        for body in [body.clone(), whole(&body)] {
            let response = app.client().begin(path, &body).await;
            let id = id_of(&response);
            assert_eq!(response.status(), 504, "{:?}", response.text().await);
            assert_eq!(closed_free(&app, &id).await["reason"], "timeout_before_output");
        }
        app.provider_faults().heal();
        let served = app.client().begin(path, &body).await;
        let reading = Reading::of(served);
        let id = reading.id.clone();
        reading.read_to_end().await;
        assert_eq!(app.closed(&id).await["reason"], "completed");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_inside_an_event_costs_what_was_relayed() {
    let app = app("[relay]\nidle_timeout_ms = 700\n").await;
    for (path, body) in dialects() {
        app.simulator.reset();
        app.simulator.script(words(60, pause_after(12))).unwrap();
        let mut reading = Reading::of(app.client().begin(path, &body).await);
        reading.until_events(12).await;
        // ten more bytes, then nothing: the middle of an event
        app.provider_faults().change(|faults| {
            faults.to_client.drip = Some(Drip {
                bytes: 10,
                every_ms: 3_600_000,
            });
        });
        app.simulator.release("rest");
        let id = reading.id.clone();
        let text = reading.read_to_end().await;
        assert_broken_off(&text, "timeout_after_output");
        let provider = app.simulator.log().remove(0);
        let closed = closed_within_counts(&app, &id, &text, &provider).await;
        assert_eq!(closed["reason"], "timeout_after_output");
        app.provider_faults().heal();
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drip_is_ended_by_the_limit_for_the_whole_request() {
    let app = app("[relay]\nfirst_byte_timeout_ms = 1000\nidle_timeout_ms = 60000\ntotal_timeout_ms = 3000\n").await;
    let drip = Lane {
        drip: Some(Drip { bytes: 1, every_ms: 50 }),
        ..Lane::default()
    };
    for (path, body) in dialects() {
        app.simulator.reset();
        app.simulator.script(words(60, pause_after(12))).unwrap();
        let mut reading = Reading::of(app.client().begin(path, &body).await);
        reading.until_events(12).await;
        app.provider_faults().change(|faults| faults.to_client = drip.clone());
        app.simulator.release("rest");
        let id = reading.id.clone();
        // no byte is late enough for the idle limit, which is a minute: only the other one can end this
        let text = tokio::time::timeout(Duration::from_secs(30), reading.read_to_end())
            .await
            .unwrap();
        assert_broken_off(&text, "timeout_after_output");
        let provider = app.simulator.log().remove(0);
        closed_within_counts(&app, &id, &text, &provider).await;

        // a head that never gets complete
        let response = app.client().begin(path, &body).await;
        let id = id_of(&response);
        assert_eq!(response.status(), 504);
        assert_eq!(closed_free(&app, &id).await["reason"], "timeout_before_output");
        app.provider_faults().heal();
    }
    app.finish().await;
}
