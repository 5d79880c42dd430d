//! Recorded traffic of real providers, replayed as the upstream: the client gets the recorded bytes, whatever the
//! chunks were, and is charged for the recorded usage.

use domain::Amount;
use serde_json::Value;
use simulator::{Answer, Chunking, Fixed, Rule};
use support::{Client, Recording, TestApp, recordings};

const CHUNKINGS: [Chunking; 4] = [
    Chunking::Whole,
    Chunking::Lines,
    Chunking::Bytes(7),
    Chunking::SplitUtf8,
];

fn replay(recording: &Recording, chunks: Chunking) -> Rule {
    Rule {
        times: Some(1),
        answer: Answer::Fixed(Fixed {
            status: recording.status,
            headers: [("content-type".to_owned(), recording.content_type.clone())].into(),
            body_text: Some(recording.body.clone()),
            chunks,
            ..Fixed::default()
        }),
        ..Rule::default()
    }
}

/// The recorded request, for the model that is for sale here.
fn request_for(recording: &Recording, model: &str) -> Value {
    let mut body = recording.request.clone();
    body["model"] = model.into();
    body["stream"] = recording.stream.into();
    if recording.stream && model.starts_with("openai") {
        // then not even the usage chunk is taken out
        body["stream_options"] = serde_json::json!({ "include_usage": true });
    }
    if body["tools"].to_string().contains("web_") {
        // recorded with a tool that the provider runs and whose cost has no bound, which is refused here: the answer
        // is replayed to a request without it, but long enough for what the tool's results added to the input
        body.as_object_mut().unwrap().remove("tools");
        body["system"] = "context ".repeat(10_000).into();
    }
    for field in ["max_tokens", "max_completion_tokens"] {
        if body
            .get(field)
            .and_then(Value::as_u64)
            .is_some_and(|limit| limit > 4_000)
        {
            body[field] = 4_000.into();
        }
    }
    body
}

async fn send(client: &Client, path: &str, body: &Value) -> support::Answer {
    if path == "/v1/messages" {
        client.anthropic(body).await
    } else {
        client.openai(body).await
    }
}

/// What the catalog's price card says of the recorded usage, computed here and not by the product's rules.
fn expected_charge(recording: &Recording, prices: &Prices) -> Amount {
    let count = |name: &str| recording.expect["usage"][name].as_i64().unwrap_or(0);
    let (read, write) = (count("cache_read"), count("cache_write"));
    let for_an_hour = largest(&recording.body, "ephemeral_1h_input_tokens");
    let input = count("input_total") - read - write;
    let list = input * prices.input
        + read * prices.cache_read
        + (write - for_an_hour) * prices.cache_write
        + for_an_hour * prices.cache_write_1h
        + largest(&recording.body, "web_search_requests") * WEB_SEARCH
        + count("output_total") * prices.output;
    Amount::from_nanos((list * prices.multiplier_tenths + 9) / 10)
}

/// The largest value of a field in a body: streams repeat counts that only grow. Cache writes of an hour and searches
/// are not in `expect`.
fn largest(body: &str, field: &str) -> i64 {
    let quoted = format!("\"{field}\":");
    body.match_indices(&quoted)
        .filter_map(|(at, _)| {
            body[at + quoted.len()..]
                .split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()
        })
        .max()
        .unwrap_or(0)
}

/// Nano-USD per search.
const WEB_SEARCH: i64 = 10_000_000;

/// Nano-USD per token.
struct Prices {
    input: i64,
    cache_read: i64,
    cache_write: i64,
    cache_write_1h: i64,
    output: i64,
    multiplier_tenths: i64,
}

const GPT_4O: Prices = Prices {
    input: 2_500,
    cache_read: 1_250,
    cache_write: 2_500,
    cache_write_1h: 2_500,
    output: 10_000,
    multiplier_tenths: 17,
};
const SONNET: Prices = Prices {
    input: 3_000,
    cache_read: 300,
    cache_write: 3_750,
    cache_write_1h: 6_000,
    output: 15_000,
    multiplier_tenths: 10,
};

