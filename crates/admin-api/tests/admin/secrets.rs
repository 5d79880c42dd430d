//! No secret leaves, except once at its creation.

use actix_web::http::Method;
use serde_json::json;

use crate::{
    document::operations,
    support::{Call, World, id_of},
};

#[actix_web::test]
async fn no_answer_holds_a_secret_but_the_one_that_creates_it() {
    let world = World::new().await;
    let provider = world.new_provider("one").await;
    let pool = world.new_pool(&provider, "main").await;
    let body = json!({"name": "k1", "secret": "sk-canary-provider-1", "basis": "own_contract"});
    let credential = id_of(&world.post(&format!("/admin/v1/pools/{pool}/credentials"), body).await);
    let rotation = json!({"secret": "sk-canary-provider-2"});
    world
        .post(&format!("/admin/v1/credentials/{credential}/rotate"), rotation)
        .await
        .expect(200);
    let tenant = world.new_tenant().await;
    let key = world
        .post(&format!("/admin/v1/tenants/{tenant}/keys"), json!({"name": "k"}))
        .await
        .expect(201);
    let token = world
        .post("/admin/v1/operator-tokens", json!({"name": "t", "role": "full"}))
        .await
        .expect(201);
    let ids = [
        ("{provider_id}", provider),
        ("{pool_id}", pool),
        ("{credential_id}", credential),
        ("{tenant_id}", tenant),
        ("{key_id}", key["key"]["id"].as_str().unwrap().to_owned()),
    ];
    for (path, method, _) in operations() {
        let path = ids.iter().fold(path, |path, (name, id)| path.replace(name, id));
        if method == "get" && !path.contains('{') {
            let reply = world.send(Call::new(Method::GET, &path).bearer(&world.full)).await;
            assert!(matches!(reply.status.as_u16(), 200 | 400), "{path}: {}", reply.text);
        }
    }
    let audit = world.get("/admin/v1/audit?limit=200").await.expect(200);
    assert!(audit["data"].as_array().unwrap().len() >= 8);
    assert_eq!(world.answers_with("sk-canary"), 0);
    assert_eq!(world.answers_with(key["secret"].as_str().unwrap()), 1);
    assert_eq!(world.answers_with(token["secret"].as_str().unwrap()), 1);
    assert_eq!(world.answers_with(&world.full), 0);
}

#[actix_web::test]
async fn a_refused_body_is_not_repeated() {
    let world = World::new().await;
    let pool = world.new_pool(&world.new_provider("one").await, "main").await;
    let path = format!("/admin/v1/pools/{pool}/credentials");
    for body in [
        r#"{"name":"k","secret":{"key":"sk-canary"},"basis":"own_contract"}"#,
        r#"{"name":"k","secret":"sk-canary","basis":"sk-canary"}"#,
        r#"{"name":"k","secret":"sk-canary","basis":"own_contract","sk-canary":1}"#,
        r#"{"name":{"sk-canary":1},"secret":"sk-canary"}"#,
        r#"{"name":"k","secret":"sk-canary two"}"#,
        r#"{"name":"k","secret":"sk-canary é","basis":"own_contract"}"#,
        r#"{"name":"k","secret":"sk-canary"#,
        r#""sk-canary""#,
    ] {
        let mut call = Call::new(Method::POST, &path).bearer(&world.full);
        call.body = Some(body.as_bytes().to_vec());
        world.send(call).await.expect(400);
    }
    assert_eq!(world.answers_with("canary"), 0);
}
