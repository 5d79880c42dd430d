//! What a request costs when its node dies, at every step of its way: nothing before output, then what was noted, and
//! one end for each whatever was under way with the database.

mod commits;
mod lost_disk;
mod on_the_way;

use std::time::{Duration, Instant};

use domain::Amount;
use futures_util::StreamExt;
use reqwest::Response;
use serde_json::{Value, json};
use simulator::{Answer, Faults, Generate, Hold, LogEntry, Rule};
use support::{TestApp, openai_body};

/// The most output, in tokens, that may come between two notes of how far an answer has come.
const INTERVAL_TOKENS: u64 = 256;

pub fn pause_after(events: usize) -> Faults {
    let hold = Hold {
        gate: "rest".to_owned(),
        events,
    };
    Faults {
        hold_after_events: Some(hold),
        ..Faults::default()
    }
}

fn faulty(faults: Faults) -> Rule {
    Rule {
        faults,
        ..Rule::default()
    }
}

pub fn long_answer(tokens: usize, token_delay_ms: u64, faults: Faults) -> Rule {
    let answer = Answer::Generate(Generate {
        tokens: Some(tokens),
        token_delay_ms: Some(token_delay_ms),
        ..Generate::default()
    });
    Rule {
        answer,
        faults,
        ..Rule::default()
    }
}

fn up_to(max_tokens: u64, mut body: Value) -> Value {
    body["max_tokens"] = json!(max_tokens);
    body
}

/// One request, after which the node knows that the tenant is rich: the next one is sent before its hold is durable.
pub async fn make_known(app: &TestApp) {
    let answer = app.client().openai(&openai_body(false)).await;
    app.closed(&answer.request_id()).await;
    app.simulator.reset();
}

pub fn id_of(response: &Response) -> String {
    response.headers()["x-request-id"].to_str().unwrap().to_owned()
}

/// Reads what still comes, as far as it comes.
pub async fn read_rest(response: Response) -> String {
    let mut text = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn available(app: &TestApp) -> Amount {
    amount(&app.client().key().await["balance"]["available_usd"])
}

fn amount(json: &Value) -> Amount {
    json.as_str()
        .unwrap_or_else(|| panic!("no amount: {json}"))
        .parse()
        .unwrap()
}

/// What recovery would charge for all open requests together, in nano-USD.
pub async fn noted(app: &TestApp) -> i64 {
    if app.backend.is_shared() {
        app.number(
            "SELECT CAST(COALESCE(SUM(CASE WHEN progress_json = '' THEN 0 ELSE \
             (progress_json::jsonb #>> '{so_far,amount}')::numeric * 1000000000 END), 0) AS BIGINT) FROM hold",
        )
        .await
    } else {
        app.number(
            "SELECT CAST(COALESCE(SUM(CASE WHEN progress_json = '' THEN 0 ELSE \
             ROUND(json_extract(progress_json, '$.so_far.amount') * 1000000000) END), 0) AS INTEGER) FROM hold",
        )
        .await
    }
}

/// Output tokens noted for all open requests together.
async fn noted_output(app: &TestApp) -> u64 {
    let tokens = if app.backend.is_shared() {
        app.number(
            "SELECT CAST(COALESCE(SUM(CASE WHEN progress_json = '' THEN 0 ELSE \
             (progress_json::jsonb #>> '{record,usage,tokens,output}')::bigint END), 0) AS BIGINT) FROM hold",
        )
        .await
    } else {
        app.number(
            "SELECT CAST(COALESCE(SUM(CASE WHEN progress_json = '' THEN 0 ELSE \
             json_extract(progress_json, '$.record.usage.tokens.output') END), 0) AS INTEGER) FROM hold",
        )
        .await
    };
    u64::try_from(tokens).unwrap()
}

/// Waits until so many output tokens are noted: the upstream says nothing more, so what was read is noted in a moment.
pub async fn wait_for_note(app: &TestApp, output_tokens: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let noted = noted_output(app).await;
        if noted >= output_tokens {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{noted} output tokens are noted, not {output_tokens}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tokens(closed: &Value, class: &str) -> u64 {
    closed["usage"]["tokens"][class].as_u64().unwrap_or(0)
}

/// What every request that recovery settled must show, beside the provider's own count.
fn assert_settled_at_a_note(closed: &Value, sent: &LogEntry) {
    assert_eq!(closed["state"], "settled", "{closed}");
    assert_eq!(closed["reason"], "relay_crashed", "{closed}");
    let flags: Vec<&str> = closed["flags"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        flags.contains(&"recovered") && flags.contains(&"partial_usage"),
        "{flags:?}"
    );
    assert_eq!(closed["usage_source"], "estimate");
    assert_ne!(closed["cost_usd"], "0.00");
    let (input, output) = (tokens(closed, "input"), tokens(closed, "output"));
    assert!(
        (1..=sent.input_tokens).contains(&input),
        "{input} of {}",
        sent.input_tokens
    );
    let least = sent.tokens_generated.saturating_sub(INTERVAL_TOKENS).max(1);
    assert!(
        (least..=sent.tokens_generated).contains(&output),
        "{output} of {}",
        sent.tokens_generated
    );
}
