//! Both dialects, the script and the control API through a plain HTTP client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use simulator::{CutKind, Outcome, Settings, Simulator};

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

#[tokio::test]
async fn openai_says_the_same_whole_and_streamed_and_counts_it() {
    let (simulator, client) = start().await;
    let whole: Value = chat(&simulator, &client, &hello(false))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let mut body = hello(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = chat(&simulator, &client, &body).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
    let streamed = answer.text().await.unwrap();
    assert!(streamed.ends_with("data: [DONE]\n\n"));
    let events = events(&streamed);
    let deltas: String = events
        .iter()
        .filter_map(|e| e.pointer("/choices/0/delta/content").and_then(Value::as_str))
        .collect();
    assert_eq!(deltas, text);
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(
        events[..events.len() - 1]
            .iter()
            .all(|e| e["usage"].is_null() && e.get("usage").is_some())
    );
    // "be brief" and "hello there" are 2 and 3 tokens, each message 4 more.
    assert_eq!(whole["usage"]["prompt_tokens"], 13);
    let generated = whole["usage"]["completion_tokens"].as_u64().unwrap();
    let content_events = events
        .iter()
        .filter(|e| e.pointer("/choices/0/delta/content").is_some_and(|c| c != ""))
        .count();
    assert_eq!(content_events as u64, generated);
    let log = simulator.control().log();
    assert_eq!(
        log.iter().map(|e| e.tokens_generated).collect::<Vec<_>>(),
        [generated, generated]
    );
    assert!(
        log.iter()
            .all(|e| e.outcome == Outcome::Finished && e.status == 200 && e.input_tokens == 13)
    );
}

#[tokio::test]
async fn openai_reports_stream_usage_only_when_asked() {
    let (simulator, client) = start().await;
    let text = chat(&simulator, &client, &hello(true))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        events(&text)
            .iter()
            .all(|e| e.get("usage").is_none() && e["choices"] != json!([]))
    );
}

