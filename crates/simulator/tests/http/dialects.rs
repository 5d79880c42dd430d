//! What a client sees of the two dialects.

use serde_json::{Value, json};
use simulator::Outcome;

use crate::{chat, events, hello, messages, start};

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
