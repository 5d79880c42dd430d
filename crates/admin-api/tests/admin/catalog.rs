//! Providers, pools, credentials, models, offers.

use catalog::Fault;
use domain::clock::UnixMs;
use serde_json::json;

use crate::support::{World, id_of};

#[actix_web::test]
async fn providers_are_added_listed_and_changed() {
    let world = World::new().await;
    let id = world.new_provider("one").await;
    let path = format!("/admin/v1/providers/{id}");
    let provider = world.get(&path).await.expect(200);
    assert_eq!(provider["formats"], json!(["openai_chat"]));
    assert_eq!(provider["base_url"], "https://one.example/v1");
    assert!(UnixMs::from_rfc3339(provider["created_at"].as_str().unwrap()).is_some());
    let changed = world
        .patch(&path, json!({"name": "First", "enabled": false}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["name"], &changed["enabled"]),
        (&json!("First"), &json!(false))
    );
    assert_eq!(world.audit_actions(2).await, ["provider.update", "provider.create"]);

    let again = json!({"slug": "one", "name": "x", "formats": ["openai_chat"], "base_url": "https://x.example"});
    world
        .post("/admin/v1/providers", again)
        .await
        .expect_error(409, "conflict", None);
    for (base_url, private) in [
        ("http://127.0.0.1:1", false),
        ("https://u:p@x.example", true),
        ("nonsense", true),
    ] {
        let body = json!({
            "slug": "two", "name": "x", "formats": ["openai_chat"], "base_url": base_url,
            "allow_private_address": private
        });
        world
            .post("/admin/v1/providers", body)
            .await
            .expect_error(400, "invalid_input", Some("base_url"));
    }
    let body = json!({"slug": "two", "name": "x", "formats": ["gemini"], "base_url": "https://x.example"});
    let message = world
        .post("/admin/v1/providers", body)
        .await
        .expect_error(400, "invalid_input", Some("formats[0]"));
    assert!(
        message.contains("openai_chat") && !message.contains("gemini"),
        "{message}"
    );
}

#[actix_web::test]
async fn lists_come_in_pages() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for slug in ["a", "b", "c"] {
        ids.push(world.new_provider(slug).await);
    }
    let mut seen = Vec::new();
    let mut path = "/admin/v1/providers?limit=2".to_owned();
    loop {
        let page = world.get(&path).await.expect(200);
        seen.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/admin/v1/providers?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
}

#[actix_web::test]
async fn pools_carry_the_multiplier_that_was_published() {
    let world = World::new().await;
    let provider = world.new_provider("one").await;
    let id = world.new_pool(&provider, "main").await;
    let pool = world.get(&format!("/admin/v1/pools/{id}")).await.expect(200);
    assert_eq!(
        (&pool["multiplier"], &pool["provider"]),
        (&json!("1.7"), &json!(provider))
    );
    let renamed = world
        .patch(&format!("/admin/v1/pools/{id}"), json!({"name": "second"}))
        .await
        .expect(200);
    assert_eq!(renamed["name"], "second");
    world
        .post("/admin/v1/pools", json!({"provider": provider, "name": "second"}))
        .await
        .expect_error(409, "conflict", None);
    let nobody = domain::ProviderId::generate();
    let body = json!({"provider": nobody, "name": "x"});
    world
        .post("/admin/v1/pools", body)
        .await
        .expect_error(404, "not_found", None);
    for multiplier in [json!("1001"), json!("-1"), json!(1.5)] {
        let body = json!({"provider": provider, "name": "x", "multiplier": multiplier});
        world
            .post("/admin/v1/pools", body)
            .await
            .expect_error(400, "invalid_input", Some("multiplier"));
    }
}

#[actix_web::test]
async fn credentials_show_their_health_and_never_their_secret() {
    let world = World::new().await;
    let pool = world.new_pool(&world.new_provider("one").await, "main").await;
    let list = format!("/admin/v1/pools/{pool}/credentials");
    let body = json!({"name": "k1", "secret": "sk-canary-0123456789", "basis": "own_contract"});
    let id = id_of(&world.post(&list, body).await);
    let path = format!("/admin/v1/credentials/{id}");
    let credential = world.get(&path).await.expect(200);
    assert_eq!(credential["last4"], "6789");
    assert_eq!(credential["origin"], "https://one.example");
    assert!(credential["outage"].is_null());

    let health = world.parts.catalog.health();
    health.report(id.parse().unwrap(), Fault::Unauthorized, UnixMs::now());
    let page = world.get(&list).await.expect(200);
    assert_eq!(page["data"][0]["outage"]["unauthorized"], 1);
    assert!(page["data"][0]["outage"]["until_at"].as_str().unwrap().ends_with('Z'));

    let rotated = world
        .post(&format!("{path}/rotate"), json!({"secret": "sk-canary-abcdefghijkl"}))
        .await
        .expect(200);
    assert_eq!(rotated["last4"], "ijkl");
    assert!(rotated["outage"].is_null(), "another secret starts afresh");
    world.patch(&path, json!({"enabled": false})).await.expect(200);
    world.delete(&path).await.expect(204);
    world.get(&path).await.expect_error(404, "not_found", None);
    assert_eq!(world.answers_with("canary"), 0);
    let actions = [
        "credential.remove",
        "credential.update",
        "credential.rotate",
        "credential.create",
    ];
    assert_eq!(world.audit_actions(4).await, actions);

    let bad = json!({"name": "k", "secret": "canary with spaces", "basis": "own_contract"});
    world
        .post(&list, bad)
        .await
        .expect_error(400, "invalid_input", Some("secret"));
    world
        .get("/admin/v1/pools/pool_00000000000000000000000000000000/credentials")
        .await
        .expect(404);
}

