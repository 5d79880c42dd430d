//! Grants: posted once, whatever happens to the answer.

use actix_web::http::Method;
use domain::TenantId;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Call, World};

async fn available(world: &World, tenant: &str) -> Value {
    world
        .get(&format!("/admin/v1/tenants/{tenant}/balance"))
        .await
        .expect(200)["available_usd"]
        .clone()
}

#[actix_web::test]
async fn credit_is_given_once_and_the_answer_repeated() {
    let world = World::new().await;
    let tenant = world.new_tenant().await;
    let body = json!({"kind": "payment", "amount_usd": "5", "note": "invoice 7"});
    let first = world.grant(&tenant, "order 7", body.clone()).await;
    let grant = first.expect(201);
    assert_eq!(
        (&grant["amount_usd"], &grant["available_usd"]),
        (&json!("5.00"), &json!("5.00"))
    );
    let respelled = json!({"note": "invoice 7", "amount_usd": "5.000", "kind": "payment"});
    for repeat in [body, respelled] {
        let again = world.grant(&tenant, "order 7", repeat).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text));
    }
    assert_eq!(available(&world, &tenant).await, "5.00");
    assert_eq!(world.audit_actions(2).await, ["grant.create", "tenant.create"]);

    let transactions = world
        .get(&format!("/admin/v1/tenants/{tenant}/transactions"))
        .await
        .expect(200);
    let transaction = &transactions["data"][0];
    assert_eq!(
        (&transaction["reference"], &transaction["kind"]),
        (&grant["id"], &json!("grant"))
    );
    assert_eq!(
        transaction["entries"][0],
        json!({"account": "bank", "amount_usd": "5.00"})
    );
    assert_eq!(transaction["entries"][1]["amount_usd"], "-5.00");
    assert_eq!(transactions["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        world.get("/admin/v1/ledger/transactions").await.expect(200)["data"],
        transactions["data"]
    );
}

#[actix_web::test]
async fn a_key_belongs_to_one_grant() {
    let world = World::new().await;
    let (tenant, other) = (world.new_tenant().await, world.new_tenant().await);
    let body = json!({"kind": "promotion", "amount_usd": "5"});
    world.grant(&tenant, "k", body.clone()).await.expect(201);
    let mismatches = [
        (&other, body),
        (&tenant, json!({"kind": "promotion", "amount_usd": "6"})),
        (&tenant, json!({"kind": "goodwill", "amount_usd": "5"})),
        (&tenant, json!({"kind": "promotion", "amount_usd": "5", "note": "x"})),
    ];
    for (tenant, body) in mismatches {
        world
            .grant(tenant, "k", body)
            .await
            .expect_error(409, "idempotency_mismatch", None);
    }
    assert_eq!(
        (available(&world, &tenant).await, available(&world, &other).await),
        (json!("5.00"), json!("0.00"))
    );
}

#[actix_web::test]
async fn grants_at_once_with_one_key_are_one_grant() {
    let world = World::new().await;
    let tenant = world.new_tenant().await;
    let body = json!({"kind": "goodwill", "amount_usd": "0.01"});
    let replies = join_all((0..20).map(|_| world.grant(&tenant, "same", body.clone()))).await;
    let first = &replies[0];
    first.expect(201);
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == first.status && reply.text == first.text)
    );
    assert_eq!(available(&world, &tenant).await, "0.01");
    join_all((0..20).map(|number| {
        let (world, tenant, body) = (&world, &tenant, body.clone());
        async move { world.grant(tenant, &format!("own {number}"), body).await.expect(201) }
    }))
    .await;
    assert_eq!(available(&world, &tenant).await, "0.21");
}

