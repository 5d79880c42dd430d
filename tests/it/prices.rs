//! List price times multiplier, by version.

use std::time::{Duration, Instant};

use domain::Amount;
use serde_json::{Value, json};
use support::{TestApp, openai_body};

fn multiplier_of(models: &Value, id: &str) -> String {
    let model = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["id"] == id)
        .expect("the model");
    model["truerelay"]["offers"][0]["multiplier"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn models_show_prices_per_class_and_multiplier() {
    let app = TestApp::start().await;
    let model = app.client().get("/v1/models/openai/gpt-4o").await.json().await;
    assert_eq!(model["object"], "model");
    let offer = &model["truerelay"]["offers"][0];
    assert_eq!(offer["list_price"]["price"]["input"], "2.5");
    assert_eq!(offer["list_price"]["price"]["cached_input_read"], "1.25");
    assert_eq!(offer["multiplier"], "1.7");
    let by_alias = app.client().get("/v1/models/gpt-4o").await.json().await;
    assert_eq!(by_alias, model);
    assert_eq!(app.client().get("/v1/models/nobody/nothing").await.status(), 404);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_multiplier_counts_from_its_instant_and_is_on_the_request() {
    let app = TestApp::start().await;
    let before = app.client().openai(&openai_body(false)).await;
    let old = app.closed(&before.request_id()).await;
    let published = app
        .admin
        .create(
            "/price-versions",
            json!({ "note": "cheaper", "changes": [
                { "kind": "pool_multiplier", "pool": app.seeded.openai_pool, "multiplier": "0.6" }
            ] }),
        )
        .await;
    let version = published["version"].as_i64().expect("a version");
    let still = app.client().get("/v1/models").await.json().await;
    assert_eq!(
        multiplier_of(&still, "openai/gpt-4o"),
        "1.7",
        "it is published before it counts"
    );
    let deadline = Instant::now() + Duration::from_secs(40);
    let new = loop {
        let answer = app.client().openai(&openai_body(false)).await;
        let closed = app.closed(&answer.request_id()).await;
        if closed["multiplier"] == "0.6" {
            break closed;
        }
        assert_eq!(closed["multiplier"], "1.7");
        assert!(Instant::now() < deadline, "the new multiplier never counts");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(new["price_version"].as_i64(), Some(version));
    assert_eq!(old["usage"], new["usage"], "the same request");
    let cost = |closed: &Value| closed["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap().nanos();
    let list: i64 = new["usage"]["tokens"]["input"].as_i64().unwrap() * 2_500
        + new["usage"]["tokens"]["output"].as_i64().unwrap() * 10_000;
    assert_eq!(cost(&old), (list * 17 + 9) / 10);
    assert_eq!(cost(&new), (list * 6 + 9) / 10);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_and_a_tier_are_multiplied_in() {
    let mut app = TestApp::start_with(support::TestAppOptions {
        config: "[pricing]\nnotice_days = 0\n".to_owned(),
        ..support::TestAppOptions::default()
    })
    .await;
    let (tenant, key) = app.tenant_with("5", support::KeyOptions::default()).await;
    app.admin
        .change(&format!("/tenants/{tenant}"), json!({ "tier": "gold" }))
        .await;
    app.admin
        .create(
            "/price-versions",
            json!({ "note": "gold", "changes": [
                { "kind": "model_multiplier", "pool": app.seeded.openai_pool, "model": "openai/gpt-4o", "multiplier": "2" },
                { "kind": "tier_multiplier", "tier": "gold", "multiplier": "0.9" },
            ] }),
        )
        .await;
    let client = app.client_with(&key);
    let deadline = Instant::now() + Duration::from_secs(40);
    // within a second of the change the cheaper of both prices is charged, so the lists are ahead of the charges
    loop {
        let answer = client.openai(&openai_body(false)).await;
        let closed = client.closed_request(&answer.request_id()).await;
        if closed["multiplier"] == "1.8" {
            break;
        }
        assert_eq!(closed["multiplier"], "1.7");
        assert!(Instant::now() < deadline, "{closed}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let models = client.get("/v1/models").await.json().await;
    assert_eq!(multiplier_of(&models, "openai/gpt-4o"), "1.8");
    app.finish().await;
}
