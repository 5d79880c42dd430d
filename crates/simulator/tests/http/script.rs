//! What a script does to answers, and what the log says afterwards.

use serde_json::{Value, json};
use simulator::{CutKind, Outcome};

use crate::{chat, events, hello, messages, script, start};

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
    let control = simulator.control();
    simulator.stop().await;
    // somebody else may have the port by now, but this one hears of no new connection any more
    drop(reqwest::Client::new().post(url).send().await);
    assert_eq!(control.counts().requests, 1);
}
