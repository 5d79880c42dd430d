//! Three nodes on one database, which all know a tenant as rich when five hundred of its requests arrive at once.

use std::{collections::BTreeMap, time::Duration};

use domain::Amount;
use futures_util::future::join_all;
use serde_json::{Value, json};
use simulator::Faults;
use support::{Client, KeyOptions, TestApp, openai_body};

use crate::faults::words;

const CALLS: usize = 500;
/// A request of 500 tokens holds about a hundredth of the credit: five times too much is asked for.
const CREDIT_USD: &str = "1";
const LIMIT: u64 = 500;
const WORDS: usize = 400;
/// More than the credit covers, and less than the nodes believe that it does.
const SENT_TOGETHER: usize = 200;

const CHARGED: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge \
    WHERE tenant_id = (SELECT id FROM tenant WHERE name = 'another')";
const BOOKED: &str = "SELECT COUNT(*) FROM tx WHERE kind = 'refused_cost'";
const LOST: &str =
    "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:unbilled'";

fn body(name: &str) -> Value {
    let mut body = openai_body(true);
    body["max_tokens"] = json!(LIMIT);
    body["user"] = json!(name);
    body
}

fn cost_of(closed: &Value) -> i64 {
    let cost = closed["cost_usd"].as_str().expect("a cost");
    cost.parse::<Amount>().expect("an amount").nanos()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_requests_at_once_spend_no_more_than_there_is() {
    let mut app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let (second, third) = tokio::join!(app.start_second_node(), app.start_second_node());
    let (_, key) = app.tenant_with(CREDIT_USD, KeyOptions::default()).await;
    let clients = [app.client_with(&key), second.client_with(&key), third.client_with(&key)];
    app.simulator.script(words(WORDS, Faults::default())).unwrap();
    // from here on every node knows the balance, and sends at once what seems covered
    let mut spent = 0;
    for client in &clients {
        let answer = client.openai(&body("first")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        spent += cost_of(&client.closed_request(&answer.request_id()).await);
    }

    // no node hears what the others hold before each has sent what it believes to be covered
    let ledger = app.lock_ledger().await;
    let overlapping = async {
        let sent = app
            .simulator
            .wait_until(|log| log.len() >= clients.len() + SENT_TOGETHER);
        drop(tokio::time::timeout(Duration::from_secs(2), sent).await);
        ledger.release().await;
    };
    let calls = join_all((0..CALLS).map(|number| call(&clients[number % clients.len()], number)));
    let (answers, ()) = tokio::join!(calls, overlapping);
    let mut refused = BTreeMap::new();
    for (name, answer) in answers {
        match answer.status.as_u16() {
            200 => {
                let closed = clients[0].closed_request(&answer.request_id()).await;
                assert_eq!(closed["reason"], "completed", "{closed}");
                spent += cost_of(&closed);
            }
            // no credit; and on a busy machine the database may seem away
            402 | 503 => drop(refused.insert(name, answer)),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    app.wait_for_holds(0).await;
    assert!(!refused.is_empty(), "more was asked for than there was");
    assert!(spent <= Amount::from_usd(1).nanos(), "{spent} nano-USD were charged");
    assert_eq!(app.number(CHARGED).await, spent, "nobody else was charged");

    let log = app.simulator.log();
    let is_refused = |entry: &&simulator::LogEntry| refused.contains_key(entry.body["user"].as_str().unwrap_or(""));
    let sent = i64::try_from(log.iter().filter(is_refused).count()).unwrap();
    let (booked, lost) = (app.number(BOOKED).await, app.number(LOST).await);
    assert!(sent > 0, "the nodes sent no more than was covered");
    assert!(
        booked <= sent,
        "{booked} refused requests are booked, and {sent} were sent"
    );
    // the provider accepted them while the ledger was kept from answering
    assert!(booked > 0 && lost > 0, "{booked} are booked, with {lost} nano-USD");
    eprintln!(
        "{} of {CALLS} were refused, {sent} of them after they had been sent; {booked} of these are booked to the \
         operator, with {lost} nano-USD; {spent} nano-USD were charged",
        refused.len()
    );
    app.finish_second_node(second).await;
    app.finish_second_node(third).await;
    app.finish().await;
}

async fn call(client: &Client, number: usize) -> (String, support::Answer) {
    let name = format!("call {number}");
    let answer = client.openai(&body(&name)).await;
    (name, answer)
}
