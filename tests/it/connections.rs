//! Connections as clients keep them: opened ahead of their request, and many of them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use simulator::{Faults, Hold};
use support::{TestApp, TestAppOptions, openai_body};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::faults::{dialects, id_of, words};

/// Clients open connections ahead, and use them when the one that they wait for is not free. One that is told 408 before
/// its request was sent takes that for the answer to it, and there is no id to ask about.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_opened_ahead_of_its_request_is_served() {
    let app = TestApp::start().await;
    let address = app.relay_url().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    let body = openai_body(false).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        app.seeded.key,
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\nx-request-id: req_"), "{answer}");
    app.wait_for_holds(0).await;
    app.finish().await;
}

const IDLE: usize = 10_000;
const STREAMS: usize = 2_000;
/// Opened at the same time; more would wait in the queue of the listener.
const AT_ONCE: usize = 100;
/// The most that an idle connection may take of the node's memory.
const MOST_PER_IDLE_BYTES: u64 = 20 * 1024;

/// What a process has in memory, in bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// How many files a process may open.
fn file_limit(process: u32) -> usize {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

/// A connection that has served a request and waits for the next.
async fn idle_connection(address: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 512];
    let read = connection.read(&mut answer).await.unwrap();
    assert!(
        answer[..read].starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer[..read])
    );
    connection
}

/// How long a hundred requests take, one after the other: the median and the second slowest.
async fn latencies(app: &TestApp) -> (Duration, Duration) {
    let mut taken = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        let answer = app.client().openai(&openai_body(false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        taken.push(began.elapsed());
    }
    taken.sort();
    (taken[50], taken[98])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and many files: make faults"]
async fn ten_thousand_idle_connections_and_two_thousand_streams_harm_nobody() {
    let mut app = TestApp::start_with(TestAppOptions {
        environment: vec![("TRUERELAY__SERVER__KEEP_ALIVE_S".to_owned(), "900".to_owned())],
        ..TestAppOptions::default()
    })
    .await;
    let limit = file_limit(std::process::id()).min(file_limit(app.process().id()));
    // this process has both ends of each stream
    if limit < IDLE + 3 * STREAMS {
        eprintln!(
            "not run: {limit} files may be opened, and it takes {}",
            IDLE + 3 * STREAMS
        );
        return app.finish().await;
    }
    let (tenant, address) = (app.seeded.tenant.clone(), app.relay_url().replace("http://", ""));
    app.admin.grant(&tenant, "900").await;
    let node = app.process().id();
    let alone = latencies(&app).await;
    let before = resident(node);
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        idle.extend(join_all((0..AT_ONCE).map(|_| idle_connection(&address))).await);
    }
    let per_idle = (resident(node) - before) / IDLE as u64;
    assert!(
        per_idle < MOST_PER_IDLE_BYTES,
        "{per_idle} bytes for an idle connection"
    );

    let gate = Hold {
        gate: "rest".to_owned(),
        events: 12,
    };
    let faults = Faults {
        hold_after_events: Some(gate),
        ..Faults::default()
    };
    let rule = words(20, faults);
    let times = Some(u32::try_from(STREAMS).unwrap());
    app.simulator.script(simulator::Rule { times, ..rule }).unwrap();
    app.simulator.script(words(20, Faults::default())).unwrap();
    let (path, body) = dialects().into_iter().next().unwrap();
    let client = app.client();
    let mut streams = Vec::new();
    while streams.len() < STREAMS {
        streams.extend(join_all((0..AT_ONCE).map(|_| client.begin(path, &body))).await);
    }
    app.wait_for_holds(i64::try_from(STREAMS).unwrap()).await;
    let with_all = latencies(&app).await;
    let in_all = resident(node);
    eprintln!(
        "{IDLE} idle connections take {per_idle} bytes each; with {STREAMS} streams beside them the node has {} MiB; a request \
         takes {alone:?} alone and {with_all:?} among all (median and 99th of a hundred)",
        in_all >> 20
    );
    assert!(in_all < 1 << 30, "{in_all} bytes");
    app.simulator.release("rest");
    for response in streams {
        assert_eq!(response.status(), 200);
        let id = id_of(&response);
        let text = response.text().await.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{id}: {text}");
    }
    app.wait_for_holds(0).await;
    let reasons = "SELECT COUNT(*) FROM charge WHERE reason <> 'completed'";
    assert_eq!(app.number(reasons).await, 0);
    // they are all still there
    for connection in idle.iter_mut().step_by(IDLE / 10) {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200", "{}", json!(answer));
    }
    drop(idle);
    app.finish().await;
}