#[actix_web::test]
async fn a_provider_with_credentials_does_not_move() {
    let world = World::new().await;
    let provider = world.new_provider("one").await;
    let pool = world.new_pool(&provider, "main").await;
    let body = json!({"name": "k1", "secret": "sk-0123456789", "basis": "simulated"});
    world
        .post(&format!("/admin/v1/pools/{pool}/credentials"), body)
        .await
        .expect(201);
    let path = format!("/admin/v1/providers/{provider}");
    world
        .patch(&path, json!({"base_url": "https://evil.example"}))
        .await
        .expect_error(409, "conflict", None);
    world
        .patch(&path, json!({"base_url": "https://one.example/v2"}))
        .await
        .expect(200);
}

#[actix_web::test]
async fn models_have_slashes_and_aliases() {
    let world = World::new().await;
    let body = json!({
        "id": "acme/writer-1", "name": "Writer", "kind": "chat", "aliases": ["Writer"], "context_window": 1000,
        "details": {"capabilities": ["tools"]}
    });
    world.post("/admin/v1/models", body.clone()).await.expect(201);
    world
        .post("/admin/v1/models", body)
        .await
        .expect_error(409, "conflict", None);
    let path = "/admin/v1/models/acme%2Fwriter-1";
    let model = world.get(path).await.expect(200);
    assert_eq!(
        (&model["vendor"], &model["aliases"]),
        (&json!("acme"), &json!(["Writer"]))
    );
    let changed = world
        .patch(path, json!({"enabled": false, "max_output_tokens": 10}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["enabled"], &changed["max_output_tokens"]),
        (&json!(false), &json!(10))
    );
    let named = world
        .post(&format!("{path}/aliases"), json!({"alias": "org/w1"}))
        .await
        .expect(201);
    assert_eq!(named["aliases"], json!(["org/w1", "Writer"]));
    world
        .post(&format!("{path}/aliases"), json!({"alias": "WRITER"}))
        .await
        .expect_error(409, "conflict", None);
    let left = world.delete(&format!("{path}/aliases/org%2Fw1")).await.expect(200);
    assert_eq!(left["aliases"], json!(["Writer"]));
    world
        .delete(&format!("{path}/aliases/org%2Fw1"))
        .await
        .expect_error(404, "not_found", None);
    world
        .get("/admin/v1/models/acme%2Fnothing")
        .await
        .expect_error(404, "not_found", None);
    let bad = json!({"id": "No Slash", "name": "x", "kind": "chat"});
    world
        .post("/admin/v1/models", bad)
        .await
        .expect_error(400, "invalid_input", Some("id"));
}

#[actix_web::test]
async fn an_offer_is_for_sale_on_this_node_at_once() {
    let world = World::new().await;
    let pool = world.new_pool(&world.new_provider("one").await, "main").await;
    let body = json!({"name": "k1", "secret": "sk-0123456789", "basis": "simulated"});
    world
        .post(&format!("/admin/v1/pools/{pool}/credentials"), body)
        .await
        .expect(201);
    let model = world.new_model("acme/writer").await;
    let id = world.new_offer(&model, &pool).await;
    let path = format!("/admin/v1/offers/{id}");
    let offer = world.get(&path).await.expect(200);
    assert_eq!(offer["price"]["price"]["output"], "10");
    assert!(
        world
            .parts
            .catalog
            .snapshot()
            .model("acme/writer")
            .is_some_and(|model| !model.offers.is_empty())
    );

    let changed = world
        .patch(&path, json!({"weight": 5, "priority": 2}))
        .await
        .expect(200);
    assert_eq!((&changed["weight"], &changed["priority"]), (&json!(5), &json!(2)));
    assert_eq!(
        world
            .get(&format!("/admin/v1/offers?pool={pool}&model={model}"))
            .await
            .expect(200)["data"][0]["id"],
        id
    );
    assert_eq!(
        world.get("/admin/v1/offers?model=acme/other").await.expect(200)["data"],
        json!([])
    );

    let unpriced = json!({
        "model": model, "pool": pool, "upstream_model_id": "u2", "format": "openai_chat",
        "usage_profile": "openai_chat", "price": {"price": {"input": "2.5"}}
    });
    world
        .post("/admin/v1/offers", unpriced)
        .await
        .expect_error(422, "rule_broken", None);
    let negative = json!({"model": model, "pool": pool, "price": {"price": {"input": "-2.5", "output": "1"}}});
    assert_eq!(world.post("/admin/v1/offers", negative).await.status.as_u16(), 400);
}
