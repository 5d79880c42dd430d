//! Faults of what is around a node. Every test ends with `TestApp::finish`: the node stops in order, no hold is open, the
//! auditor finds nothing, no canary has leaked. Which fault is shown by which test: docs/faults.md.
//!
//! A test whose fault needs a privilege that this user lacks prints `not run` and the reason. Those that take longer than
//! some seconds are ignored here and run by `make faults`.

use std::time::{Duration, Instant};

use fault_proxy::Proxy;
use serde_json::{Value, json};
use simulator::{Answer, Faults, Generate, LogEntry, Rule};
use sqlx::PgConnection;
use support::{Backend, PROMPT_CANARY, PrivatePostgres, TestApp, TestAppOptions, anthropic_body, openai_body};

/// A node on a PostgreSQL server of its own, which it reaches through a proxy.
pub struct OwnDatabase {
    /// The node.
    pub app: TestApp,
    /// The server.
    pub postgres: PrivatePostgres,
    /// The way from one to the other.
    pub network: Proxy,
}

impl OwnDatabase {
    /// Starts both; nothing in a run without PostgreSQL.
    pub async fn start(settings: &[&str]) -> Option<Self> {
        if !Backend::run_is_shared() {
            return None;
        }
        Some(Self::on(PrivatePostgres::start(settings).await).await)
    }

    /// Starts a node on this server.
    pub async fn on(postgres: PrivatePostgres) -> Self {
        Self::with(postgres, TestAppOptions::default()).await
    }

    /// As [`OwnDatabase::on`], with changes. A hold's wait has no limit of its own that a test could meet: what answers
    /// during an outage is the ledger.
    pub async fn with(postgres: PrivatePostgres, options: TestAppOptions) -> Self {
        let network = Proxy::start(0, postgres.address()).await.unwrap();
        let backend = Backend::on_postgres(&postgres.url("postgres")).await;
        let app = TestApp::start_with(TestAppOptions {
            backend: Some(backend.with_database_at(network.address())),
            config: format!("[relay]\nhold_timeout_ms = 120000\n{}", options.config),
            ..options
        })
        .await;
        Self { app, postgres, network }
    }

    /// Sends requests until one is served, as customers do after an outage.
    pub async fn wait_until_served(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.app.client().openai(&openai_body(false)).await;
            if answer.status == 200 {
                self.app.closed(&answer.request_id()).await;
                return;
            }
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(
                Instant::now() < deadline,
                "the node does not serve again: {}",
                answer.text()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the database answers the node again: readiness says so.
    pub async fn wait_for_database(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let url = format!("{}/readyz", self.app.admin.url());
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200) {
            assert!(Instant::now() < deadline, "the node does not become ready again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A connection to its database beside the product's.
    pub async fn connect(&self) -> PgConnection {
        self.app.backend.connect().await
    }

    /// The end of a test: as [`TestApp::finish`].
    pub async fn finish(self) {
        self.app.finish().await;
        drop(self.network);
        drop(self.postgres);
    }
}

/// The chat routes, each with a body in its dialect.
pub fn dialects() -> [(&'static str, Value); 2] {
    let long_words = "international transportation understanding ".repeat(4);
    [
        ("/v1/chat/completions", openai_body(true)),
        ("/v1/messages", anthropic_body(true)),
    ]
    .map(|(path, mut body)| {
        // the simulated provider counts an input by its bytes: such words are fewer tokens for any tokenizer
        body["messages"][0]["content"] = format!("{long_words}{PROMPT_CANARY}").into();
        body["max_tokens"] = 1_000.into();
        (path, body)
    })
}

/// The same, not as a stream.
pub fn whole(body: &Value) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(false);
    body
}

/// An answer of so many words. Each is one token for the simulated provider and for the tokenizer of our estimates, so
/// that both counts can be compared exactly.
pub fn words(count: usize, faults: Faults) -> Rule {
    let text: Vec<&str> = ["one", "two", "three", "four"]
        .into_iter()
        .cycle()
        .take(count)
        .collect();
    Rule {
        answer: Answer::Generate(Generate {
            text: Some(text.join(" ")),
            ..Generate::default()
        }),
        faults,
        ..Rule::default()
    }
}

/// The words in what a client has received of a stream.
pub fn words_received(stream: &str) -> u64 {
    let deltas = stream
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let texts = deltas.filter(|event| {
        ["/choices/0/delta/content", "/delta/text"]
            .iter()
            .any(|place| event.pointer(place).is_some_and(|text| text != ""))
    });
    texts.map(|_| 1).sum()
}

/// Waits until the request is closed and asserts that its charge lies between what the client has received and what
/// the provider itself counted.
pub async fn closed_within_counts(app: &TestApp, id: &str, received: &str, provider: &LogEntry) -> Value {
    let closed = app.closed(id).await;
    let charged = |class: &str| closed["usage"]["tokens"][class].as_u64().unwrap_or(0);
    let (output, generated) = (charged("output"), provider.tokens_generated);
    assert!(
        words_received(received) <= output && output <= generated,
        "{} received, {output} charged, {generated} generated: {closed}",
        words_received(received)
    );
    let input = charged("input");
    assert!(
        0 < input && input <= provider.input_tokens,
        "{input} charged, {} counted: {closed}",
        provider.input_tokens
    );
    assert_ne!(closed["cost_usd"], "0.00", "{closed}");
    closed
}

/// Waits until the request is closed and asserts that it was free.
pub async fn closed_free(app: &TestApp, id: &str) -> Value {
    let closed = app.closed(id).await;
    assert_eq!(
        (&closed["state"], &closed["cost_usd"]),
        (&json!("voided"), &json!("0.00")),
        "{closed}"
    );
    closed
}

/// The id that the relay gave to a request.
pub fn id_of(response: &reqwest::Response) -> String {
    let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    id.expect("every answer has an id").to_owned()
}