#[tokio::test]
async fn openai_choices_limits_stops_and_images() {
    let (simulator, client) = start().await;
    let body = json!({"model": "any", "n": 3, "max_completion_tokens": 5, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
    let answer: Value = chat(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(
        choices.iter().map(|c| c["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(choices.iter().all(|choice| choice["finish_reason"] == "length"));
    assert_eq!(
        (&answer["usage"]["completion_tokens"], &answer["usage"]["prompt_tokens"]),
        (&json!(15), &json!(3 + 4 + 85))
    );
    let body =
        json!({"model": "any", "stop": "two", "messages": [{"role": "user", "content": "repeat after me: one two"}]});
    let answer: Value = chat(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "one ");
}

#[tokio::test]
async fn openai_calls_tools_whole_and_streamed() {
    let (simulator, client) = start().await;
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}})
    };
    let mut body = json!({"model": "any", "tools": [tool("a"), tool("b")],
        "messages": [{"role": "user", "content": "call the tools"}]});
    let whole: Value = chat(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    let calls = whole["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(
        calls
            .iter()
            .map(|call| call["function"]["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    body["stream"] = json!(true);
    let text = chat(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let mut arguments = [String::new(), String::new()];
    for event in events(&text) {
        if let Some(call) = event.pointer("/choices/0/delta/tool_calls/0") {
            arguments[call["index"].as_u64().unwrap() as usize] += call["function"]["arguments"].as_str().unwrap();
        }
    }
    for (streamed, whole) in arguments.iter().zip(calls) {
        assert_eq!(streamed, whole["function"]["arguments"].as_str().unwrap());
        assert!(serde_json::from_str::<Value>(streamed).unwrap()["city"].is_string());
    }
}

#[tokio::test]
async fn anthropic_says_the_same_whole_and_streamed_and_counts_it() {
    let (simulator, client) = start().await;
    let mut body = json!({"model": "any", "max_tokens": 12, "system": "be brief",
        "messages": [{"role": "user", "content": "hello there"}]});
    let whole: Value = messages(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    body["stream"] = json!(true);
    let text = messages(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let events = events(&text);
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["content_block_stop", "message_delta", "message_stop"]
    );
    let named: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(named, kinds);
    let said: String = events
        .iter()
        .filter_map(|e| e.pointer("/delta/text").and_then(Value::as_str))
        .collect();
    assert_eq!(said, whole["content"][0]["text"].as_str().unwrap());
    let delta = &events[events.len() - 2];
    assert_eq!(
        (&delta["delta"]["stop_reason"], &whole["stop_reason"]),
        (&json!("max_tokens"), &json!("max_tokens"))
    );
    assert_eq!(
        (&delta["usage"], &whole["usage"]["output_tokens"]),
        (&whole["usage"], &json!(12))
    );
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 13);
    assert_eq!(simulator.control().counts().tokens_generated, 24);
}

#[tokio::test]
async fn anthropic_uses_tools_and_then_talks() {
    let (simulator, client) = start().await;
    let tools = json!([{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}]);
    let mut body = json!({"model": "any", "max_tokens": 99, "tools": tools, "stream": true,
        "messages": [{"role": "user", "content": "call the tool"}]});
    let text = messages(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let streamed: String = events(&text)
        .iter()
        .filter_map(|e| e.pointer("/delta/partial_json").and_then(Value::as_str))
        .collect();
    body["stream"] = json!(false);
    let whole: Value = messages(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&whole["stop_reason"], &whole["content"][0]["type"]),
        (&json!("tool_use"), &json!("tool_use"))
    );
    assert_eq!(
        serde_json::from_str::<Value>(&streamed).unwrap(),
        whole["content"][0]["input"]
    );
    body["messages"] = json!([{"role": "user", "content": "call the tool"},
        {"role": "assistant", "content": whole["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": whole["content"][0]["id"], "content": "sunny"}]}]);
    let after: Value = messages(&simulator, &client, &body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&after["stop_reason"], &after["content"][0]["type"]),
        (&json!("end_turn"), &json!("text"))
    );
}

#[tokio::test]
async fn refusals_speak_the_dialect() {
    let (simulator, client) = start().await;
    let url = |path: &str| format!("{}{path}", simulator.base_url());
    let no_key = client
        .post(url("/v1/chat/completions"))
        .json(&hello(false))
        .send()
        .await
        .unwrap();
    assert_eq!(no_key.status(), 401);
    assert_eq!(
        no_key.json::<Value>().await.unwrap()["error"]["code"],
        "invalid_api_key"
    );
    let no_key = client
        .post(url("/v1/messages"))
        .json(&hello(false))
        .send()
        .await
        .unwrap();
    assert_eq!(no_key.status(), 401);
    assert_eq!(
        no_key.json::<Value>().await.unwrap()["error"]["type"],
        "authentication_error"
    );
    let bad = chat(&simulator, &client, &json!({"model": "m"})).send().await.unwrap();
    assert_eq!(
        (
            bad.status().as_u16(),
            bad.json::<Value>().await.unwrap()["error"]["type"].clone()
        ),
        (400, json!("invalid_request_error"))
    );
    let no_limit = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    let bad = messages(&simulator, &client, &no_limit).send().await.unwrap();
    assert_eq!(
        (
            bad.status().as_u16(),
            bad.json::<Value>().await.unwrap()["type"].clone()
        ),
        (400, json!("error"))
    );
    let junk = chat(&simulator, &client, &json!({}))
        .body("\u{0}{")
        .send()
        .await
        .unwrap();
    assert_eq!(junk.status(), 400);
    assert_eq!(
        client
            .get(url("/v1/chat/completions"))
            .bearer_auth("k")
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    assert_eq!(
        client
            .post(url("/v2/elsewhere"))
            .bearer_auth("k")
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
}

#[tokio::test]
async fn the_log_shows_headers_and_keeps_credentials_back() {
    let (simulator, client) = start().await;
    let url = format!("{}/v1/chat/completions", simulator.base_url());
    let request = client
        .post(url)
        .bearer_auth("sk-canary-0123456789abcdef")
        .header("x-extra", "seen")
        .json(&hello(false));
    request.send().await.unwrap();
    let log = client
        .get(format!("{}/_simulator/log", simulator.base_url()))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(!log.contains("sk-canary"));
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log[0]["headers"]["authorization"], "***");
    assert_eq!(
        (&log[0]["headers"]["x-extra"], &log[0]["credential_suffix"]),
        (&json!("seen"), &json!("89abcdef"))
    );
    assert_eq!(
        (&log[0]["body"]["model"], &log[0]["outcome"]),
        (&json!("any"), &json!("finished"))
    );
}

#[tokio::test]
async fn fixed_answers_arrive_byte_for_byte_under_every_chunking() {
    let (simulator, client) = start().await;
    let recorded = "data: {\"x\":\"na\u{ef}ve \u{1f642}\"}\n\ndata: [DONE]\n\n";
    for chunks in [
        json!("whole"),
        json!("lines"),
        json!({"bytes": 7}),
        json!({"sizes": [1, 2, 3]}),
        json!("split_utf8"),
    ] {
        let headers = json!({"content-type": "text/event-stream", "content-length": "3", "x-request-id": "req_1"});
        let rule = json!({"times": 1, "answer": {"kind": "fixed", "status": 200, "headers": headers, "body_text": recorded, "chunks": chunks}});
        script(&simulator, &client, &rule).await;
        let answer = chat(&simulator, &client, &hello(true)).send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"], "req_1");
        assert_eq!(answer.text().await.unwrap(), recorded, "{chunks}");
    }
    let rule = json!({"times": 1, "match": {"credential": "sk-one"},
        "answer": {"kind": "fixed", "status": 429, "headers": {"retry-after": "7"}, "body_json": {"error": {}}}});
    script(&simulator, &client, &rule).await;
    assert_eq!(
        messages(&simulator, &client, &hello(false))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let limited = chat(&simulator, &client, &hello(false)).send().await.unwrap();
    assert_eq!(
        (limited.status().as_u16(), &limited.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    assert_eq!(simulator.control().counts().by_status[&429], 1);
    let bad = client.post(format!("{}/_simulator/script", simulator.base_url()));
    let bad = bad
        .json(&json!({"answer": {"kind": "fixed", "body_base64": "?"}}))
        .send()
        .await
        .unwrap();
    assert_eq!(bad.status(), 400);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_with_what_was_generated_until_then() {
    let (simulator, client) = start().await;
    let rule = json!({"times": 1, "faults": {"hang_after_events": 4}});
    script(&simulator, &client, &rule).await;
    let mut answer = chat(&simulator, &client, &hello(true)).send().await.unwrap();
    let mut seen = String::new();
    while seen.matches("\n\n").count() < 4 {
        seen += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
    }
    drop(answer);
    let log = simulator
        .control()
        .wait_until(|log| log[0].outcome == Outcome::ClientGone)
        .await;
    // The first event opens the message and generates nothing.
    assert_eq!((log[0].tokens_generated, log[0].events_sent), (3, 4));

    script(
        &simulator,
        &client,
        &json!({"times": 1, "faults": {"hang_before_head": true}}),
    )
    .await;
    let call = tokio::spawn(chat(&simulator, &client, &hello(false)).send());
    simulator.control().wait_until(|log| log.len() == 2).await;
    call.abort();
    let log = simulator
        .control()
        .wait_until(|log| log[1].outcome == Outcome::ClientGone)
        .await;
    assert_eq!(log[1].tokens_generated, 0);
    assert_eq!(simulator.control().counts().client_gone, 2);
}

#[tokio::test]
async fn held_answers_wait_for_their_gate() {
    let (simulator, client) = start().await;
    script(
        &simulator,
        &client,
        &json!({"faults": {"hold_before_head": "g", "hold_after_events": {"gate": "h", "events": 2}}}),
    )
    .await;
    let call = tokio::spawn(chat(&simulator, &client, &hello(true)).send());
    simulator.control().wait_until(|log| log.len() == 1).await;
    assert!(!call.is_finished());
    let release = format!("{}/_simulator/release/g", simulator.base_url());
    assert_eq!(client.post(release).send().await.unwrap().status(), 204);
    let answer = call.await.unwrap().unwrap();
    let log = simulator.control().wait_until(|log| log[0].events_sent == 2).await;
    assert_eq!(log[0].outcome, Outcome::Running);
    simulator.control().release("h");
    assert!(answer.text().await.unwrap().ends_with("[DONE]\n\n"));
}

#[tokio::test]
async fn connections_break_where_the_script_says() {
    let (simulator, client) = start().await;
    for how in [CutKind::Fin, CutKind::Rst] {
        script(
            &simulator,
            &client,
            &json!({"times": 1, "faults": {"cut": {"after": "before_head", "how": how}}}),
        )
        .await;
        chat(&simulator, &client, &hello(true)).send().await.unwrap_err();
        for (after, events) in [(json!({"events": 3}), 3), (json!({"bytes": 10}), 0)] {
            script(
                &simulator,
                &client,
                &json!({"times": 1, "faults": {"cut": {"after": after, "how": how}}}),
            )
            .await;
            let mut answer = chat(&simulator, &client, &hello(true)).send().await.unwrap();
            let mut seen = Vec::new();
            let error = loop {
                match answer.chunk().await {
                    Ok(Some(chunk)) => seen.extend_from_slice(&chunk),
                    Ok(None) => panic!("the answer ended as if it were whole"),
                    Err(error) => break format!("{error:?}"),
                }
            };
            assert_eq!(String::from_utf8(seen).unwrap().matches("\n\n").count(), events);
            assert_eq!(
                error.contains("ConnectionReset"),
                how == CutKind::Rst,
                "{how:?}: {error}"
            );
        }
    }
    assert_eq!(simulator.control().counts().cut, 6);
}

#[tokio::test]
async fn usage_can_be_missing_or_wrong_and_errors_can_come_late() {
    let (simulator, client) = start().await;
    script(
        &simulator,
        &client,
        &json!({"times": 1, "answer": {"kind": "generate", "usage": "missing"}}),
    )
    .await;
    let answer: Value = chat(&simulator, &client, &hello(false))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer.get("usage"), None);
    let rule = json!({"times": 1, "answer": {"kind": "generate", "usage": {"override": {"output_tokens": -1}}, "served_model": "other"}});
    script(&simulator, &client, &rule).await;
    let answer: Value = messages(&simulator, &client, &hello(false))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&answer["usage"], &answer["model"]),
        (&json!({"output_tokens": -1}), &json!("other"))
    );
    script(
        &simulator,
        &client,
        &json!({"times": 1, "faults": {"error_event": {"after_events": 4}}}),
    )
    .await;
    let text = messages(&simulator, &client, &hello(true))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.ends_with("event: error\ndata: {\"error\":{\"message\":\"Overloaded\",\"type\":\"overloaded_error\"},\"type\":\"error\"}\n\n"));
    script(
        &simulator,
        &client,
        &json!({"times": 1, "answer": {"kind": "generate", "tokens": 500, "ignore_limit": true},
        "faults": {"drip": {"bytes": 4096, "every_ms": 0}}}),
    )
    .await;
    let text = chat(&simulator, &client, &hello(true))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(events(&text).len(), 502);
}

#[tokio::test]
async fn a_reset_forgets_everything_but_what_runs() {
    let (simulator, client) = start().await;
    script(
        &simulator,
        &client,
        &json!({"answer": {"kind": "fixed", "status": 500}}),
    )
    .await;
    assert_eq!(
        chat(&simulator, &client, &hello(false)).send().await.unwrap().status(),
        500
    );
    let answer = client
        .delete(format!("{}/_simulator", simulator.base_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(simulator.control().counts().requests, 0);
    assert_eq!(
        chat(&simulator, &client, &hello(false)).send().await.unwrap().status(),
        200
    );
    let counts = client
        .get(format!("{}/_simulator/counts", simulator.base_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(counts.json::<Value>().await.unwrap()["finished"], 1);
    let url = format!("{}/v1/messages", simulator.base_url());
    simulator.stop().await;
    client.post(url).send().await.unwrap_err();
}
