//! Budgets of keys and tenants: a request fits in both or is refused, and is told which of them.

use domain::Amount;
use serde_json::{Value, json};
use support::{Client, KeyOptions, TestApp, anthropic_body, openai_body};

fn usd(value: &Value) -> Amount {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not an amount: {value}"))
        .parse()
        .unwrap()
}

/// A tenant with more credit than budget.
async fn tenant_under(app: &TestApp, limit_usd: &str) -> String {
    let tenant = app.admin.create_tenant("under a budget").await;
    app.admin.grant(&tenant, "5").await;
    let budget = json!({ "budget": { "limit_usd": limit_usd, "period": "month" } });
    app.admin.change(&format!("/tenants/{tenant}"), budget).await;
    tenant
}

fn under(limit_usd: &str) -> KeyOptions {
    KeyOptions {
        budget: Some((limit_usd.to_owned(), "day")),
        ..KeyOptions::default()
    }
}

fn open_ended() -> Value {
    let mut body = openai_body(false);
    body.as_object_mut().unwrap().remove("max_tokens");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_once_stay_within_the_budget_of_their_tenant() {
    let mut app = TestApp::start().await;
    let tenant = tenant_under(&app, "0.02").await;
    let keys = [
        app.key_of(&tenant, KeyOptions::default()).await.1,
        app.key_of(&tenant, under("0.015")).await.1,
    ];
    let clients = keys.map(|key| app.client_with(&key));
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..80 {
        let client = clients[index % 2].clone();
        calls.spawn(async move { (index % 2, client.openai(&openai_body(index % 4 < 2)).await) });
    }
    let (mut charged, mut of_tenant) = ([Amount::ZERO; 2], 0);
    for (key, answer) in calls.join_all().await {
        if answer.status == 200 {
            let closed = clients[key].closed_request(&answer.request_id()).await;
            charged[key] = charged[key].checked_add(usd(&closed["cost_usd"])).unwrap();
            continue;
        }
        assert_eq!(answer.status, 402, "{}", answer.text());
        let error = answer.json()["error"].clone();
        assert_eq!(error["code"], "budget_exceeded");
        let message = error["message"].as_str().unwrap();
        match error["scope"].as_str().unwrap() {
            "tenant" => of_tenant += 1,
            "key" => assert_eq!(key, 1, "the other key has no budget of its own"),
            other => panic!("{other}"),
        }
        let whose = if error["scope"] == "tenant" {
            "account's budget"
        } else {
            "key's budget"
        };
        assert!(message.contains(whose), "{message}");
        assert!(usd(&error["available_usd"]) < usd(&error["needed_usd"]), "{error}");
    }
    assert!(of_tenant > 0 && !charged[0].is_zero());
    let sum = charged[0].checked_add(charged[1]).unwrap();
    assert!(sum <= "0.02".parse().unwrap() && charged[1] <= "0.015".parse().unwrap());

    app.wait_for_holds(0).await;
    let shown = app.admin.get(&format!("/tenants/{tenant}")).await["budget"].clone();
    assert_eq!((usd(&shown["used_usd"]), &shown["held_usd"]), (sum, &json!("0.00")));
    let own = clients[1].key().await;
    assert_eq!(
        (usd(&own["budget"]["used_usd"]), &own["budget"]["period"]),
        (charged[1], &json!("day"))
    );
    assert_eq!(
        (
            usd(&own["tenant_budget"]["used_usd"]),
            &own["tenant_budget"]["limit_usd"]
        ),
        (sum, &json!("0.02"))
    );
    let other = clients[0].key().await;
    assert_eq!(
        (&other["budget"], &other["tenant_budget"]),
        (&Value::Null, &own["tenant_budget"])
    );
    app.finish().await;
}

async fn refusal_of(client: &Client) -> Value {
    let answer = client.openai(&openai_body(true)).await;
    assert_eq!(answer.status, 402, "{}", answer.text());
    answer.json()["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_budget_that_leaves_least_in_both_dialects() {
    let mut app = TestApp::start().await;
    let tenant = tenant_under(&app, "0.0002").await;
    let (tight, loose) = (
        app.key_of(&tenant, under("0.0001")).await.1,
        app.key_of(&tenant, under("0.0003")).await.1,
    );
    let error = refusal_of(&app.client_with(&tight)).await;
    assert_eq!(
        (&error["scope"], usd(&error["available_usd"])),
        (&json!("key"), Amount::from_nanos(100_000))
    );
    let loose = app.client_with(&loose);
    let error = refusal_of(&loose).await;
    assert_eq!(
        (&error["scope"], usd(&error["available_usd"])),
        (&json!("tenant"), Amount::from_nanos(200_000))
    );
    let anthropic = loose.anthropic(&anthropic_body(false)).await;
    assert_eq!(anthropic.status, 402);
    assert!(
        anthropic.text().contains("the account's budget has 0.0002 USD left"),
        "{}",
        anthropic.text()
    );

    // a budget that is raised or taken away lets the same request through
    let path = format!("/tenants/{tenant}");
    app.admin.change(&path, json!({ "budget": null })).await;
    assert_eq!(refusal_of(&loose).await["scope"], "key");
    let (_, free) = app.key_of(&tenant, KeyOptions::default()).await;
    let served = app.client_with(&free).openai(&openai_body(false)).await;
    assert_eq!(served.status, 200, "{}", served.text());
    app.client_with(&free).closed_request(&served.request_id()).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_budget_leaves_shortens_an_answer_whose_length_was_left_open() {
    let mut app = TestApp::start().await;
    let rich = app.seeded.tenant.clone();
    let (_, own) = app.key_of(&rich, under("0.05")).await;
    let under_tenant = tenant_under(&app, "0.03").await;
    let (_, shared) = app.key_of(&under_tenant, under("1")).await;
    let mut limits = Vec::new();
    for (key, budget) in [(own, 50_000_000), (shared, 30_000_000)] {
        let client = app.client_with(&key);
        let answer = client.openai(&open_ended()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let limit: u64 = answer.header("x-truerelay-output-limit").unwrap().parse().unwrap();
        assert_eq!(app.simulator.log().last().unwrap().body["max_completion_tokens"], limit);
        let closed = client.closed_request(&answer.request_id()).await;
        let held = usd(&closed["held_usd"]);
        // as long as the budget lets it be: one token more would cost 17,000 nano-USD more
        assert!(held.nanos() <= budget && held.nanos() > budget - 17_000, "{held}");
        limits.push(limit);
    }
    assert!(limits[0] > limits[1] && limits[1] > 256, "{limits:?}");
    // without a budget, the same tenant gets the default
    let answer = app.client().openai(&open_ended()).await;
    assert_eq!(answer.header("x-truerelay-output-limit"), Some("16384"));
    app.closed(&answer.request_id()).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_for_a_budget_that_is_used_up_however_rich_the_tenant() {
    let mut app = TestApp::start().await;
    let known = app.client().openai(&openai_body(false)).await;
    app.closed(&known.request_id()).await;
    app.simulator.reset();
    let tenant = app.seeded.tenant.clone();
    let (_, key) = app.key_of(&tenant, under("0.0001")).await;
    let client = app.client_with(&key);
    for _ in 0..20 {
        assert_eq!(refusal_of(&client).await["scope"], "key");
    }
    assert_eq!(
        app.simulator.counts().requests,
        0,
        "refused requests cost nobody anything"
    );
    let lost = "SELECT COUNT(*) FROM entry WHERE account = 'operator_loss:unbilled'";
    assert_eq!(app.number(lost).await, 0);
    app.finish().await;
}
