//! Three nodes and their database are killed at random, again and again, while customers never pause: nobody is charged
//! above what the provider counted, nor more than a progress interval below it, and the books are clean afterwards.
//!
//! Takes twenty minutes; `TRUERELAY_CRASH_LOOP_S` sets another time, `TRUERELAY_TEST_SEED` repeats the order of disasters.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use domain::Amount;
use fault_proxy::CutKind;
use futures_util::{StreamExt, future::join_all};
use serde_json::{Value, json};
use simulator::{Answer, Faults, Generate, LogEntry, Rule};
use support::{Client, Dice, SecondNode};

use crate::{
    faults::{OwnDatabase, dialects, id_of, words_received},
    receipts::{Desk, receipt},
};

const CUSTOMERS: u64 = 12;
const TOKENS: usize = 400;
/// An answer takes eight seconds, so most disasters meet some in their midst.
const TOKEN_DELAY_MS: u64 = 20;
/// Progress is noted each second. It is durable when its batch is, or when the database is found to be away, which takes
/// three seconds; the rest is for the machine.
const INTERVAL: Duration = Duration::from_secs(10);

const CHARGED: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
const RECOVERED: &str = "SELECT COUNT(*) FROM charge WHERE reason = 'relay_crashed' AND state = 'settled'";

/// An answer that began, as its customer saw it.
struct Seen {
    name: String,
    id: String,
    /// It came to its end.
    is_whole: bool,
    /// The words received a progress interval before the last of them.
    settled_words: u64,
}

/// What happens to the nodes of a loop, in turn.
struct World {
    database: OwnDatabase,
    others: Vec<SecondNode>,
    /// Which nodes serve now: the first, and the others.
    addresses: Vec<Client>,
    /// Heads of the transparency log, as they were published in between.
    heads: Vec<Value>,
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// Reads an answer as far as it comes, and remembers when how much of it had.
async fn read(response: reqwest::Response, name: String) -> Seen {
    let id = id_of(&response);
    let mut text = Vec::new();
    let mut arrived = Vec::new();
    let mut stream = response.bytes_stream();
    let mut is_whole = true;
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else {
            is_whole = false;
            break;
        };
        text.extend_from_slice(&piece);
        arrived.push((Instant::now(), text.len()));
    }
    let end = Instant::now();
    let before = arrived.iter().rev().find(|(at, _)| end - *at >= INTERVAL);
    let settled = before.map_or(0, |(_, length)| *length);
    Seen {
        name,
        id,
        is_whole,
        settled_words: words_received(&String::from_utf8_lossy(&text[..settled])),
    }
}

/// Asks without a pause, now this node and now that, and sometimes leaves in the midst of an answer.
async fn customer(clients: &[Client], number: u64, seed: u64, is_over: &AtomicBool) -> Vec<Seen> {
    let mut dice = Dice::from_seed(seed.wrapping_mul(31).wrapping_add(number));
    let mut seen = Vec::new();
    for round in 0_u64.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let client = &clients[usize::try_from(dice.below(3)).unwrap()];
        let (path, mut body) = dialects()[0].clone();
        let name = format!("{number}-{round}");
        body["user"] = json!(name);
        let leaves_after = Duration::from_millis(dice.below(20_000));
        match client.try_begin(path, &body).await {
            Ok(response) if response.status() == 200 => {
                // whoever leaves has no whole answer; the request is in the books anyway
                if let Ok(answer) = tokio::time::timeout(leaves_after, read(response, name)).await {
                    seen.push(answer);
                }
            }
            Ok(response) => {
                let status = response.status().as_u16();
                assert!(
                    [408, 429, 502, 503, 504].contains(&status),
                    "{status}: {:?}",
                    response.text().await
                );
                dice.pause(200).await;
            }
            Err(_) => dice.pause(200).await,
        }
    }
    seen
}

impl World {
    async fn start() -> Option<Self> {
        let database = OwnDatabase::start(&[]).await?;
        let (second, third) = tokio::join!(database.app.start_second_node(), database.app.start_second_node());
        let key = &database.app.seeded.key;
        let addresses = vec![database.app.client(), second.client_with(key), third.client_with(key)];
        Some(Self {
            database,
            others: vec![second, third],
            addresses,
            heads: Vec::new(),
        })
    }

    fn kill(&mut self, node: u64) {
        match node {
            0 => self.database.app.kill(),
            node => self.others[usize::try_from(node - 1).unwrap()].kill(),
        }
    }

    async fn restart(&mut self, node: u64) {
        match node {
            0 => self.database.app.supervise().await,
            node => self.others[usize::try_from(node - 1).unwrap()].supervise().await,
        }
    }

    /// Keeps a head, as a customer would who does not trust us. A node that answers nothing is asked another time.
    async fn keep_head(&mut self) {
        let url = format!("{}/v1/log", self.database.app.relay_url());
        if let Ok(answer) = reqwest::get(url).await
            && let Ok(log) = answer.json::<Value>().await
            && !log["head"].is_null()
        {
            self.heads.push(log["head"].clone());
        }
    }

