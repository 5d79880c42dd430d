//! No substitution: an answer of another model than the one that was sold is free, however it ends, and says so.

use domain::Amount;
use futures_util::StreamExt;
use serde_json::{Value, json};
use simulator::{Answer, Chunking, Cut, CutPoint, Faults, Fixed, Generate, Hold, Rule};
use support::{OPENAI_MODEL, TestApp, anthropic_body, openai_body};

fn reports(model: &str) -> Generate {
    Generate {
        served_model: Some(model.to_owned()),
        ..Generate::default()
    }
}

fn rule(generate: Generate, faults: Faults) -> Rule {
    Rule {
        answer: Answer::Generate(generate),
        faults,
        ..Rule::default()
    }
}

fn has_flag(closed: &Value, flag: &str) -> bool {
    closed["flags"]
        .as_array()
        .is_some_and(|flags| flags.contains(&flag.into()))
}

/// What the customer sees of an answer of another model.
fn assert_free(closed: &Value, served: &str) {
    assert_eq!(closed["reason"], "model_substituted", "{closed}");
    assert_eq!(
        (&closed["state"], &closed["cost_usd"]),
        (&json!("voided"), &json!("0.00"))
    );
    assert_eq!(closed["served_model"], served);
    assert!(has_flag(closed, "model_substituted"), "{closed}");
}

async fn assert_nothing_was_spent(app: &TestApp) {
    let key = app.client().key().await;
    let available: Amount = key["balance"]["available_usd"].as_str().unwrap().parse().unwrap();
    assert_eq!(available, Amount::from_usd(5));
}

async fn operators_loss(app: &TestApp) -> i64 {
    app.number("SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:unbilled'")
        .await
}

/// A stream of OpenAI's whose chunks name these models, one word each.
fn chunks(models: &[&str]) -> String {
    let mut text = String::new();
    for (place, model) in models.iter().enumerate() {
        let finish = (place + 1 == models.len()).then_some("stop");
        let chunk = json!({
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": model,
            "choices": [{ "index": 0, "delta": { "content": "word " }, "finish_reason": finish }],
        });
        text.push_str(&format!("data: {chunk}\n\n"));
    }
    text.push_str("data: [DONE]\n\n");
    text
}

