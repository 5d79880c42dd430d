//! The price book.

use domain::clock::UnixMs;
use serde_json::json;

use crate::support::World;

#[actix_web::test]
async fn versions_are_published_looked_up_and_kept() {
    let world = World::new().await;
    let pool = world.new_pool(&world.new_provider("one").await, "main").await;
    let model = world.new_model("acme/writer").await;
    let offer = world.new_offer(&model, &pool).await;
    let body = json!({"note": "spring", "changes": [
        {"kind": "pool_multiplier", "pool": pool, "multiplier": "0.6"},
        {"kind": "model_multiplier", "pool": pool, "model": model, "multiplier": "2.2"},
        {"kind": "tier_multiplier", "tier": "gold", "multiplier": "0.9"},
        {"kind": "promotion_multiplier", "pool": pool, "multiplier": "0.5"},
        {"kind": "offer_price", "offer": offer, "price": {"price": {"input": "3", "output": "12"}}}
    ]});
    let version = world.post("/admin/v1/price-versions", body).await.expect(201);
    assert_eq!(version["items"].as_array().unwrap().len(), 5);
    let number = version["version"].as_i64().unwrap();
    let shown = world
        .get(&format!("/admin/v1/price-versions/{number}"))
        .await
        .expect(200);
    assert_eq!(
        (&shown["note"], &shown["effective_at"]),
        (&json!("spring"), &version["effective_at"])
    );
    let list = world.get("/admin/v1/price-versions?limit=1").await.expect(200);
    assert_eq!(
        (&list["data"][0]["version"], list["next_cursor"].is_string()),
        (&version["version"], true)
    );

    let history = format!("/admin/v1/price-history?kind=pool_multiplier&subject={pool}");
    let history = world.get(&history).await.expect(200);
    let values: Vec<_> = history["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["items"][0]["value"])
        .collect();
    assert_eq!(values, [&json!("0.6"), &json!("1.7")]);

    let then = version["effective_at"].as_str().unwrap();
    let book = world.get(&format!("/admin/v1/price-book?at={then}")).await.expect(200);
    assert_eq!(
        (&book["version"], book["items"].as_array().unwrap().len()),
        (&version["version"], 5)
    );
    let now = world.get("/admin/v1/price-book").await.expect(200);
    assert!(now["items"].as_array().unwrap().contains(&json!({
        "kind": "pool_multiplier", "subject": pool, "value": "1.7"
    })));
    assert_eq!(
        world
            .get("/admin/v1/price-book?at=2000-01-01T00:00:00Z")
            .await
            .expect(200)["version"],
        0
    );
}

#[actix_web::test]
async fn changes_that_break_a_rule_are_refused() {
    let world = World::new().await;
    let pool = world.new_pool(&world.new_provider("one").await, "main").await;
    let publish = |body| world.post("/admin/v1/price-versions", body);
    let change = json!({"kind": "pool_multiplier", "pool": pool, "multiplier": "2"});
    let past = json!({"effective_at": "2000-01-01T00:00:00Z", "changes": [change]});
    publish(past)
        .await
        .expect_error(422, "rule_broken", Some("effective_at"));
    publish(json!({"changes": []}))
        .await
        .expect_error(400, "invalid_input", Some("changes"));
    publish(json!({"changes": [change, change]}))
        .await
        .expect_error(400, "invalid_input", Some("changes"));
    let nobody = domain::PoolId::generate();
    let unknown = json!({"changes": [{"kind": "pool_multiplier", "pool": nobody, "multiplier": "2"}]});
    publish(unknown).await.expect_error(404, "not_found", None);
    for bad in [
        json!({"kind": "pool_multiplier", "pool": pool, "multiplier": "1001"}),
        json!({"kind": "pool_multiplier", "pool": pool, "multiplier": 2}),
        json!({"kind": "pool_multiplier", "pool": pool, "multiplier": "2", "extra": 1}),
        json!({"kind": "model_multiplier", "pool": pool, "model": "acme/writer"}),
        json!({"kind": "unknown", "pool": pool}),
        json!({"pool": pool, "multiplier": "2"}),
    ] {
        let reply = publish(json!({"changes": [bad]})).await;
        assert_eq!(reply.status.as_u16(), 400, "{bad}: {}", reply.text);
    }
    let ahead = UnixMs::now().plus_ms(3_600_000).to_rfc3339();
    let version = publish(json!({"effective_at": ahead, "changes": [change]}))
        .await
        .expect(201);
    let effective_at = UnixMs::from_rfc3339(version["effective_at"].as_str().unwrap());
    assert_eq!(effective_at, UnixMs::from_rfc3339(&ahead));
    // what was announced for later keeps nothing waiting
    publish(json!({"effective_at": UnixMs::now().plus_ms(60_000).to_rfc3339(), "changes": [change]}))
        .await
        .expect(201);
}

#[actix_web::test]
async fn rises_need_notice_and_the_refusal_names_them() {
    let world = World::with_notice(7).await;
    let pool = world.new_pool(&world.new_provider("one").await, "main").await;
    let model = world.new_model("acme/writer").await;
    world.new_offer(&model, &pool).await;
    let publish = |multiplier: &str| {
        let change = json!({"kind": "pool_multiplier", "pool": pool, "multiplier": multiplier});
        world.post("/admin/v1/price-versions", json!({"changes": [change]}))
    };
    let message = publish("1.8")
        .await
        .expect_error(422, "rule_broken", Some("effective_at"));
    assert!(
        message.contains("acme/writer in pool main: every price (multiplier) from 1.7 to 1.8"),
        "{message}"
    );
    let falls = publish("1.6").await.expect(201);
    let path = format!("/admin/v1/price-versions/{}/cancel", falls["version"]);
    world
        .post(&path, json!({"reason": "late"}))
        .await
        .expect_error(409, "conflict", None);
    world
        .post(&path, json!({"reason": " "}))
        .await
        .expect_error(400, "invalid_input", Some("reason"));
}