    /// Every head that was kept is how the log began that is there now, and receipts hold.
    async fn assert_log_only_grew(&self, seen: &[Seen]) {
        let client = self.database.app.client();
        let desk = Desk::new();
        let url = self.database.app.relay_url();
        let get = async |path: String| -> Value {
            reqwest::get(format!("{url}{path}"))
                .await
                .unwrap()
                .json()
                .await
                .unwrap()
        };
        let keys = desk.put(
            "keys.json",
            &get("/.well-known/truerelay-log-keys.json".to_owned()).await,
        );
        for answer in seen.iter().step_by(seen.len().div_ceil(50).max(1)) {
            let receipt = receipt(&client, &answer.id).await;
            let (holds, output) = desk.verify(&receipt, &[("--keys", &keys)]);
            assert!(holds, "{output}");
        }
        let Some(last) = seen.last() else { return };
        let last = receipt(&client, &last.id).await;
        let size = last["head"]["size"].as_u64().unwrap();
        for head in &self.heads {
            let kept = head["size"].as_u64().unwrap();
            let (from, to) = (kept.min(size), kept.max(size));
            let proof = get(format!("/v1/log/consistency?from={from}&to={to}")).await;
            let (head, proof) = (desk.put("head.json", head), desk.put("proof.json", &proof));
            let (holds, output) = desk.verify(&last, &[("--older-head", &head), ("--consistency", &proof)]);
            assert!(holds, "{output}");
        }
        eprintln!(
            "{} heads of the log were kept, and all are how it began",
            self.heads.len()
        );
    }

    /// One disaster, and its end.
    async fn strike(&mut self, dice: &mut Dice) {
        match dice.below(6) {
            0..3 => {
                let node = dice.below(3);
                self.kill(node);
                dice.pause(2_000).await;
                self.restart(node).await;
            }
            3 => {
                self.database.postgres.kill();
                dice.pause(5_000).await;
                self.database.postgres.restart().await;
            }
            4 => {
                self.database.network.handle().break_open(CutKind::Rst);
            }
            _ => {
                // a node dies while its database is away
                let node = dice.below(3);
                self.database.postgres.kill();
                dice.pause(6_000).await;
                self.kill(node);
                self.database.postgres.restart().await;
                self.restart(node).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes twenty minutes: make faults"]
async fn nodes_and_database_killed_at_random_leave_clean_books() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let seed = Dice::seed_of_run();
    let whole_time = Duration::from_secs(setting("TRUERELAY_CRASH_LOOP_S", 1_200));
    eprintln!("TRUERELAY_TEST_SEED={seed}");
    let tenant = world.database.app.seeded.tenant.clone();
    world.database.app.admin.grant(&tenant, "900").await;
    world.database.app.simulator.script(steady_answers()).unwrap();
    let addresses = world.addresses.clone();
    let is_over = AtomicBool::new(false);
    let strikes = AtomicU64::new(0);
    let disasters = async {
        let mut dice = Dice::from_seed(seed);
        let started = Instant::now();
        while started.elapsed() < whole_time {
            dice.pause(6_000).await;
            world.keep_head().await;
            world.strike(&mut dice).await;
            strikes.fetch_add(1, Ordering::Relaxed);
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let customers = join_all((0..CUSTOMERS).map(|number| customer(&addresses, number, seed, &is_over)));
    let (seen, ()) = tokio::join!(customers, disasters);
    let seen: Vec<Seen> = seen.into_iter().flatten().collect();
    world.database.wait_for_database().await;
    world.database.app.wait_for_holds(0).await;
    let recovered = assert_each_is_charged_right(&world, &seen).await;
    world.assert_log_only_grew(&seen).await;
    eprintln!(
        "{} disasters, {} requests sent to the provider, {} answers read, {recovered} of these closed by recovery",
        strikes.into_inner(),
        world.database.app.simulator.log().len(),
        seen.len()
    );
    for node in world.others {
        world.database.app.finish_second_node(node).await;
    }
    world.database.finish().await;
}

fn steady_answers() -> Rule {
    let text = ["one", "two", "three", "four"].into_iter().cycle().take(TOKENS);
    Rule {
        answer: Answer::Generate(Generate {
            text: Some(text.collect::<Vec<_>>().join(" ")),
            token_delay_ms: Some(TOKEN_DELAY_MS),
            ..Generate::default()
        }),
        faults: Faults::default(),
        ..Rule::default()
    }
}

/// Answers how many of them recovery has closed.
async fn assert_each_is_charged_right(world: &World, seen: &[Seen]) -> usize {
    let app = &world.database.app;
    let mut log: BTreeMap<String, Vec<LogEntry>> = BTreeMap::new();
    for entry in app.simulator.log() {
        let name = entry.body["user"].as_str().unwrap_or("").to_owned();
        log.entry(name).or_default().push(entry);
    }
    let mut recovered = 0;
    let mut charged = 0;
    for answer in seen {
        let closed = app.closed(&answer.id).await;
        let counts = &log[&answer.name];
        let most = |of: fn(&LogEntry) -> u64| counts.iter().map(of).max().unwrap_or(0);
        let (input, output) = (tokens(&closed, "input"), tokens(&closed, "output"));
        assert!(input <= most(|entry| entry.input_tokens), "{closed}");
        assert!(output <= most(|entry| entry.tokens_generated), "{closed}");
        assert!(
            output >= answer.settled_words,
            "{} words were received long before the end: {closed}",
            answer.settled_words
        );
        // a node may die after the last byte and before the end is durable
        let is_recovered = closed["reason"] == "relay_crashed";
        if answer.is_whole && !is_recovered {
            assert_eq!(closed["reason"], "completed", "{closed}");
            assert_eq!(output, most(|entry| entry.tokens_generated), "{closed}");
        }
        recovered += usize::from(is_recovered);
        charged += cost_of(&closed);
    }
    // whoever left in the midst of an answer is charged too, and nobody else
    assert!(charged <= app.number(CHARGED).await);
    assert!(app.number(RECOVERED).await > 0, "no disaster met an answer");
    recovered
}

fn tokens(closed: &Value, class: &str) -> u64 {
    closed["usage"]["tokens"][class].as_u64().unwrap_or(0)
}

fn cost_of(closed: &Value) -> i64 {
    closed["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap().nanos()
}
