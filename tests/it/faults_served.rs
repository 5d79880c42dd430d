//! What customers got during a fault, compared with what was charged.

use std::time::{Duration, Instant};

use domain::Amount;
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::Value;
use simulator::{Faults, Hold, Rule};
use support::TestApp;

use crate::faults::{OwnDatabase, dialects, id_of, words, words_received};

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
    async fn of(response: Response) -> Self {
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
pub async fn stream(world: &OwnDatabase) -> Got {
    let (path, body) = dialects().into_iter().next().unwrap();
    Got::of(world.app.client().begin(path, &body).await).await
}

/// Begins a request, again and again while the node refuses it for a moment: on a busy machine the database may seem
/// away although nobody has touched it yet.
pub async fn begin_served(app: &TestApp, path: &str, body: &Value) -> Response {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let response = app.client().begin(path, body).await;
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
pub async fn begin_streams(world: &OwnDatabase, count: usize) -> Vec<Response> {
    let pausing = Faults {
        hold_after_events: Some(Hold {
            gate: "rest".to_owned(),
            events: 12,
        }),
        ..Faults::default()
    };
    world.app.simulator.reset();
    script(world, pausing, Some(u32::try_from(count).unwrap()));
    script(world, Faults::default(), None);
    let (path, body) = dialects().into_iter().next().unwrap();
    let responses = join_all((0..count).map(|_| begin_served(&world.app, path, &body))).await;
    world.app.wait_for_holds(i64::try_from(count).unwrap()).await;
    responses
}

/// Lets them go on to their ends.
pub async fn finish_streams(world: &OwnDatabase, streams: Vec<Response>) -> Vec<Got> {
    world.app.simulator.release("rest");
    join_all(streams.into_iter().map(Got::of)).await
}

fn script(world: &OwnDatabase, faults: Faults, times: Option<u32>) {
    let rule = words(usize::try_from(WORDS).unwrap(), faults);
    world.app.simulator.script(Rule { times, ..rule }).unwrap();
}

/// What one such answer costs, in nano-USD.
pub async fn price(world: &OwnDatabase) -> i64 {
    script(world, Faults::default(), None);
    let (path, body) = dialects().into_iter().next().unwrap();
    let got = Got::of(begin_served(&world.app, path, &body).await).await;
    let cost = &world.app.closed(&got.id).await["cost_usd"];
    cost.as_str().unwrap().parse::<Amount>().unwrap().nanos()
}

/// Charges so far.
pub struct Books {
    settled: i64,
    charged: i64,
}

impl Books {
    /// As the database has them now.
    pub async fn of(world: &OwnDatabase) -> Self {
        let settled = "SELECT COUNT(*) FROM charge WHERE state = 'settled'";
        let charged = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
        Self {
            settled: world.app.number(settled).await,
            charged: world.app.number(charged).await,
        }
    }
}

/// Whoever was answered was answered whole and is charged once at the full price; whoever was refused got nothing and
/// pays nothing.
pub async fn assert_charged_for_what_was_served(world: &OwnDatabase, answers: &[Got], price: i64, before: Books) {
    let mut served = 0;
    for got in answers {
        match got.status {
            200 => {
                assert_eq!(got.words, WORDS, "{}", got.id);
                let closed = world.app.closed(&got.id).await;
                assert_eq!(closed["reason"], "completed", "{closed}");
                served += 1;
            }
            // on a busy machine a body may take its time, too
            408 | 503 => assert_eq!(got.words, 0, "{}", got.id),
            other => panic!("{}: {other}", got.id),
        }
    }
    world.app.wait_for_holds(0).await;
    let after = Books::of(world).await;
    let made = (after.settled - before.settled, after.charged - before.charged);
    assert_eq!(made, (served, price * served), "{served} were served");
}
