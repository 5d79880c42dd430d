//! Who gets in: the whole matrix, generated from the OpenAPI document.

use accounts::{KeySettings, PlainKey, PlainToken, operator_keys};
use actix_web::http::Method;
use domain::{
    CredentialId, IncidentId, KeyId, NodeId, OfferId, OperatorTokenId, PoolId, ProviderId, RequestId, TenantId,
};
use serde_json::json;
use store::audit::Actor;

use crate::{
    document::operations,
    support::{Call, World},
};

/// The path with a well-formed value, of nothing that exists, in every place.
pub fn filled(path: &str) -> String {
    let values = [
        ("{provider_id}", ProviderId::generate().to_string()),
        ("{pool_id}", PoolId::generate().to_string()),
        ("{credential_id}", CredentialId::generate().to_string()),
        ("{offer_id}", OfferId::generate().to_string()),
        ("{tenant_id}", TenantId::generate().to_string()),
        ("{node_id}", NodeId::generate().to_string()),
        ("{key_id}", KeyId::generate().to_string()),
        ("{request_id}", RequestId::generate().to_string()),
        ("{incident_id}", IncidentId::generate().to_string()),
        ("{operator_token_id}", OperatorTokenId::generate().to_string()),
        ("{model_id}", "nobody%2Fnothing".to_owned()),
        ("{alias}", "nothing".to_owned()),
        ("{version}", "999".to_owned()),
    ];
    let filled = values
        .iter()
        .fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    assert!(!filled.contains('{'), "{path} has a parameter that is not known here");
    filled
}

fn call<'a>(method: &str, path: &'a str) -> Call<'a> {
    let mut call = Call::new(method.to_uppercase().parse().unwrap(), path).json(&json!({}));
    call.idempotency_key = Some("key");
    call
}

async fn virtual_key(world: &World) -> String {
    let tenant = world.new_tenant().await;
    let tx = world.parts.database.begin().await.unwrap();
    let settings = KeySettings {
        name: "k".to_owned(),
        ..KeySettings::default()
    };
    let pepper = &world.parts.keyring.pepper;
    let tenant = tenant.parse().unwrap();
    let (_, plain) = operator_keys::create(&tx, &Actor::system("test"), pepper, tenant, settings)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    plain.expose().to_owned()
}

async fn revoked_token(world: &World) -> String {
    let created = world
        .post("/admin/v1/operator-tokens", json!({"name": "old", "role": "full"}))
        .await
        .expect(201);
    let id = created["token"]["id"].as_str().unwrap();
    world
        .post(&format!("/admin/v1/operator-tokens/{id}/revoke"), json!({}))
        .await
        .expect(200);
    created["secret"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn nobody_but_operators_gets_in_and_all_are_told_the_same() {
    let world = World::new().await;
    let strangers = [
        vec![],
        vec![format!("Bearer {}", virtual_key(&world).await)],
        vec![format!("Bearer {}", PlainKey::generate().expose())],
        vec![format!("Bearer {}", PlainToken::generate().expose())],
        vec![format!("Bearer {}", revoked_token(&world).await)],
        vec!["Bearer op-tr-".to_owned()],
        vec!["Bearer ' OR '1'='1".to_owned()],
        vec![format!("Basic {}", world.full)],
        vec![world.full.clone()],
        vec![format!("Bearer {}", world.full), format!("Bearer {}", world.full)],
    ];
    let expected = world.send(Call::new(Method::GET, "/admin/v1/tenants")).await;
    expected.expect_error(401, "unauthenticated", None);
    for (path, method, _) in operations() {
        let path = filled(&path);
        for stranger in &strangers {
            let mut call = call(&method, &path);
            call.authorization = stranger.clone();
            let reply = world.send(call).await;
            assert_eq!(
                (reply.status, &reply.text),
                (expected.status, &expected.text),
                "{method} {path}"
            );
            assert_eq!(reply.headers.get("www-authenticate").unwrap(), "Bearer");
        }
    }
}

#[actix_web::test]
async fn read_only_operators_read_and_nothing_else() {
    let world = World::new().await;
    let mut refused = 0;
    for (path, method, operation) in operations() {
        let path = filled(&path);
        let reply = world.send(call(&method, &path).bearer(&world.read_only)).await;
        if operation["security"][0]["operator_token"][0] == "full" {
            reply.expect_error(403, "forbidden", None);
            refused += 1;
        } else {
            assert_eq!(method, "get");
            assert!(
                matches!(reply.status.as_u16(), 200 | 400 | 404),
                "{path}: {}",
                reply.text
            );
        }
    }
    assert!(refused > 20);
    assert_eq!(
        world.audit_actions(3).await,
        ["operator_token.create", "operator_token.create"]
    );
}

#[actix_web::test]
async fn what_is_not_there_is_not_there_for_operators_only() {
    let world = World::new().await;
    for path in [
        "/admin/v1",
        "/admin/v1/",
        "/admin/v1/nothing",
        "/admin/v1/config/update",
    ] {
        world
            .send(Call::new(Method::GET, path))
            .await
            .expect_error(401, "unauthenticated", None);
        world.get(path).await.expect_error(404, "not_found", None);
    }
    let put = Call::new(Method::PUT, "/admin/v1/tenants").bearer(&world.full);
    world.send(put).await.expect_error(404, "not_found", None);
}

#[actix_web::test]
async fn revoking_works_at_once_on_this_node() {
    let world = World::new().await;
    let created = world
        .post("/admin/v1/operator-tokens", json!({"name": "ci", "role": "read_only"}))
        .await
        .expect(201);
    let (secret, id) = (
        created["secret"].as_str().unwrap(),
        created["token"]["id"].as_str().unwrap(),
    );
    let look = || world.send(Call::new(Method::GET, "/admin/v1/tenants").bearer(secret));
    look().await.expect(200);
    world
        .post(&format!("/admin/v1/operator-tokens/{id}/revoke"), json!({}))
        .await
        .expect(200);
    look().await.expect_error(401, "unauthenticated", None);
    world
        .get("/admin/v1/operator-tokens")
        .await
        .expect_error(403, "forbidden", None);
    let list = world
        .send(Call::new(Method::GET, "/admin/v1/operator-tokens").bearer(&world.full))
        .await
        .expect(200);
    assert_eq!(list["data"][0]["id"], id);
    assert!(list["data"][0]["revoked_at"].as_str().unwrap().ends_with('Z'));
}

#[actix_web::test]
async fn no_answer_is_cached() {
    let world = World::new().await;
    for reply in [
        world.get("/admin/v1/tenants").await,
        world.send(Call::new(Method::GET, "/admin/v1/tenants")).await,
    ] {
        assert_eq!(reply.headers.get("cache-control").unwrap(), "no-store");
        assert_eq!(reply.headers.get("x-content-type-options").unwrap(), "nosniff");
    }
}
