//! Three nodes are restarted one after the other, as a release does, behind a load balancer that goes by readiness: no
//! customer notices, except whose answers take longer than a node waits for them; those are charged as far as they came.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;
use simulator::{Answer, Faults, Generate, Hold, Match, Rule};
use support::{Client, Process, SecondNode, TestApp, TestAppOptions};

use crate::faults::{closed_within_counts, dialects, id_of, words};

const NODES: usize = 3;
const WORDS: usize = 20;
/// In the body of a request whose answer outlasts every stop.
const ENDLESS: &str = "this one never ends";
/// Answers per node that outlast its stop.
const ENDLESS_PER_NODE: usize = 2;
/// Closed requests that are looked at together.
const READ_AT_ONCE: usize = 16;
/// How often the load balancer asks.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// What a run is made of.
struct Scale {
    streams: usize,
    token_delay_ms: u64,
    drain_delay_s: u64,
    drain_timeout_s: u64,
    /// Whoever stops the last node loses patience after this, and kills it.
    patience: Option<Duration>,
    rounds: usize,
}

/// Nodes as a load balancer sees them.
struct Fleet {
    clients: Vec<Client>,
    probes: Vec<String>,
    ready: Vec<AtomicBool>,
}

impl Fleet {
    async fn watch(&self, is_over: &AtomicBool) {
        let http = reqwest::Client::new();
        while !is_over.load(Ordering::Relaxed) {
            join_all(self.probes.iter().zip(&self.ready).map(async |(url, ready)| {
                let answer = http.get(url).timeout(Duration::from_secs(1)).send().await;
                let is_ready = answer.is_ok_and(|answer| answer.status() == 200);
                ready.store(is_ready, Ordering::Relaxed);
            }))
            .await;
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    /// A node that is ready, in turn.
    async fn next(&self, turn: &mut usize) -> &Client {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            *turn += 1;
            let node = *turn % NODES;
            if self.ready[node].load(Ordering::Relaxed) {
                return &self.clients[node];
            }
            if turn.is_multiple_of(NODES) {
                assert!(Instant::now() < deadline, "no node is ready");
                tokio::time::sleep(PROBE_EVERY).await;
            }
        }
    }
}

/// On a busy machine the database may seem away although nobody has touched it. A node that stops says something else.
fn is_busy(status: reqwest::StatusCode, text: &str) -> bool {
    status == 503 && text.contains("ledger_unavailable")
}

/// Asks without a pause; whatever is sent to a node that is ready is answered whole. Answers the requests' ids.
async fn customer(fleet: &Fleet, number: usize, is_over: &AtomicBool) -> Vec<String> {
    let (path, body) = dialects().into_iter().next().unwrap();
    let mut turn = number;
    let mut ids = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let client = fleet.next(&mut turn).await;
        let response = client
            .try_begin(path, &body)
            .await
            .expect("a ready node is connected to");
        let (status, id) = (response.status(), id_of(&response));
        let text = response.text().await.expect("an answer that has begun goes on");
        if is_busy(status, &text) {
            continue;
        }
        if status != 200 {
            panic!("{status} {text}: {}", client.closed_request(&id).await);
        }
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        ids.push(id);
    }
    ids
}