/// One model is sold here, and whatever was recorded answers for it.
async fn accept_recorded_models(app: &TestApp, model: &str, answers: &[Recording]) {
    let named = |body: &str| -> Vec<String> {
        let after = |key: &str| {
            body.split(key)
                .skip(1)
                .map(str::trim_start)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        after("\"model\":")
            .iter()
            .filter_map(|rest| Some(rest.strip_prefix('"')?.split_once('"')?.0.to_owned()))
            .collect()
    };
    let names: std::collections::BTreeSet<String> = answers
        .iter()
        .flat_map(|answer| named(&answer.body))
        .filter(|name| !name.is_empty())
        .collect();
    let offers = app.admin.get("/offers").await;
    let offer = offers["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|offer| offer["model"] == model);
    let path = format!("/offers/{}", offer.unwrap()["id"].as_str().unwrap());
    app.admin
        .change(&path, serde_json::json!({ "served_names": names }))
        .await;
}

async fn replay_all(provider: &str, format: &str, path: &str, model: &str, prices: &Prices) {
    let mut app = TestApp::start().await;
    let (_, key) = app.tenant_with("1000", support::KeyOptions::default()).await;
    let client = app.client_with(&key);
    let answers: Vec<Recording> = recordings(provider, format)
        .into_iter()
        .filter(|recording| recording.status == 200)
        .collect();
    accept_recorded_models(&app, model, &answers).await;
    for recording in &answers {
        let body = request_for(recording, model);
        for chunks in CHUNKINGS {
            app.simulator.script(replay(recording, chunks.clone())).unwrap();
            let answer = send(&client, path, &body).await;
            let name = format!("{} ({chunks:?})", recording.name);
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            let closed = client.closed_request(&answer.request_id()).await;
            let no_usage = recording.expect["usage"].is_null();
            if no_usage {
                assert_eq!(closed["reason"], "completed_usage_estimated", "{name}");
                assert!(
                    closed["flags"].as_array().unwrap().contains(&"estimated".into()),
                    "{name}"
                );
            } else {
                let charge: Amount = closed["cost_usd"].as_str().unwrap().parse().unwrap();
                assert_eq!(charge, expected_charge(recording, prices), "{name}: {closed}");
            }
            assert_eq!(answer.text(), recording.body, "{name}");
        }
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_recordings_come_through_in_every_chunking() {
    replay_all(
        "openai",
        "openai_chat",
        "/v1/chat/completions",
        "openai/gpt-4o",
        &GPT_4O,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_recordings_come_through_in_every_chunking() {
    replay_all(
        "anthropic",
        "anthropic_messages",
        "/v1/messages",
        "anthropic/claude-sonnet-4.6",
        &SONNET,
    )
    .await;
}

async fn replay_errors(provider: &str, format: &str, path: &str, model: &str) {
    let app = TestApp::start().await;
    let client = app.client();
    let mut errors = recordings(provider, format);
    errors.retain(|recording| recording.status >= 400);
    // a refused credential is out for a while, so those come last
    errors.sort_by_key(|recording| recording.status == 401);
    for recording in &errors {
        app.simulator.reset();
        app.simulator
            .script(Rule {
                times: None,
                ..replay(recording, Chunking::Whole)
            })
            .unwrap();
        let mut body = if path == "/v1/messages" {
            support::anthropic_body(false)
        } else {
            support::openai_body(false)
        };
        body["model"] = model.into();
        let answer = send(&client, path, &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!(error["charged"], false, "{}", recording.name);
        if recording.status == 401 {
            // the operator's credential is not the customer's business
            assert_eq!(answer.status, 502, "{}: {}", recording.name, answer.text());
            assert!(
                !answer
                    .text()
                    .contains(recording.expect["error"]["message"].as_str().unwrap()),
                "{}",
                recording.name
            );
        } else {
            assert_eq!(answer.status.as_u16(), recording.status, "{}", recording.name);
            assert_eq!(
                error["message"], recording.expect["error"]["message"],
                "{}",
                recording.name
            );
        }
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(closed["cost_usd"], "0.00", "{}", recording.name);
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_errors_reach_the_client_without_the_operators_secrets() {
    replay_errors("openai", "openai_chat", "/v1/chat/completions", "openai/gpt-4o").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_errors_reach_the_client_without_the_operators_secrets() {
    replay_errors(
        "anthropic",
        "anthropic_messages",
        "/v1/messages",
        "anthropic/claude-sonnet-4.6",
    )
    .await;
}
