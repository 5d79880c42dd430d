//! Credit: held before, spent after, never below zero.

use domain::Amount;
use serde_json::{Value, json};
use simulator::{Faults, Rule};
use support::{KeyOptions, TestApp, openai_body};

fn usd(value: &Value) -> Amount {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not an amount: {value}"))
        .parse()
        .unwrap()
}

async fn available(client: &support::Client) -> Amount {
    usd(&client.key().await["balance"]["available_usd"])
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_for_one_serves_one_of_two_hundred() {
    let mut app = TestApp::start().await;
    let body = openai_body(true);
    // what one request holds is what it is told to need when there is nothing
    let (_, poor) = app.tenant_with("0", KeyOptions::default()).await;
    let refused = app.client_with(&poor).openai(&body).await;
    assert_eq!(refused.status, 402, "{}", refused.text());
    let needed = usd(&refused.json()["error"]["needed_usd"]);
    let (tenant, key) = app.tenant_with(&needed.to_string(), KeyOptions::default()).await;

    let gate = Faults {
        hold_before_head: Some("refusals".to_owned()),
        ..Faults::default()
    };
    app.simulator
        .script(Rule {
            faults: gate,
            ..Rule::default()
        })
        .unwrap();
    let client = app.client_with(&key);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (client, body) = (client.clone(), body.clone());
        calls.spawn(async move { client.openai(&body).await });
    }
    let mut refusals = 0;
    while refusals < 199 {
        let answer = calls.join_next().await.expect("a call").unwrap();
        assert_eq!(answer.status, 402, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "insufficient_credit");
        refusals += 1;
    }
    assert_eq!(available(&client).await, Amount::ZERO, "all of it is held");
    app.simulator.release("refusals");
    let answer = calls.join_next().await.expect("the last call").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(app.simulator.counts().requests, 1, "the refused were never sent");
    let charged = usd(&client.closed_request(&answer.request_id()).await["cost_usd"]);
    let left = available(&client).await;
    assert_eq!(left.checked_add(charged), Some(needed));
    let balance = app.admin.get(&format!("/tenants/{tenant}/balance")).await;
    assert_eq!(usd(&balance["held_usd"]), Amount::ZERO);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_what_would_be_affordable_and_that_is_then_served() {
    let mut app = TestApp::start().await;
    let (_, key) = app.tenant_with("0.02", KeyOptions::default()).await;
    let client = app.client_with(&key);
    let mut body = openai_body(false);
    body["max_tokens"] = 50_000.into();
    let refused = client.openai(&body).await;
    assert_eq!(refused.status, 402, "{}", refused.text());
    let affordable = refused.json()["error"]["affordable_output_tokens"]
        .as_u64()
        .expect("a number");
    body["max_tokens"] = (affordable + 1).into();
    assert_eq!(client.openai(&body).await.status, 402, "one more token is too many");
    body["max_tokens"] = affordable.into();
    let served = client.openai(&body).await;
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(app.simulator.log()[0].body["max_tokens"], affordable);
    client.closed_request(&served.request_id()).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_balance_shortens_an_answer_whose_length_was_left_open() {
    let mut app = TestApp::start().await;
    let (_, key) = app.tenant_with("0.05", KeyOptions::default()).await;
    let client = app.client_with(&key);
    let mut body = openai_body(false);
    body.as_object_mut().unwrap().remove("max_tokens");
    let answer = client.openai(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let limit: u64 = answer.header("x-truerelay-output-limit").unwrap().parse().unwrap();
    assert!((256..16_384).contains(&limit), "{limit}");
    let closed = client.closed_request(&answer.request_id()).await;
    assert!(usd(&closed["held_usd"]) <= Amount::from_nanos(50_000_000));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_multiply_the_hold() {
    let app = TestApp::start().await;
    let mut held = Vec::new();
    for n in [1, 4] {
        let mut body = openai_body(false);
        body["n"] = n.into();
        let answer = app.client().openai(&body).await;
        assert_eq!(answer.json()["choices"].as_array().unwrap().len(), n);
        held.push(usd(&app.closed(&answer.request_id()).await["held_usd"]));
    }
    // 100 tokens of output at 10 USD per million, times 1.7
    let one_answer = Amount::from_nanos(100 * 10_000 * 17 / 10);
    let difference = held[1].checked_sub(held[0]).unwrap();
    assert!(
        difference
            >= one_answer
                .checked_add(one_answer)
                .unwrap()
                .checked_add(one_answer)
                .unwrap()
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_budget_holds_whatever_the_balance() {
    let mut app = TestApp::start().await;
    let tenant = app.seeded.tenant.clone();
    let options = KeyOptions {
        budget: Some(("0.004".to_owned(), "day")),
        ..KeyOptions::default()
    };
    let (_, key) = app.key_of(&tenant, options).await;
    let client = app.client_with(&key);
    let mut served = 0;
    let refused = loop {
        let answer = client.openai(&openai_body(false)).await;
        if answer.status == 402 {
            break answer;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        client.closed_request(&answer.request_id()).await;
        served += 1;
        assert!(served < 100, "the budget never ran out");
    };
    assert!(served > 0);
    assert_eq!(refused.json()["error"]["code"], "budget_exceeded");
    let budget = client.key().await["budget"].clone();
    assert!(usd(&budget["used_usd"]) <= usd(&budget["limit_usd"]), "{budget}");
    assert_eq!(
        app.client().openai(&openai_body(false)).await.status,
        200,
        "the tenant's other key goes on"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_requests_never_overdraw() {
    let mut app = TestApp::start().await;
    let (tenant, key) = app.tenant_with("0.02", KeyOptions::default()).await;
    let client = app.client_with(&key);
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..120 {
        let client = client.clone();
        calls.spawn(async move { client.openai(&openai_body(index % 2 == 0)).await });
    }
    let (mut charged, mut served) = (Amount::ZERO, 0);
    for answer in calls.join_all().await {
        if answer.status == 200 {
            served += 1;
            charged = charged
                .checked_add(usd(&client.closed_request(&answer.request_id()).await["cost_usd"]))
                .unwrap();
        } else {
            assert_eq!(answer.status, 402, "{}", answer.text());
        }
    }
    assert!(served > 0);
    let balance = app.admin.get(&format!("/tenants/{tenant}/balance")).await;
    assert_eq!(
        usd(&balance["available_usd"]).checked_add(charged),
        Some("0.02".parse().unwrap())
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_many_requests_share_commits() {
    let app = TestApp::start().await;
    let gate = Faults {
        hold_before_head: Some("all".to_owned()),
        ..Faults::default()
    };
    app.simulator
        .script(Rule {
            faults: gate,
            ..Rule::default()
        })
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let client = app.client();
        calls.spawn(async move { client.openai(&openai_body(false)).await });
    }
    app.wait_for_holds(100).await;
    let before = app.number("SELECT CAST(MAX(batch_no) AS BIGINT) FROM node").await;
    app.simulator.release("all");
    for answer in calls.join_all().await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    app.wait_for_holds(0).await;
    let batches = app.number("SELECT CAST(MAX(batch_no) AS BIGINT) FROM node").await - before;
    assert!(batches < 100, "100 ends took {batches} commits");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_posted_once_however_often_it_is_sent() {
    let app = TestApp::start().await;
    let path = format!("/tenants/{}/grants", app.seeded.tenant);
    let body = json!({ "amount_usd": "2.50", "kind": "payment", "note": "wire transfer" });
    let headers = [("idempotency-key", "one-transfer")];
    let first = app
        .admin
        .call_with(reqwest::Method::POST, &path, Some(body.clone()), &headers)
        .await;
    let second = app
        .admin
        .call_with(reqwest::Method::POST, &path, Some(body.clone()), &headers)
        .await;
    assert!(first.0.is_success() && first == second, "{first:?} {second:?}");
    let other = json!({ "amount_usd": "2.51", "kind": "payment", "note": "wire transfer" });
    let (status, _) = app
        .admin
        .call_with(reqwest::Method::POST, &path, Some(other), &headers)
        .await;
    assert_eq!(status, 409);
    let (status, answer) = app.admin.call(reqwest::Method::POST, &path, Some(body)).await;
    assert_eq!(status, 400, "the key is required: {answer}");
    assert_eq!(available(&app.client()).await, "7.50".parse().unwrap());
    app.finish().await;
}
