//! Clients that leave, in every phase of a request and in both ways: in order, and by a reset.

use fault_proxy::{Cut, CutKind, CutPoint, Handle, Proxy};
use serde_json::Value;
use simulator::{Answer, Faults, Fixed, Hold, Outcome};
use support::{Client, TestApp};

use crate::faults::{closed_free, closed_within_counts, dialects, id_of, whole, words};

const BOTH_WAYS: [CutKind; 2] = [CutKind::Fin, CutKind::Rst];

/// A customer who can be made to leave.
struct Leaver {
    client: Client,
    connection: Handle,
    _proxy: Proxy,
}

impl Leaver {
    async fn of(app: &TestApp) -> Self {
        let relay = app.relay_url().strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = Proxy::start(0, relay).await.unwrap();
        let url = format!("http://{}", proxy.address());
        Self {
            client: Client::new(url, app.seeded.key.clone()),
            connection: proxy.handle(),
            _proxy: proxy,
        }
    }

    /// Sends a request in the background, and answers when the provider has it.
    async fn send(&self, app: &TestApp, path: &'static str, body: Value) -> tokio::task::JoinHandle<()> {
        let client = self.client.clone();
        let call = tokio::spawn(async move {
            assert!(client.try_begin(path, &body).await.is_err(), "it left before an answer");
        });
        app.simulator.wait_until(|log| !log.is_empty()).await;
        call
    }
}

/// The id of the newest request in the operator's log.
async fn newest_request(app: &TestApp) -> String {
    let page = app.admin.get("/requests").await;
    page["data"][0]["id"].as_str().expect("a request").to_owned()
}

async fn wait_for_cancel(app: &TestApp) {
    app.simulator
        .wait_until(|log| log.iter().all(|entry| entry.outcome == Outcome::ClientGone))
        .await;
}