#[actix_web::test]
async fn refused_grants_give_nothing_and_use_no_key() {
    let world = World::new().await;
    let tenant = world.new_tenant().await;
    for (body, field) in [
        (json!({"kind": "payment", "amount_usd": "0"}), "amount_usd"),
        (json!({"kind": "payment", "amount_usd": "-5"}), "amount_usd"),
        (json!({"kind": "payment", "amount_usd": "1e3"}), "amount_usd"),
        (json!({"kind": "payment", "amount_usd": "0.0000000001"}), "amount_usd"),
        (json!({"kind": "payment", "amount_usd": 5}), "amount_usd"),
        (json!({"kind": "gift", "amount_usd": "5"}), "kind"),
        (json!({"kind": "payment", "amount_usd": "5", "note": "a\nb"}), "note"),
        (json!({"kind": "payment", "amount_usd": "5", "debt": "1"}), "debt"),
    ] {
        world
            .grant(&tenant, "k", body)
            .await
            .expect_error(400, "invalid_input", Some(field));
    }
    world
        .grant(&tenant, "k", json!({"kind": "payment", "amount_usd": "9223372036"}))
        .await
        .expect(201);
    let too_much = json!({"kind": "payment", "amount_usd": "1"});
    world
        .grant(&tenant, "k2", too_much)
        .await
        .expect_error(400, "invalid_input", Some("amount_usd"));
    let nobody = TenantId::generate().to_string();
    let body = json!({"kind": "payment", "amount_usd": "5"});
    world
        .grant(&nobody, "k3", body.clone())
        .await
        .expect_error(404, "not_found", None);
    assert_eq!(available(&world, &tenant).await, "9223372036.00");

    let path = format!("/admin/v1/tenants/{tenant}/grants");
    world
        .post(&path, body.clone())
        .await
        .expect_error(400, "invalid_input", Some("Idempotency-Key"));
    let long = "x".repeat(256);
    for key in ["", long.as_str(), "a\tb"] {
        let mut call = Call::new(Method::POST, &path).bearer(&world.full).json(&body);
        call.idempotency_key = Some(key);
        world
            .send(call)
            .await
            .expect_error(400, "invalid_input", Some("Idempotency-Key"));
    }
}

#[actix_web::test]
async fn credit_may_expire_and_its_lot_says_when() {
    let world = World::new().await;
    let tenant = world.new_tenant().await;
    let promotion = |expires_at: Value| json!({"kind": "promotion", "amount_usd": "5", "expires_at": expires_at});
    for past in ["2020-01-01T00:00:00Z", "1960-01-01T00:00:00Z", "tomorrow"] {
        world
            .grant(&tenant, "k", promotion(json!(past)))
            .await
            .expect_error(400, "invalid_input", Some("expires_at"));
    }
    assert_eq!(available(&world, &tenant).await, "0.00");
    let first = world
        .grant(&tenant, "k", promotion(json!("2090-01-01T01:00:00+01:00")))
        .await;
    let grant = first.expect(201);
    assert_eq!(grant["expires_at"], "2090-01-01T00:00:00Z");
    let respelled = world
        .grant(&tenant, "k", promotion(json!("2090-01-01T00:00:00Z")))
        .await;
    assert_eq!(respelled.text, first.text);
    for other in [json!("2090-01-01T00:00:01Z"), Value::Null] {
        world
            .grant(&tenant, "k", promotion(other))
            .await
            .expect_error(409, "idempotency_mismatch", None);
    }
    let forever = world.grant(&tenant, "k2", promotion(Value::Null)).await.expect(201);
    assert_eq!(forever["expires_at"], Value::Null);
    let path = format!("/admin/v1/tenants/{tenant}/balance");
    let balance = world.get(&path).await.expect(200);
    let lots: Vec<_> = (0..2).map(|lot| &balance["lots"][lot]).collect();
    assert_eq!((&lots[0]["id"], &lots[1]["id"]), (&grant["lot"], &forever["lot"]));
    assert_eq!(
        (&lots[0]["expires_at"], &lots[1]["expires_at"]),
        (&json!("2090-01-01T00:00:00Z"), &Value::Null)
    );
    let trail = world.get("/admin/v1/audit?limit=2").await.expect(200);
    assert_eq!(trail["data"][1]["after"]["expires_at"], "2090-01-01T00:00:00Z");
}

#[actix_web::test]
async fn lots_say_where_credit_comes_from() {
    let world = World::new().await;
    let tenant = world.new_tenant().await;
    world
        .grant(&tenant, "a", json!({"kind": "payment", "amount_usd": "5"}))
        .await
        .expect(201);
    world
        .grant(&tenant, "b", json!({"kind": "promotion", "amount_usd": "1"}))
        .await
        .expect(201);
    let balance = world
        .get(&format!("/admin/v1/tenants/{tenant}/balance"))
        .await
        .expect(200);
    let lots: Vec<_> = balance["lots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lot| (&lot["kind"], &lot["remaining_usd"]))
        .collect();
    assert_eq!(
        lots,
        [(&json!("paid"), &json!("5.00")), (&json!("promo"), &json!("1.00"))]
    );
}
