//! Withdrawals: posted once, audited, with what left and what waits; and what is refused.

use actix_web::http::Method;
use domain::{LotId, TenantId};
use serde_json::{Value, json};

use crate::support::{Call, Reply, World};

async fn withdraw(world: &World, tenant: &str, key: &str, body: &Value) -> Reply {
    let path = format!("/admin/v1/tenants/{tenant}/withdrawals");
    let mut call = Call::new(Method::POST, &path).bearer(&world.full).json(body);
    call.idempotency_key = Some(key);
    world.send(call).await
}

async fn balance(world: &World, tenant: &str) -> Value {
    let path = format!("/admin/v1/tenants/{tenant}/balance");
    world.get(&path).await.expect(200)
}

/// A tenant with one lot.
async fn lot(world: &World, kind: &str, amount_usd: &str) -> (String, String) {
    let tenant = world.new_tenant().await;
    let body = json!({"kind": kind, "amount_usd": amount_usd});
    let grant = world.grant(&tenant, &tenant, body).await.expect(201);
    (tenant, grant["lot"].as_str().unwrap().to_owned())
}

fn asked(lot: &str, purpose: &str, amount_usd: &str) -> Value {
    json!({"lot_id": lot, "amount_usd": amount_usd, "purpose": purpose, "reference": "case 7", "reason": "asked by mail"})
}

