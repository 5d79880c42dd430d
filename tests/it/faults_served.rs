//! What customers got during a fault, compared with what was charged.

use std::time::{Duration, Instant};

use domain::Amount;
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::Value;
use simulator::{Faults, Hold, Rule};
use support::{Client, TestApp};

use crate::faults::{dialects, id_of, words, words_received};

/// Words of each answer.
const WORDS: u64 = 20;

/// What a customer got.
pub struct Got {
    /// The request.
    pub id: String,
    /// The HTTP status.
    pub status: u16,
    /// Words of an answer.
    pub words: u64,
}

impl Got {
    /// Reads the answer to its end.
    pub async fn of(response: Response) -> Self {
        let (id, status) = (id_of(&response), response.status().as_u16());
        let text = response.text().await.expect("an answer that has begun goes on");
        Self {
            id,
            status,
            words: words_received(&text),
        }
    }
}

/// Sends a stream and reads it to its end.
pub async fn stream(app: &TestApp) -> Got {
    let (path, body) = dialects().into_iter().next().unwrap();
    Got::of(app.client().begin(path, &body).await).await
}

/// Begins a request, again and again while the node refuses it for a moment: on a busy machine the database may seem
/// away although nobody has touched it yet.
pub async fn begin_served(client: &Client, path: &str, body: &Value) -> Response {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let response = client.begin(path, body).await;
        if response.status() == 200 {
            return response;
        }
        assert!(
            Instant::now() < deadline,
            "it is never served: {:?}",
            response.text().await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Begins streams that wait in their middle.
pub async fn begin_streams(app: &TestApp, count: usize) -> Vec<Response> {
    begin_streams_of(app, &vec![app.client(); count]).await
}

/// As [`begin_streams`], one for each of these customers.
pub async fn begin_streams_of(app: &TestApp, customers: &[Client]) -> Vec<Response> {
    let pausing = Faults {
        hold_after_events: Some(Hold {
            gate: "rest".to_owned(),
            events: 12,
        }),
        ..Faults::default()
    };
    app.simulator.reset();
    script(app, pausing, Some(u32::try_from(customers.len()).unwrap()));
    script(app, Faults::default(), None);
    let (path, body) = dialects().into_iter().next().unwrap();
    let responses = join_all(customers.iter().map(|client| begin_served(client, path, &body))).await;
    app.wait_for_holds(i64::try_from(customers.len()).unwrap()).await;
    responses
}

/// Waits until something is noted of every answer under way.
pub async fn wait_for_notes(app: &TestApp) {
    const UNNOTED: &str = "SELECT COUNT(*) FROM hold WHERE progress_amount = 0";
    app.wait_for_number(UNNOTED, 0).await;
}

/// Lets them go on to their ends.
pub async fn finish_streams(app: &TestApp, streams: Vec<Response>) -> Vec<Got> {
    app.simulator.release("rest");
    join_all(streams.into_iter().map(Got::of)).await
}

/// Lets the provider give such answers from here on, or so many times.
pub fn script(app: &TestApp, faults: Faults, times: Option<u32>) {
    let rule = words(usize::try_from(WORDS).unwrap(), faults);
    app.simulator.script(Rule { times, ..rule }).unwrap();
}

/// What one such answer costs, in nano-USD.
pub async fn price(app: &TestApp) -> i64 {
    script(app, Faults::default(), None);
    let (path, body) = dialects().into_iter().next().unwrap();
    let got = Got::of(begin_served(&app.client(), path, &body).await).await;
    let cost = &app.closed(&got.id).await["cost_usd"];
    cost.as_str().unwrap().parse::<Amount>().unwrap().nanos()
}

/// Charges so far.
pub struct Books {
    settled: i64,
    charged: i64,
}

impl Books {
    /// As the database has them now.
    pub async fn of(app: &TestApp) -> Self {
        let settled = "SELECT COUNT(*) FROM charge WHERE state = 'settled'";
        let charged = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
        Self {
            settled: app.number(settled).await,
            charged: app.number(charged).await,
        }
    }
}

/// Whoever was answered was answered whole and is charged once at the full price; whoever was refused got nothing and
/// pays nothing.
pub async fn assert_charged_for_what_was_served(app: &TestApp, answers: &[Got], price: i64, before: Books) {
    let mut served = 0;
    for got in answers {
        match got.status {
            200 => {
                assert_eq!(got.words, WORDS, "{}", got.id);
                let closed = app.closed(&got.id).await;
                assert_eq!(closed["reason"], "completed", "{closed}");
                served += 1;
            }
            503 => assert_eq!(got.words, 0, "{}", got.id),
            other => panic!("{}: {other}", got.id),
        }
    }
    app.wait_for_holds(0).await;
    let after = Books::of(app).await;
    let made = (after.settled - before.settled, after.charged - before.charged);
    assert_eq!(made, (served, price * served), "{served} were served");
}
