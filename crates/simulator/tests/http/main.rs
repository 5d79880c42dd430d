//! Both dialects, the script and the control API through a plain HTTP client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dialects;
mod script;

use serde_json::{Value, json};
use simulator::{Settings, Simulator};

async fn start() -> (Simulator, reqwest::Client) {
    // The client insists on a process-wide provider although nothing here is encrypted.
    rustls::crypto::ring::default_provider().install_default().ok();
    (
        Simulator::start(Settings::default()).await.unwrap(),
        reqwest::Client::new(),
    )
}

fn chat(simulator: &Simulator, client: &reqwest::Client, body: &Value) -> reqwest::RequestBuilder {
    client
        .post(format!("{}/v1/chat/completions", simulator.base_url()))
        .bearer_auth("sk-one")
        .json(body)
}

fn messages(simulator: &Simulator, client: &reqwest::Client, body: &Value) -> reqwest::RequestBuilder {
    client
        .post(format!("{}/v1/messages", simulator.base_url()))
        .header("x-api-key", "sk-two")
        .header("anthropic-version", "2023-06-01")
        .json(body)
}

async fn script(simulator: &Simulator, client: &reqwest::Client, rule: &Value) {
    let answer = client
        .post(format!("{}/_simulator/script", simulator.base_url()))
        .json(rule)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
}

/// The data of every event; `[DONE]` is left out but must be last.
fn events(text: &str) -> Vec<Value> {
    assert!(text.ends_with("\n\n"));
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn hello(stream: bool) -> Value {
    json!({"model": "any", "stream": stream, "max_tokens": 30,
           "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}]})
}