/// Answers that will not have ended when their node stops, and what their customers see of them.
async fn begin_endless(client: &Client, node: &str) -> Vec<(String, reqwest::Response)> {
    let (path, mut body) = dialects().into_iter().next().unwrap();
    let text = body["messages"][0]["content"].as_str().unwrap().to_owned();
    body["messages"][0]["content"] = format!("{text} {ENDLESS}").into();
    let mut begun = Vec::new();
    for attempt in 0.. {
        let name = format!("{node}-{attempt}");
        body["user"] = json!(name);
        let response = client.begin(path, &body).await;
        let status = response.status();
        if status == 200 {
            begun.push((name, response));
            if begun.len() == ENDLESS_PER_NODE {
                break;
            }
        } else {
            let text = response.text().await.unwrap();
            assert!(is_busy(status, &text) && attempt < 100, "{status} {text}");
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }
    begun
}

fn script(app: &TestApp, token_delay_ms: u64) {
    let gate = Hold {
        gate: "never".to_owned(),
        events: 12,
    };
    let endless = Rule {
        matching: Match {
            body_contains: Some(ENDLESS.to_owned()),
            ..Match::default()
        },
        ..words(
            WORDS,
            Faults {
                hold_after_events: Some(gate),
                ..Faults::default()
            },
        )
    };
    app.simulator.script(endless).unwrap();
    let mut others = words(WORDS, Faults::default());
    if let Answer::Generate(Generate {
        token_delay_ms: delay, ..
    }) = &mut others.answer
    {
        *delay = Some(token_delay_ms);
    }
    app.simulator.script(others).unwrap();
}

enum OneNode<'a> {
    First(&'a mut TestApp),
    Other(&'a mut SecondNode),
}

impl OneNode<'_> {
    fn process(&mut self) -> &mut Process {
        match self {
            Self::First(app) => app.process(),
            Self::Other(node) => node.process(),
        }
    }

    /// Stops it in order, or kills it when that takes too long, and starts it again.
    async fn restart(&mut self, patience: Option<Duration>) {
        self.process().signal("TERM");
        let asked_at = Instant::now();
        let deadline = asked_at + Duration::from_secs(120);
        while !self.process().has_ended() {
            if patience.is_some_and(|patience| asked_at.elapsed() > patience) {
                self.process().kill();
            }
            assert!(Instant::now() < deadline, "it does not stop:\n{}", self.process().log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match self {
            Self::First(app) => app.supervise().await,
            Self::Other(node) => node.supervise().await,
        }
    }
}

async fn restarted_in_turn(scale: Scale) {
    let setting = |name: &str, value: u64| (format!("TRUERELAY__SERVER__{name}"), value.to_string());
    let mut app = TestApp::start_with(TestAppOptions {
        environment: vec![
            setting("DRAIN_DELAY_S", scale.drain_delay_s),
            setting("DRAIN_TIMEOUT_S", scale.drain_timeout_s),
        ],
        ..TestAppOptions::default()
    })
    .await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    app.admin.grant(&app.seeded.tenant, "900").await;
    script(&app, scale.token_delay_ms);
    let (mut second, mut third) = tokio::join!(app.start_second_node(), app.start_second_node());
    let key = app.seeded.key.clone();
    let admins = [&app.admin, &second.admin, &third.admin];
    let fleet = Fleet {
        clients: vec![app.client(), second.client_with(&key), third.client_with(&key)],
        probes: admins.map(|admin| format!("{}/readyz", admin.url())).to_vec(),
        ready: (0..NODES).map(|_| AtomicBool::new(false)).collect(),
    };
    let (customers_leave, all_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let restarts = async {
        let mut endless = Vec::new();
        for round in 0..scale.rounds {
            for node in 0..NODES {
                endless.extend(begin_endless(&fleet.clients[node], &format!("{round}-{node}")).await);
                wait_for_endless(&app, &endless).await;
                let mut restarted = match node {
                    0 => OneNode::First(&mut app),
                    1 => OneNode::Other(&mut second),
                    _ => OneNode::Other(&mut third),
                };
                let is_last = node == NODES - 1;
                restarted.restart(scale.patience.filter(|_| is_last)).await;
            }
        }
        customers_leave.store(true, Ordering::Relaxed);
        endless
    };
    let traffic = async {
        let customers = (0..scale.streams).map(|number| customer(&fleet, number, &customers_leave));
        let ids = join_all(customers).await;
        all_over.store(true, Ordering::Relaxed);
        ids
    };
    let (endless, ids, ()) = tokio::join!(restarts, traffic, fleet.watch(&all_over));
    app.wait_for_holds(0).await;
    let ids: Vec<String> = ids.into_iter().flatten().collect();
    stream::iter(&ids)
        .for_each_concurrent(READ_AT_ONCE, async |id| {
            let closed = app.closed(id).await;
            let output = &closed["usage"]["tokens"]["output"];
            assert_eq!(
                (&closed["reason"], output),
                (&json!("completed"), &json!(WORDS)),
                "{closed}"
            );
        })
        .await;
    for (name, response) in endless {
        assert_charged_as_far_as_it_came(&app, &name, response).await;
    }
    eprintln!(
        "{} restarts under {} streams: {} answers, all of them whole",
        scale.rounds * NODES,
        scale.streams,
        ids.len()
    );
    app.finish_second_node(second).await;
    app.finish_second_node(third).await;
    app.finish().await;
}

/// Until the provider has said what it will say of all of them. It is noted long before their node gives them up.
async fn wait_for_endless(app: &TestApp, begun: &[(String, reqwest::Response)]) {
    let is_said = |log: &[simulator::LogEntry], name: &str| {
        log.iter()
            .any(|entry| entry.body["user"] == *name && entry.events_sent >= 12)
    };
    app.simulator
        .wait_until(|log| begun.iter().all(|(name, _)| is_said(log, name)))
        .await;
}

async fn assert_charged_as_far_as_it_came(app: &TestApp, name: &str, response: reqwest::Response) {
    let id = id_of(&response);
    let log = app.simulator.log();
    let sent = log.iter().find(|entry| entry.body["user"] == *name).unwrap();
    let closed = closed_within_counts(app, &id, "", sent).await;
    let reason = closed["reason"].as_str().unwrap();
    assert!(["relay_crashed", "client_gone"].contains(&reason), "{closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_restarted_in_turn_refuse_nobody() {
    restarted_in_turn(Scale {
        streams: 20,
        token_delay_ms: 40,
        drain_delay_s: 1,
        drain_timeout_s: 3,
        patience: None,
        rounds: 1,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make faults"]
async fn nodes_that_are_restarted_in_turn_under_five_hundred_streams_refuse_nobody() {
    restarted_in_turn(Scale {
        streams: 500,
        token_delay_ms: 200,
        drain_delay_s: 2,
        drain_timeout_s: 20,
        // answers take five seconds: by then only those are left that never end
        patience: Some(Duration::from_secs(17)),
        rounds: 5,
    })
    .await;
}