/// As a request under way has it.
async fn hold(world: &World, tenant: &str, nanos: i64) {
    let tenant: TenantId = tenant.parse().unwrap();
    let tx = world.parts.database.begin().await.unwrap();
    let sql = "UPDATE acct SET available = available - $2, held = held + $2 WHERE tenant_id = $1";
    tx.execute(sql, vec![tenant.as_uuid().into(), nanos.into()])
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[actix_web::test]
async fn credit_leaves_once_and_the_answer_is_repeated() {
    let world = World::new().await;
    let (tenant, lot) = lot(&world, "payment", "5").await;
    let first = withdraw(&world, &tenant, "k", &asked(&lot, "refund", "2")).await;
    let posted = first.expect(201);
    assert_eq!((&posted["lot_id"], &posted["purpose"]), (&json!(lot), &json!("refund")));
    for (field, amount) in [
        ("amount_usd", "2.00"),
        ("moved_usd", "2.00"),
        ("claimed_usd", "0.00"),
        ("remaining_usd", "3.00"),
        ("available_usd", "3.00"),
    ] {
        assert_eq!(posted[field], amount, "{field}");
    }
    let again = withdraw(&world, &tenant, "k", &asked(&lot, "refund", "2.0")).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    for other in [asked(&lot, "refund", "1"), asked(&lot, "suspension", "2")] {
        withdraw(&world, &tenant, "k", &other)
            .await
            .expect_error(409, "idempotency_mismatch", None);
    }
    assert_eq!(balance(&world, &tenant).await["available_usd"], "3.00");
    let path = format!("/admin/v1/tenants/{tenant}/transactions");
    let transactions = world.get(&path).await.expect(200);
    let transaction = &transactions["data"][0];
    assert_eq!(
        (&transaction["reference"], &transaction["kind"]),
        (&posted["id"], &json!("refund"))
    );
    let payable = json!({"account": format!("refunds_payable:{tenant}"), "amount_usd": "-2.00"});
    assert!(
        transaction["entries"].as_array().unwrap().contains(&payable),
        "{transaction}"
    );
    let trail = world.get("/admin/v1/audit?limit=1").await.expect(200);
    let row = &trail["data"][0];
    assert_eq!(
        (&row["action"], &row["subject"]),
        (&json!("withdrawal.create"), &posted["id"])
    );
    assert_eq!(
        (&row["after"]["reference"], &row["after"]["reason"]),
        (&json!("case 7"), &json!("asked by mail"))
    );
}

#[actix_web::test]
async fn what_requests_under_way_hold_is_claimed_and_shown() {
    let world = World::new().await;
    let (tenant, lot) = lot(&world, "promotion", "5").await;
    hold(&world, &tenant, 4_000_000_000).await;
    let suspended = withdraw(&world, &tenant, "s", &asked(&lot, "suspension", "5"))
        .await
        .expect(201);
    assert_eq!(
        (&suspended["moved_usd"], &suspended["claimed_usd"]),
        (&json!("1.00"), &json!("4.00"))
    );
    let shown = balance(&world, &tenant).await;
    assert_eq!(
        (&shown["available_usd"], &shown["claimed_usd"]),
        (&json!("0.00"), &json!("4.00"))
    );
    let seen = &shown["lots"][0];
    assert_eq!(
        (&seen["remaining_usd"], &seen["suspended_usd"]),
        (&json!("4.00"), &json!("1.00"))
    );
    let claim = &seen["claims"][0];
    assert_eq!(
        (&claim["purpose"], &claim["amount_usd"]),
        (&json!("suspension"), &json!("4.00"))
    );
    assert_eq!(claim["reference"], suspended["id"]);
    let released = withdraw(&world, &tenant, "r", &asked(&lot, "release", "4.5"))
        .await
        .expect(201);
    assert_eq!(
        (&released["moved_usd"], &released["claimed_usd"]),
        (&json!("0.50"), &json!("4.00"))
    );
    let shown = balance(&world, &tenant).await;
    assert_eq!(
        (&shown["available_usd"], &shown["claimed_usd"]),
        (&json!("0.50"), &json!("0.00"))
    );
    let seen = &shown["lots"][0];
    assert_eq!((&seen["suspended_usd"], &seen["claims"]), (&json!("0.50"), &json!([])));
    assert_eq!(world.audit_actions(2).await, ["withdrawal.create", "withdrawal.create"]);
}

#[actix_web::test]
async fn what_is_refused_moves_nothing() {
    let world = World::new().await;
    let (tenant, paid) = lot(&world, "payment", "5").await;
    let (other, promo) = lot(&world, "goodwill", "5").await;
    let with = |field: &str, value: Value| {
        let mut body = asked(&paid, "refund", "1");
        body[field] = value;
        body
    };
    let newest = world.audit_actions(1).await;
    for (body, field) in [
        (with("amount_usd", json!("0")), "amount_usd"),
        (with("amount_usd", json!("-1")), "amount_usd"),
        (with("purpose", json!("expiry")), "purpose"),
        (with("reference", json!(" ")), "reference"),
        (with("reference", json!("x".repeat(201))), "reference"),
        (with("reason", json!("a\nb")), "reason"),
        (with("paid_out", json!(true)), "paid_out"),
        (with("lot_id", json!(LotId::generate())), "lot_id"),
        (with("lot_id", json!(promo)), "lot_id"),
    ] {
        withdraw(&world, &tenant, "k", &body)
            .await
            .expect_error(400, "invalid_input", Some(field));
    }
    for (tenant, body) in [
        (&other, asked(&promo, "refund", "1")),
        (&tenant, asked(&paid, "refund", "5.01")),
        (&tenant, asked(&paid, "release", "0.01")),
    ] {
        withdraw(&world, tenant, "k", &body)
            .await
            .expect_error(422, "rule_broken", None);
    }
    let nobody = TenantId::generate().to_string();
    withdraw(&world, &nobody, "k", &asked(&paid, "refund", "1"))
        .await
        .expect_error(404, "not_found", None);
    let path = format!("/admin/v1/tenants/{tenant}/withdrawals");
    let body = asked(&paid, "refund", "1");
    let reader = Call::new(Method::POST, &path).bearer(&world.read_only).json(&body);
    world.send(reader).await.expect_error(403, "forbidden", None);
    assert_eq!(world.audit_actions(1).await, newest);
    for tenant in [&tenant, &other] {
        assert_eq!(balance(&world, tenant).await["available_usd"], "5.00");
    }
    // a second claim of one purpose would hide the first
    hold(&world, &tenant, 5_000_000_000).await;
    withdraw(&world, &tenant, "1", &asked(&paid, "refund", "1"))
        .await
        .expect(201);
    withdraw(&world, &tenant, "2", &asked(&paid, "refund", "1"))
        .await
        .expect_error(409, "conflict", None);
}
