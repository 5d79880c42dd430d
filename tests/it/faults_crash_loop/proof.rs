//! What somebody can check afterwards who trusts nobody: the heads of the log that were seen on the way, and the receipt of
//! every request that was closed, all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde_json::Value;
use sqlx::Row;

use super::World;
use crate::{
    faults::dialects,
    receipts::{Desk, receipt},
    recompute::{prices_of, recompute},
};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Receipts that are checked at the same time: a node reads no more than three old price lists at once.
const CHECKS: usize = 2;

const CLOSED: &str = "SELECT 'req_' || replace(request_id::text, '-', ''), replace(tenant_id::text, '-', ''), state, amount \
     FROM charge ORDER BY 1";
const TRANSACTIONS: &str = "SELECT COUNT(*) FROM tx";

/// Heads by size, as they were published.
pub type Heads = BTreeMap<u64, Value>;

/// What the books say of a request.
struct Closed {
    id: String,
    is_poor: bool,
    state: String,
    amount: i64,
}

/// Where each node is reached without a key.
pub fn public_addresses(world: &World) -> Vec<String> {
    let others = world.others.iter().map(|node| node.relay_url().to_owned());
    [world.database.app.relay_url().to_owned()]
        .into_iter()
        .chain(others)
        .collect()
}

/// Keeps every head that any node shows, as a customer would. A node that answers nothing is asked another time.
pub async fn keep_heads(nodes: &[String], is_over: &AtomicBool) -> Heads {
    let mut heads = Heads::new();
    let mut largest = vec![0; nodes.len()];
    while !is_over.load(Ordering::Relaxed) {
        for (node, largest) in nodes.iter().zip(&mut largest) {
            let Some(head) = newest(node).await else { continue };
            let size = head["size"].as_u64().unwrap();
            assert!(size >= *largest, "the log of {node} shrank from {largest}: {head}");
            *largest = size;
            let known = heads.entry(size).or_insert_with(|| head.clone());
            assert_eq!(*known, head, "two heads of one size");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    heads
}

async fn newest(node: &str) -> Option<Value> {
    let answer = reqwest::get(format!("{node}/v1/log")).await.ok()?;
    let log: Value = answer.error_for_status().ok()?.json().await.ok()?;
    (!log["head"].is_null()).then(|| log["head"].clone())
}

/// Every closed request has exactly one leaf, and a receipt that holds and that the script agrees with; and every head that
/// was kept is how the log began that is there now.
pub async fn assert_all_is_proved(world: &World, heads: &Heads) {
    let app = &world.database.app;
    // its receipt comes with a head that is newer than all
    let (path, body) = dialects()[0].clone();
    let last = app.client().begin(path, &body).await;
    let last_id = crate::faults::id_of(&last);
    last.text().await.unwrap();
    app.closed(&last_id).await;
    let keys = public(world, "/.well-known/truerelay-log-keys.json").await;

    let closed = closed_requests(world).await;
    let checks = closed.iter().map(|closed| check(world, closed, &keys));
    let places: Vec<(String, u64)> = stream::iter(checks).buffer_unordered(CHECKS).collect().await;
    let places: BTreeSet<(String, u64)> = places.into_iter().collect();
    assert_eq!(places.len(), closed.len(), "each has a place of its own in the log");
    // and nothing else is in the log but the transactions: no request has a second leaf
    let transactions = app.number(TRANSACTIONS).await;
    assert_eq!(
        leaves(world).await,
        closed.len() as u64 + u64::try_from(transactions).unwrap()
    );
    let of_state = |state: &str| closed.iter().filter(|closed| closed.state == state).count();
    let [settled, voided, refused] = ["settled", "voided", "refused"].map(of_state);
    assert!(settled > 0 && voided > 0 && refused > 0, "{settled} {voided} {refused}");

    let last = receipt(&app.client(), &last_id).await;
    for (size, head) in heads {
        assert_is_how_it_began(world, &last, *size, head, &keys).await;
    }
    eprintln!(
        "{} receipts hold and are computed again: {settled} settled, {voided} voided, {refused} refused; {} heads of the \
         log were kept, and all are how it began",
        closed.len(),
        heads.len()
    );
}

async fn closed_requests(world: &World) -> Vec<Closed> {
    let mut connection = world.database.connect().await;
    let rows = sqlx::query(CLOSED).fetch_all(&mut connection).await.unwrap();
    let closed = |row: &sqlx::postgres::PgRow| Closed {
        id: row.get(0),
        is_poor: world.poor_tenant.ends_with(&row.get::<String, _>(1)),
        state: row.get(2),
        amount: row.get(3),
    };
    rows.iter().map(closed).collect()
}

/// Checks one receipt with what customers have. Answers which leaf it is: of which batch, and which of its leaves.
async fn check(world: &World, closed: &Closed, keys: &Value) -> (String, u64) {
    let client = if closed.is_poor { &world.poor[0] } else { &world.rich[0] };
    let receipt = receipt(client, &closed.id).await;
    let said: Value = serde_json::from_str(receipt["statement"].as_str().unwrap()).unwrap();
    assert_eq!(said["request"], closed.id.as_str());
    assert_eq!(said["state"], closed.state.as_str(), "{said}");
    assert_eq!(said["amount_nano_usd"].as_i64(), Some(closed.amount), "{said}");
    // what recovery closed without any progress has no record, and costs nothing at any price
    let prices = match &said["record"] {
        Value::Null => public(world, "/v1/pricing").await,
        _ => prices_of(&world.database.app, &said).await,
    };
    let place = (
        receipt["batch"]["id"].as_str().unwrap().to_owned(),
        receipt["batch"]["index"].as_u64().unwrap(),
    );
    let (keys, id) = (keys.clone(), closed.id.clone());
    let checked = tokio::task::spawn_blocking(move || {
        let desk = Desk::new();
        let (holds, output) = desk.verify(&receipt, &[("--keys", &desk.put("keys.json", &keys))]);
        assert!(holds, "{id}: {output}");
        let (agrees, output) = recompute(&desk.put("receipt.json", &receipt), &desk.put("prices.json", &prices));
        assert!(agrees, "{id}: {output}");
    });
    checked.await.unwrap();
    place
}

/// How many leaves the published log has.
async fn leaves(world: &World) -> u64 {
    let mut from = 0;
    let mut leaves = 0;
    loop {
        let page = public(world, &format!("/v1/log/entries?from={from}")).await;
        let entries = page["entries"].as_array().unwrap();
        leaves += entries
            .iter()
            .map(|entry| entry["leaves"].as_u64().unwrap())
            .sum::<u64>();
        from += entries.len() as u64;
        if entries.is_empty() || from >= page["size"].as_u64().unwrap() {
            return leaves;
        }
    }
}

async fn assert_is_how_it_began(world: &World, last: &Value, size: u64, head: &Value, keys: &Value) {
    let now = last["head"]["size"].as_u64().unwrap();
    assert!(size <= now, "a head of {size} was shown, and there are {now}");
    let proof = public(world, &format!("/v1/log/consistency?from={size}&to={now}")).await;
    let desk = Desk::new();
    let (head, proof) = (desk.put("head.json", head), desk.put("proof.json", &proof));
    let keys = desk.put("keys.json", keys);
    let options: [(&str, &std::path::Path); 3] =
        [("--keys", &keys), ("--older-head", &head), ("--consistency", &proof)];
    let (holds, output) = desk.verify(last, &options);
    assert!(holds && output.contains("consistent with the head"), "{size}: {output}");
}

/// A public answer of the first node.
async fn public(world: &World, path: &str) -> Value {
    let answer = reqwest::get(format!("{}{path}", world.database.app.relay_url()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}
