//! Who asks during the crash loop, what they get, and what they are charged for it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use domain::Amount;
use futures_util::StreamExt;
use serde_json::{Value, json};
use simulator::{Answer, Faults, Fixed, Generate, LogEntry, Match, Rule};
use support::{Client, Dice, TestApp};

use crate::faults::{dialects, id_of, words, words_received};

const TOKENS: usize = 400;
/// An answer takes eight seconds, so most disasters meet some in their midst.
const TOKEN_DELAY_MS: u64 = 20;
/// Progress is noted each second. It is durable when its batch is, or when the database is found to be away, which takes
/// three seconds; the rest is for the machine.
const INTERVAL: Duration = Duration::from_secs(10);
/// In the body of a request that the provider will not have.
const UNWANTED: &str = "the provider refuses this";

const CHARGED: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
const RECOVERED: &str = "SELECT COUNT(*) FROM charge WHERE reason = 'relay_crashed' AND state = 'settled'";

/// An answer that began, as its customer saw it.
pub struct Seen {
    name: String,
    id: String,
    /// It came to its end.
    is_whole: bool,
    /// The words received a progress interval before the last of them.
    settled_words: u64,
}

/// What the provider answers: a long steady text, and an error to what it refuses.
pub fn answers() -> [Rule; 2] {
    let refusal = Rule {
        matching: Match {
            body_contains: Some(UNWANTED.to_owned()),
            ..Match::default()
        },
        answer: Answer::Fixed(Fixed {
            status: 400,
            body_json: Some(json!({ "error": { "message": "no", "type": "invalid_request_error" } })),
            ..Fixed::default()
        }),
        ..Rule::default()
    };
    let mut steady = words(TOKENS, Faults::default());
    if let Answer::Generate(Generate { token_delay_ms, .. }) = &mut steady.answer {
        *token_delay_ms = Some(TOKEN_DELAY_MS);
    }
    [refusal, steady]
}

/// Asks without a pause, now this node and now that; sometimes leaves in the midst of an answer, sometimes asks for what
/// cannot be had.
pub async fn ask(rich: &[Client], poor: &[Client], number: u64, seed: u64, is_over: &AtomicBool) -> Vec<Seen> {
    let mut dice = Dice::from_seed(seed.wrapping_mul(31).wrapping_add(number));
    let mut seen = Vec::new();
    for round in 0_u64.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let node = usize::try_from(dice.below(3)).unwrap();
        let leaves_after = Duration::from_millis(dice.below(20_000));
        let (path, mut body) = dialects()[0].clone();
        let name = format!("{number}-{round}");
        body["user"] = json!(name);
        let (client, usual) = match dice.below(8) {
            0 => (&poor[node], 402),
            1 => {
                body["messages"][0]["content"] = json!(UNWANTED);
                (&rich[node], 400)
            }
            _ => (&rich[node], 200),
        };
        match client.try_begin(path, &body).await {
            Ok(response) if response.status() == 200 => {
                assert_eq!(usual, 200, "it was not to be had");
                // whoever leaves has no whole answer; the request is in the books anyway
                if let Ok(answer) = tokio::time::timeout(leaves_after, read(response, name)).await {
                    seen.push(answer);
                }
            }
            Ok(response) => {
                let status = response.status().as_u16();
                let text = response.text().await;
                assert!(
                    status == usual || [429, 502, 503, 504].contains(&status),
                    "{status}, not {usual}: {text:?}"
                );
                dice.pause(200).await;
            }
            Err(_) => dice.pause(200).await,
        }
    }
    seen
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

/// Answers how many of them recovery has closed.
pub async fn assert_each_is_charged_right(app: &TestApp, seen: &[Seen]) -> usize {
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
