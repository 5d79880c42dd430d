//! The customer's side, without an SDK: raw bytes are what these tests compare.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::{PROMPT_CANARY, admin};

/// A customer.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// An answer that was read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body's bytes, as far as they came.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The request's id.
    pub fn request_id(&self) -> String {
        self.header("x-request-id")
            .unwrap_or_else(|| panic!("no request id: {}", self.text()))
            .to_owned()
    }
}

/// A chat request in OpenAI's dialect.
pub fn openai_body(stream: bool) -> Value {
    json!({
        "model": admin::OPENAI_MODEL,
        "stream": stream,
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": format!("Say something about {PROMPT_CANARY}.") }],
    })
}

/// A chat request in Anthropic's dialect.
pub fn anthropic_body(stream: bool) -> Value {
    json!({
        "model": admin::ANTHROPIC_MODEL,
        "stream": stream,
        "max_tokens": 100,
        "messages": [{ "role": "user", "content": format!("Say something about {PROMPT_CANARY}.") }],
    })
}

impl Client {
    /// A customer with a key.
    pub fn new(url: String, key: String) -> Self {
        let http = reqwest::Client::builder().build().expect("a client");
        Self { http, url, key }
    }

    /// Reads a resource.
    pub async fn get(&self, path: &str) -> ReadyResponse {
        ReadyResponse(
            self.http
                .get(format!("{}{path}", self.url))
                .bearer_auth(&self.key)
                .send()
                .await
                .expect("the relay answers"),
        )
    }

    /// Sends a body to a chat route; answers as soon as the head is there.
    pub async fn begin(&self, path: &str, body: &Value) -> Response {
        self.try_begin(path, body).await.expect("the relay answers")
    }

    /// As [`Client::begin`], with the connection's failure as a result.
    pub async fn try_begin(&self, path: &str, body: &Value) -> reqwest::Result<Response> {
        self.http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.key)
            .json(body)
            .send()
            .await
    }

    /// Sends a body in OpenAI's dialect and reads the answer.
    pub async fn openai(&self, body: &Value) -> Answer {
        read(self.begin("/v1/chat/completions", body).await).await
    }

    /// Sends a body in Anthropic's dialect and reads the answer.
    pub async fn anthropic(&self, body: &Value) -> Answer {
        read(self.begin("/v1/messages", body).await).await
    }

    /// Sends raw bytes with the given headers and no credential of its own.
    pub async fn raw(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send().await.expect("the relay answers")).await
    }

    /// What the key has and may.
    pub async fn key(&self) -> Value {
        self.get("/v1/key").await.json().await
    }

    /// Waits until the request is closed, and answers what it cost and why.
    pub async fn closed_request(&self, id: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.get(&format!("/v1/requests/{id}")).await.json().await;
            if answer["state"] != "open" && answer.get("error").is_none() {
                return answer;
            }
            assert!(Instant::now() < deadline, "the request does not close: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A response of which only the JSON is wanted.
pub struct ReadyResponse(Response);

impl ReadyResponse {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The body.
    pub async fn json(self) -> Value {
        let text = self.0.text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }
}

/// Reads an answer to its end, or as far as it comes.
async fn read(response: Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut bytes = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        bytes.extend_from_slice(&chunk);
    }
    Answer { status, headers, bytes }
}