/// One request, after which the node knows that the tenant is rich: later ones are sent while their holds commit.
async fn make_known(app: &TestApp) {
    let (path, body) = dialects().into_iter().next().unwrap();
    let response = app.client().begin(path, &whole(&body)).await;
    let id = id_of(&response);
    app.closed(&id).await;
    app.simulator.reset();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gone_while_it_sends_leaves_no_trace() {
    let app = TestApp::start().await;
    let leaver = Leaver::of(&app).await;
    for (path, body) in dialects() {
        for how in BOTH_WAYS {
            leaver.connection.change(|faults| {
                faults.to_server.cut = Some(Cut {
                    // behind the head, in the body
                    after: CutPoint::Bytes(300),
                    how,
                    times: None,
                });
            });
            assert!(leaver.client.try_begin(path, &body).await.is_err());
        }
    }
    leaver.connection.heal();
    let (path, body) = dialects().into_iter().next().unwrap();
    let served = leaver.client.begin(path, &body).await;
    app.closed(&id_of(&served)).await;
    assert_eq!(app.simulator.log().len(), 1, "nothing else was dispatched");
    assert_eq!(app.number("SELECT COUNT(*) FROM charge").await, 1);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gone_before_its_hold_is_durable_is_free_and_the_upstream_is_cancelled() {
    let app = TestApp::start().await;
    make_known(&app).await;
    let leaver = Leaver::of(&app).await;
    for (path, body) in dialects() {
        for how in BOTH_WAYS {
            app.simulator.reset();
            let waiting = Faults {
                hold_before_head: Some("head".to_owned()),
                ..Faults::default()
            };
            app.simulator.script(words(20, waiting)).unwrap();
            let closed_before = app.number("SELECT COUNT(*) FROM charge").await;
            let locked = app.lock_ledger().await;
            let call = leaver.send(&app, path, body.clone()).await;
            leaver.connection.break_open(how);
            call.await.unwrap();
            wait_for_cancel(&app).await;
            locked.release().await;
            app.wait_for_number("SELECT COUNT(*) FROM charge", closed_before + 1)
                .await;
            app.wait_for_holds(0).await;
            closed_free(&app, &newest_request(&app).await).await;
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gone_before_the_head_is_free_and_the_upstream_is_cancelled() {
    let app = TestApp::start().await;
    let leaver = Leaver::of(&app).await;
    for (path, body) in dialects() {
        for (body, how) in [
            (body.clone(), CutKind::Fin),
            (body.clone(), CutKind::Rst),
            (whole(&body), CutKind::Fin),
            (whole(&body), CutKind::Rst),
        ] {
            app.simulator.reset();
            let waiting = Faults {
                hold_before_head: Some("head".to_owned()),
                ..Faults::default()
            };
            app.simulator.script(words(20, waiting)).unwrap();
            let closed_before = app.number("SELECT COUNT(*) FROM charge").await;
            let call = leaver.send(&app, path, body).await;
            app.wait_for_holds(1).await;
            leaver.connection.break_open(how);
            call.await.unwrap();
            wait_for_cancel(&app).await;
            app.wait_for_number("SELECT COUNT(*) FROM charge", closed_before + 1)
                .await;
            let closed = closed_free(&app, &newest_request(&app).await).await;
            assert_eq!(closed["reason"], "client_gone_before_head");
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gone_in_mid_stream_pays_for_what_was_produced_whether_the_upstream_speaks_or_not() {
    let app = TestApp::start().await;
    let leaver = Leaver::of(&app).await;
    for (path, body) in dialects() {
        for (how, silent) in [
            (CutKind::Fin, true),
            (CutKind::Rst, true),
            (CutKind::Fin, false),
            (CutKind::Rst, false),
        ] {
            app.simulator.reset();
            let hold = Hold {
                gate: "never".to_owned(),
                events: 12,
            };
            let mut rule = words(800, Faults::default());
            if silent {
                rule.faults.hold_after_events = Some(hold);
            } else if let Answer::Generate(generate) = &mut rule.answer {
                generate.token_delay_ms = Some(5);
            }
            app.simulator.script(rule).unwrap();
            let mut response = leaver.client.begin(path, &body).await;
            let id = id_of(&response);
            let mut received = String::new();
            while received.matches("\n\n").count() < 12 {
                let chunk = response.chunk().await.unwrap().expect("more events");
                received.push_str(std::str::from_utf8(&chunk).unwrap());
            }
            leaver.connection.break_open(how);
            // a silent upstream can only have been cancelled because the client's end was noticed by itself
            wait_for_cancel(&app).await;
            let provider = app.simulator.log().remove(0);
            let closed = closed_within_counts(&app, &id, &received, &provider).await;
            assert_eq!(closed["reason"], "client_gone", "{how:?}, silent: {silent}");
            assert!(provider.tokens_generated < 800, "it was stopped before its end");
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_at_an_error_without_output_pays_nothing() {
    const ERROR: &str =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n";
    let app = TestApp::start().await;
    let leaver = Leaver::of(&app).await;
    for (path, body) in dialects() {
        for how in BOTH_WAYS {
            app.simulator.reset();
            let mut rule = words(
                1,
                Faults {
                    hang_after_events: Some(1),
                    ..Faults::default()
                },
            );
            rule.answer = Answer::Fixed(Fixed {
                headers: [("content-type".to_owned(), "text/event-stream".to_owned())].into(),
                body_text: Some(format!("{ERROR}data: {{}}\n\n")),
                ..Fixed::default()
            });
            app.simulator.script(rule).unwrap();
            let mut response = leaver.client.begin(path, &body).await;
            let id = id_of(&response);
            let first = response.chunk().await.unwrap().expect("the error");
            assert!(String::from_utf8_lossy(&first).contains("overloaded_error"));
            leaver.connection.break_open(how);
            wait_for_cancel(&app).await;
            assert_eq!(closed_free(&app, &id).await["reason"], "upstream_no_output", "{how:?}");
        }
    }
    app.finish().await;
}
