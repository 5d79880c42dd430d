//! Upstreams that misbehave and clients that do not read: who pays, what is shown, and that it ends.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use domain::Amount;
use futures_util::StreamExt;
use serde_json::{Value, json};
use simulator::{Answer, Chunking, ErrorEvent, Faults, Fixed, Generate, Hold, Outcome, Rule, UsageReport};
use support::{KeyOptions, TestApp, TestAppOptions, anthropic_body, openai_body};

const STREAM: (&str, &str) = ("content-type", "text/event-stream");

fn fixed(body: &str, headers: &[(&str, &str)]) -> Answer {
    Answer::Fixed(Fixed {
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body_text: Some(body.to_owned()),
        ..Fixed::default()
    })
}

fn answering(answer: Answer, faults: Faults) -> Rule {
    Rule {
        answer,
        faults,
        ..Rule::default()
    }
}

fn chunk(text: &str) -> String {
    let delta = json!({ "choices": [{ "index": 0, "delta": { "content": text } }] });
    format!("data: {delta}\n\n")
}

const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n";

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_the_client_while_the_upstream_is_held() {
    let app = TestApp::start().await;
    for (path, body) in [
        ("/v1/chat/completions", openai_body(true)),
        ("/v1/messages", anthropic_body(true)),
    ] {
        app.simulator.reset();
        let hold = Hold {
            gate: "rest".to_owned(),
            events: 6,
        };
        let faults = Faults {
            hold_after_events: Some(hold),
            ..Faults::default()
        };
        app.simulator.script(answering(Answer::default(), faults)).unwrap();
        let mut stream = app.client().begin(path, &body).await.bytes_stream();
        let mut text = String::new();
        // the upstream cannot go on before the gate opens, so these six can only have been forwarded as they came
        while text.matches("\n\n").count() < 6 {
            text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        }
        assert_eq!(app.simulator.log()[0].events_sent, 6);
        app.simulator.release("rest");
        while let Some(bytes) = stream.next().await {
            text.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
        }
        assert!(text.contains("[DONE]") || text.contains("message_stop"), "{text}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_at_its_end_mark_although_the_upstream_keeps_the_connection() {
    let app = TestApp::start().await;
    let hanging = Faults {
        hang_after_events: Some(1),
        ..Faults::default()
    };
    let body = format!("{}{END}", chunk("hello"));
    app.simulator
        .script(answering(fixed(&body, &[STREAM]), hanging))
        .unwrap();
    // the idle limit is minutes: without an end at the mark this would not come back
    let answer = app.client().openai(&openai_body(true)).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(
        (&closed["reason"], &closed["usage_source"]),
        (&json!("completed"), &json!("provider"))
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_is_no_stream_is_never_relayed_as_one() {
    let app = TestApp::start().await;
    for (body, headers) in [
        ("{\"error\":{\"message\":\"account acme\"}}", vec![]),
        ("<html><script>1</script></html>", vec![("content-type", "text/html")]),
        ("\u{1f}\u{8b}", vec![("content-type", "application/octet-stream")]),
    ] {
        app.simulator.reset();
        app.simulator
            .script(answering(fixed(body, &headers), Faults::default()))
            .unwrap();
        let answer = app.client().openai(&openai_body(true)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (502, Some("application/json")),
            "{}",
            answer.text()
        );
        assert!(!answer.text().contains("acme"), "{}", answer.text());
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(
            (&closed["state"], &closed["cost_usd"]),
            (&json!("voided"), &json!("0.00"))
        );
    }
    // whole answers: an error that calls itself a success, and a page that begins like an object
    for (body, kind, status) in [
        ("{\"error\":{\"message\":\"account acme\"}}", "application/json", 502),
        ("{<script>", "text/html", 200),
    ] {
        app.simulator.reset();
        let rule = answering(fixed(body, &[("content-type", kind)]), Faults::default());
        app.simulator.script(rule).unwrap();
        let answer = app.client().openai(&openai_body(false)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (status, Some("application/json"))
        );
        assert!(!answer.text().contains("acme"), "{}", answer.text());
        assert_eq!(app.closed(&answer.request_id()).await["cost_usd"], "0.00");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_stream_comes_through_unless_it_is_about_the_operator() {
    let app = TestApp::start().await;
    let leak = format!("No quota for {}", app.seeded.openai_secret);
    for (message, is_shown) in [
        ("The model is overloaded", true),
        ("Rate limit reached in organization org-acme", false),
        (leak.as_str(), false),
    ] {
        app.simulator.reset();
        let event = ErrorEvent {
            after_events: 4,
            data: Some(json!({ "error": { "message": message, "type": "server_error" } })),
        };
        let faults = Faults {
            error_event: Some(event),
            ..Faults::default()
        };
        app.simulator.script(answering(Answer::default(), faults)).unwrap();
        let answer = app.client().openai(&openai_body(true)).await;
        let text = answer.text();
        assert_eq!(text.contains(message), is_shown, "{text}");
        assert!(text.contains("upstream_cut_off"), "it never looks whole: {text}");
        assert_eq!(app.closed(&answer.request_id()).await["reason"], "upstream_cut_off");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_ignores_the_limit_is_cut_off_and_the_charge_stays_within_the_hold() {
    let app = TestApp::start().await;
    let flood = Generate {
        tokens: Some(200_000),
        ignore_limit: true,
        usage: UsageReport::Missing,
        ..Generate::default()
    };
    app.simulator
        .script(answering(Answer::Generate(flood), Faults::default()))
        .unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["reason"], "upstream_cut_off", "{closed}");
    assert_eq!(closed["cost_usd"], closed["held_usd"], "the rest is the operator's");
    let log = app.simulator.wait_until(|log| log[0].outcome != Outcome::Running).await;
    assert_eq!(log[0].outcome, Outcome::ClientGone, "it was cancelled");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_beyond_belief_is_replaced_by_what_was_relayed() {
    let app = TestApp::start().await;
    for stream in [true, false] {
        app.simulator.reset();
        let lie = Generate {
            tokens: Some(60),
            usage: UsageReport::Override(json!({ "prompt_tokens": 5, "completion_tokens": 1_000_000 })),
            ..Generate::default()
        };
        app.simulator
            .script(answering(Answer::Generate(lie), Faults::default()))
            .unwrap();
        let answer = app.client().openai(&openai_body(stream)).await;
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(closed["usage_source"], "estimate", "{closed}");
        let output = closed["usage"]["tokens"]["output"].as_u64().unwrap();
        assert!((20..=200).contains(&output), "{output} of about 60");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_affordable_is_affordable() {
    let mut app = TestApp::start().await;
    let picture = json!({ "type": "image_url", "image_url": { "url": "https://example.com/a.png" } });
    let sound = json!({ "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } });
    let mut bodies: Vec<Value> = Vec::new();
    for (part, choices) in [(None, 3), (Some(picture), 2), (Some(sound), 1)] {
        let mut body = openai_body(false);
        body["n"] = choices.into();
        body["max_tokens"] = 16_000.into();
        body["service_tier"] = "priority".into();
        if let Some(part) = part {
            body["messages"][0]["content"] = json!([{ "type": "text", "text": "what is it?" }, part]);
        }
        bodies.push(body);
    }
    for mut body in bodies {
        let (_, poor) = app.tenant_with("0", KeyOptions::default()).await;
        let needed: Amount = app.client_with(&poor).openai(&body).await.json()["error"]["needed_usd"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        // enough for the input and a part of the output
        let credit = Amount::from_nanos(needed.nanos() - needed.nanos() / 20);
        let (_, key) = app.tenant_with(&credit.to_string(), KeyOptions::default()).await;
        let client = app.client_with(&key);
        let refused = client.openai(&body).await;
        assert_eq!(refused.status, 402, "{}", refused.text());
        let affordable = refused.json()["error"]["affordable_output_tokens"].as_u64().unwrap();
        body["max_tokens"] = (affordable + 1).into();
        assert_eq!(client.openai(&body).await.status, 402, "one more is too much");
        body["max_tokens"] = affordable.into();
        let served = client.openai(&body).await;
        assert_eq!(served.status, 200, "{affordable}: {}", served.text());
        client.closed_request(&served.request_id()).await;
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_ended_and_pays_for_what_was_produced() {
    let app = TestApp::start_with(TestAppOptions {
        config: "[relay]\nwrite_stall_timeout_ms = 300\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    // more than all buffers between the simulator and the client take
    let padded = json!({ "padding": "x".repeat(4_000), "choices": [{ "index": 0, "delta": { "content": "a" } }] });
    let body = format!("{}{END}", format!("data: {padded}\n\n").repeat(10_000));
    app.simulator
        .script(answering(fixed(&body, &[STREAM]), Faults::default()))
        .unwrap();
    let mut request = openai_body(true);
    request["max_tokens"] = 16_000.into();
    let mut socket = post(&app, "/v1/chat/completions", &request);
    let mut head = [0_u8; 1024];
    let read = socket.read(&mut head).unwrap();
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .expect("a request id")
        .to_owned();
    // from here on nothing is read, and the connection stays open
    let closed = app.closed(&id).await;
    assert_eq!(closed["reason"], "client_gone", "{closed}");
    assert!(closed["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap() > Amount::ZERO);
    drop(socket);
    app.finish().await;
}

/// The answer breaks off on its way from the provider: with a client that let it wait, and with one that did not.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_while_its_client_reads_slowly_is_no_failure_of_the_provider() {
    let app = TestApp::start_with(TestAppOptions {
        // a tenth of it is reading slowly
        config: "[relay]\nwrite_stall_timeout_ms = 10000\n".to_owned(),
        provider_proxy: true,
        ..TestAppOptions::default()
    })
    .await;
    let padded = json!({ "padding": "x".repeat(4_000), "choices": [{ "index": 0, "delta": { "content": "a" } }] });
    let event = format!("data: {padded}\n\n");
    let mut request = openai_body(true);
    request["max_tokens"] = 16_000.into();
    // a line is an event for the simulator, and an event has two
    for (is_slow, events) in [(true, 15_000), (false, 100)] {
        app.simulator.reset();
        let pause = Faults {
            hold_after_events: Some(Hold {
                gate: "rest".to_owned(),
                events,
            }),
            ..Faults::default()
        };
        let mut rule = answering(fixed(&format!("{}{END}", event.repeat(10_000)), &[STREAM]), pause);
        if let Answer::Fixed(fixed) = &mut rule.answer {
            fixed.chunks = Chunking::Lines;
        }
        app.simulator.script(rule).unwrap();
        let mut socket = post(&app, "/v1/chat/completions", &request);
        let mut head = [0_u8; 1024];
        let read = socket.read(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head[..read]).into_owned();
        let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        let id = id.expect("a request id").to_owned();
        if is_slow {
            // the buffers fill, and then the provider waits
            tokio::time::sleep(Duration::from_secs(4)).await;
        } else {
            socket.read_exact(&mut [0_u8; 20_000]).unwrap();
        }
        app.provider_faults().break_open(fault_proxy::CutKind::Rst);
        let (mut rest, mut some) = (Vec::new(), [0_u8; 65_536]);
        while !rest.ends_with(b"\r\n0\r\n\r\n") {
            let read = socket.read(&mut some).unwrap();
            assert!(read > 0, "an event says how it ended");
            rest.extend_from_slice(&some[..read]);
        }
        let closed = app.closed(&id).await;
        assert_eq!(closed["reason"], "upstream_cut_off", "{closed}");
        let is_flagged = closed["flags"].as_array().unwrap().contains(&json!("read_slowly"));
        assert_eq!(is_flagged, is_slow, "{closed}");
        let failures = "SELECT COUNT(*) FROM request WHERE upstream_failures > 0";
        assert_eq!(app.number(failures).await, i64::from(!is_slow));
    }
    app.finish().await;
}

fn post(app: &TestApp, path: &str, body: &Value) -> TcpStream {
    let address = app.relay_url().strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = body.to_string();
    write!(
        socket,
        "POST {path} HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        app.seeded.key,
        body.len()
    )
    .unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_one_in_its_dialect() {
    let app = TestApp::start().await;
    let http = reqwest::Client::new();
    for (method, path, allowed) in [
        (reqwest::Method::GET, "/v1/chat/completions", "POST"),
        (reqwest::Method::DELETE, "/v1/messages", "POST"),
        (reqwest::Method::POST, "/v1/models", "GET"),
        (reqwest::Method::PUT, "/v1/key", "GET"),
    ] {
        let url = format!("{}{path}", app.relay_url());
        let response = http.request(method, url).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &allowed.parse().unwrap())
        );
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(body["error"]["code"], "method_not_allowed");
        assert_eq!(body.get("type").is_some(), path == "/v1/messages", "{body}");
    }
    app.finish().await;
}