fn fixed(body: String, faults: Faults) -> Rule {
    Rule {
        answer: Answer::Fixed(Fixed {
            headers: [("content-type".to_owned(), "text/event-stream".to_owned())].into(),
            body_text: Some(body),
            chunks: Chunking::Lines,
            ..Fixed::default()
        }),
        faults,
        ..Rule::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_free_streamed_and_whole_in_both_dialects() {
    let app = TestApp::start().await;
    for stream in [true, false] {
        app.simulator.reset();
        app.simulator
            .script(rule(reports("gpt-4o-mini-2024-07-18"), Faults::default()))
            .unwrap();
        let answer = app.client().openai(&openai_body(stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        // the client has its answer, whole and without words of ours
        assert!(answer.text().contains("gpt-4o-mini-2024-07-18"));
        assert!(!answer.text().contains("model_substituted"), "{}", answer.text());
        assert_free(&app.closed(&answer.request_id()).await, "gpt-4o-mini-2024-07-18");

        app.simulator.reset();
        app.simulator
            .script(rule(reports("claude-haiku-4-5"), Faults::default()))
            .unwrap();
        let answer = app.client().anthropic(&anthropic_body(stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_free(&app.closed(&answer.request_id()).await, "claude-haiku-4-5");
    }
    assert_nothing_was_spent(&app).await;
    assert!(
        operators_loss(&app).await > 0,
        "what the provider bills is the operator's"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_the_same_model_are_charged_and_published_and_set_by_the_operator() {
    let app = TestApp::start().await;
    let offer = format!("/offers/{}", app.seeded.openai_offer);
    let shown = app.admin.get(&offer).await;
    assert_eq!(shown["served_names_are_default"], true);
    for name in ["gpt-4o", "gpt-4o-2024-08-06", "GPT-4o-20270101"] {
        app.simulator.reset();
        app.simulator.script(rule(reports(name), Faults::default())).unwrap();
        let answer = app.client().openai(&openai_body(true)).await;
        let closed = app.closed(&answer.request_id()).await;
        assert_eq!(
            (&closed["reason"], &closed["served_model"]),
            (&json!("completed"), &json!(name))
        );
    }
    // nothing is reported: nothing is wrong
    let body = json!({
        "id": "c", "object": "chat.completion", "usage": { "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11 },
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "words" } }],
    });
    app.simulator.reset();
    app.simulator
        .script(Rule {
            answer: Answer::Fixed(Fixed {
                body_json: Some(body),
                ..Fixed::default()
            }),
            ..Rule::default()
        })
        .unwrap();
    let answer = app.client().openai(&openai_body(false)).await;
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(
        (&closed["reason"], &closed["served_model"]),
        (&json!("completed"), &json!(null))
    );

    let changed = app.admin.change(&offer, json!({ "served_names": ["Mine/4o"] })).await;
    assert_eq!(changed["served_names"], json!(["Mine/4o"]));
    assert_eq!(changed["served_names_are_default"], false);
    let model = app.client().get("/v1/models/openai%2Fgpt-4o").await.json().await;
    assert_eq!(
        model["truerelay"]["offers"][0]["served_names"],
        json!(["Mine/4o"]),
        "{model}"
    );
    // nobody needs a key for that
    let public = async |path: &str| -> Value {
        let url = format!("{}{path}", app.relay_url());
        serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap()
    };
    let listed = public("/v1/pricing?model=openai/gpt-4o").await;
    assert_eq!(
        listed["models"][0]["offers"][0]["served_names"],
        json!(["Mine/4o"]),
        "{listed}"
    );
    let past = public(&format!("/v1/pricing?at={}", listed["effective_at"].as_str().unwrap())).await;
    assert!(past["models"][0]["offers"][0].get("served_names").is_none(), "{past}");
    app.simulator.reset();
    let answer = app.client().openai(&openai_body(false)).await;
    assert_free(&app.closed(&answer.request_id()).await, "gpt-4o");
    let changed = app.admin.change(&offer, json!({ "served_names": [] })).await;
    assert_eq!(
        changed["served_names"], shown["served_names"],
        "an empty list is the default again"
    );
    for bad in [json!(["a b"]), json!(["a", "A"]), json!([""])] {
        let (status, _) = app
            .admin
            .call(reqwest::Method::PATCH, &offer, Some(json!({ "served_names": bad })))
            .await;
        assert_eq!(status, 400);
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_in_mid_stream_is_seen() {
    let app = TestApp::start().await;
    let mut names = vec!["gpt-4o"; 40];
    names[30] = "gpt-4o-mini";
    app.simulator.script(fixed(chunks(&names), Faults::default())).unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    assert_free(&app.closed(&answer.request_id()).await, "gpt-4o-mini");
    // nor does it get lost among more names than are kept
    let mut many: Vec<String> = (1..=9).map(|day| format!("gpt-4o-2024-08-0{day}")).collect();
    many.extend(["gpt-4o-mini", "gpt-4o-2024-09-01"].map(str::to_owned));
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    app.simulator.reset();
    app.simulator.script(fixed(chunks(&many), Faults::default())).unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    assert_free(&app.closed(&answer.request_id()).await, "gpt-4o-2024-09-01");
    // another name of the same model is no other model, and content is no name
    names[30] = "gpt-4o-2024-08-06";
    app.simulator.reset();
    let body = chunks(&names).replacen("word ", "\\\"model\\\":\\\"x\\\" ", 20);
    app.simulator.script(fixed(body, Faults::default())).unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    let closed = app.closed(&answer.request_id()).await;
    assert_eq!(closed["state"], "settled", "{closed}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_or_abandoned_answer_of_another_model_is_free_too() {
    let app = TestApp::start().await;
    let cut = Faults {
        cut: Some(Cut {
            after: CutPoint::Events(5),
            how: Default::default(),
        }),
        ..Faults::default()
    };
    app.simulator.script(rule(reports("other"), cut)).unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    assert!(
        answer.text().contains("model_substituted"),
        "a cut answer does not look whole: {}",
        answer.text()
    );
    assert_free(&app.closed(&answer.request_id()).await, "other");

    let pause = Faults {
        hold_after_events: Some(Hold {
            gate: "rest".to_owned(),
            events: 5,
        }),
        ..Faults::default()
    };
    app.simulator.reset();
    app.simulator.script(rule(reports("other"), pause)).unwrap();
    for (path, body) in [
        ("/v1/chat/completions", openai_body(true)),
        ("/v1/messages", anthropic_body(true)),
    ] {
        let begun = app.client().begin(path, &body).await;
        let id = begun.headers()["x-request-id"].to_str().unwrap().to_owned();
        let mut stream = begun.bytes_stream();
        let mut seen = String::new();
        while !seen.contains("other") {
            seen.push_str(&String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()));
        }
        drop(stream);
        assert_free(&app.closed(&id).await, "other");
    }
    assert_nothing_was_spent(&app).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_gives_an_answer_of_another_model_back_whole() {
    let mut app = TestApp::start().await;
    let mut names = vec!["gpt-4o"; 60];
    for name in &mut names[40..] {
        *name = "gpt-4o-mini";
    }
    // first named right, and noted; then another name
    let pause = |events| Faults {
        hold_after_events: Some(Hold {
            gate: format!("after {events}"),
            events,
        }),
        ..Faults::default()
    };
    // an event is two lines, and each line is a chunk
    let mut until_then = fixed(chunks(&names), pause(100));
    until_then.times = Some(1);
    app.simulator.script(until_then).unwrap();
    let begun = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
    let first = begun.headers()["x-request-id"].to_str().unwrap().to_owned();
    app.simulator
        .script(rule(
            Generate {
                tokens: Some(90),
                ..reports("claude-haiku-4-5")
            },
            pause(20),
        ))
        .unwrap();
    let other = app.client().begin("/v1/messages", &anthropic_body(true)).await;
    let second = other.headers()["x-request-id"].to_str().unwrap().to_owned();
    let reading = [begun, other].map(|response| {
        tokio::spawn(async move {
            let mut stream = response.bytes_stream();
            while let Some(Ok(_)) = stream.next().await {}
        })
    });
    app.wait_for_number(
        "SELECT COUNT(*) FROM hold WHERE progress_json LIKE '%\"free_by\":\"model_substituted\"%'",
        2,
    )
    .await;
    app.kill();
    for reading in reading {
        reading.await.unwrap();
    }
    app.restart().await;
    app.wait_for_holds(0).await;
    for (id, served) in [(first, "gpt-4o-mini"), (second, "claude-haiku-4-5")] {
        let closed = app.closed(&id).await;
        assert_free(&closed, served);
        assert!(has_flag(&closed, "recovered"), "{closed}");
    }
    assert_nothing_was_spent(&app).await;
    assert!(operators_loss(&app).await > 0);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_says_what_answered() {
    let app = TestApp::start().await;
    app.simulator
        .script(rule(reports("gpt-4o-mini"), Faults::default()))
        .unwrap();
    let answer = app.client().openai(&openai_body(true)).await;
    let id = answer.request_id();
    app.closed(&id).await;
    let receipt = loop {
        let answer = app.client().get(&format!("/v1/requests/{id}/receipt")).await;
        if answer.status() == 200 {
            break answer.json().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let statement: Value = serde_json::from_str(receipt["statement"].as_str().unwrap()).unwrap();
    assert_eq!(statement["reason"], "model_substituted");
    assert_eq!(statement["record"]["served_model"], "gpt-4o-mini");
    assert!(has_flag(&statement["record"], "model_substituted"), "{statement}");
    assert_eq!(statement["record"]["model"], OPENAI_MODEL);
    app.finish().await;
}
