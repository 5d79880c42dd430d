//! Tenants, virtual keys, operator tokens.

use accounts::{CachedLookup, PlainKey};
use serde_json::{Value, json};

use crate::support::World;

#[actix_web::test]
async fn a_tenant_comes_with_its_account() {
    let world = World::new().await;
    let id = world.new_tenant().await;
    let balance = world.get(&format!("/admin/v1/tenants/{id}/balance")).await.expect(200);
    assert_eq!(
        balance,
        json!({
            "tenant": id, "available_usd": "0.00", "held_usd": "0.00", "debt_usd": "0.00",
            "claimed_usd": "0.00", "lots": []
        })
    );
    let path = format!("/admin/v1/tenants/{id}");
    assert_eq!(world.get(&path).await.expect(200)["tier"], "default");
    let changed = world
        .patch(&path, json!({"tier": "gold", "enabled": false}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["tier"], &changed["enabled"], &changed["name"]),
        (&json!("gold"), &json!(false), &json!("Acme"))
    );
    assert_eq!(world.audit_actions(2).await, ["tenant.update", "tenant.create"]);
    world
        .patch(&path, json!({"tier": "Gold!"}))
        .await
        .expect_error(400, "invalid_input", Some("tier"));
    world
        .post("/admin/v1/tenants", json!({"name": " "}))
        .await
        .expect_error(400, "invalid_input", Some("name"));
    world
        .post("/admin/v1/tenants", json!({}))
        .await
        .expect_error(400, "invalid_input", Some("name"));
    world
        .get("/admin/v1/tenants/ten_x")
        .await
        .expect_error(404, "not_found", None);
    world
        .get("/admin/v1/tenants/ten_00000000000000000000000000000000")
        .await
        .expect_error(404, "not_found", None);
    let newest = world.get("/admin/v1/tenants?limit=1").await.expect(200);
    assert_eq!(
        (&newest["data"][0]["id"], &newest["next_cursor"]),
        (&json!(id), &Value::Null)
    );
}

#[actix_web::test]
async fn a_tenants_budget_is_kept_shown_with_what_is_used_and_removed() {
    let world = World::new().await;
    let body = json!({"name": "Acme", "budget": {"limit_usd": "100", "period": "total"}});
    let created = world.post("/admin/v1/tenants", body).await.expect(201);
    let fresh = json!({
        "limit_usd": "100.00", "period": "total", "used_usd": "0.00", "held_usd": "0.00", "period_started_at": null
    });
    assert_eq!(created["budget"], fresh);
    let id: domain::TenantId = created["id"].as_str().unwrap().parse().unwrap();
    let path = format!("/admin/v1/tenants/{id}");

    let tx = world.parts.database.begin().await.unwrap();
    let sql = "INSERT INTO budget (scope, period_start_ms, limit_amount, used, held) VALUES ($1, 0, $2, $3, $4)";
    let amounts = [100_000_000_000_i64, 2_500_000_000, 40_000_000];
    let [limit, used, held] = amounts.map(Into::into);
    tx.execute(sql, vec![id.as_uuid().into(), limit, used, held])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let shown = world.get(&path).await.expect(200);
    assert_eq!(
        (&shown["budget"]["used_usd"], &shown["budget"]["held_usd"]),
        (&json!("2.50"), &json!("0.04"))
    );
    let listed = world.get("/admin/v1/tenants").await.expect(200);
    assert_eq!(listed["data"], json!([shown]));

    // another limit in the same period goes on with what is used; another period begins with nothing
    let lower = json!({"budget": {"limit_usd": "3", "period": "total"}});
    let lowered = world.patch(&path, lower).await.expect(200);
    assert_eq!(
        (&lowered["budget"]["limit_usd"], &lowered["budget"]["used_usd"]),
        (&json!("3.00"), &json!("2.50"))
    );
    let daily = json!({"budget": {"limit_usd": "3", "period": "day"}});
    let daily = world.patch(&path, daily).await.expect(200);
    assert_eq!(daily["budget"]["used_usd"], "0.00");
    assert!(
        daily["budget"]["period_started_at"]
            .as_str()
            .unwrap()
            .ends_with("T00:00:00Z")
    );
    let untouched = world.patch(&path, json!({"tier": "gold"})).await.expect(200);
    assert_eq!(untouched["budget"], daily["budget"]);
    let removed = world.patch(&path, json!({"budget": null})).await.expect(200);
    assert_eq!(removed["budget"], Value::Null);
    assert_eq!(world.get(&path).await.expect(200), removed);

    assert_eq!(world.audit_actions(4).await, ["tenant.update"; 4]);
    let trail = world.get("/admin/v1/audit?limit=1").await.expect(200);
    let (before, after) = (&trail["data"][0]["before"], &trail["data"][0]["after"]);
    assert_eq!(before["budget"], json!({"limit": "3.00", "period": "day"}));
    assert_eq!(after["budget"], Value::Null);
}

#[actix_web::test]
async fn a_tenants_budget_out_of_bounds_is_refused() {
    let world = World::new().await;
    let path = format!("/admin/v1/tenants/{}", world.new_tenant().await);
    for (budget, field) in [
        (json!({"limit_usd": "0", "period": "day"}), "budget"),
        (json!({"limit_usd": "-1", "period": "day"}), "budget"),
        (json!({"limit_usd": "1", "period": "hour"}), "budget.period"),
        (json!({"limit_usd": "1"}), "budget.period"),
        (
            json!({"limit_usd": "1", "period": "day", "used_usd": "0"}),
            "budget.used_usd",
        ),
    ] {
        world
            .patch(&path, json!({"budget": budget}))
            .await
            .expect_error(400, "invalid_input", Some(field));
        world
            .post("/admin/v1/tenants", json!({"name": "a", "budget": budget}))
            .await
            .expect_error(400, "invalid_input", Some(field));
    }
    assert_eq!(world.get(&path).await.expect(200)["budget"], Value::Null);
}

#[actix_web::test]
async fn a_key_is_shown_once_and_works() {
    let world = World::new().await;
    let tenant = world.new_tenant().await;
    let body = json!({
        "name": "ci", "expires_at": "2030-01-01T00:00:00Z", "allowed_models": ["openai/gpt-4o"],
        "requests_per_minute": 60, "budget": {"limit_usd": "12.50", "period": "month"}
    });
    let created = world
        .post(&format!("/admin/v1/tenants/{tenant}/keys"), body)
        .await
        .expect(201);
    let secret = created["secret"].as_str().unwrap();
    assert!(secret.starts_with("sk-tr-"));
    let hash = PlainKey::parse(secret).unwrap().hash(&world.parts.keyring.pepper);
    let found = world.parts.callers.resolve(&world.parts.database, hash).await.unwrap();
    assert!(matches!(found, CachedLookup::Known(_)));

    let id = created["key"]["id"].as_str().unwrap();
    let path = format!("/admin/v1/keys/{id}");
    let key = world.get(&path).await.expect(200);
    assert_eq!(key, created["key"]);
    let mut budget = key["budget"].clone();
    let started = budget["period_started_at"].take();
    assert!(started.as_str().unwrap().ends_with("-01T00:00:00Z"), "{started}");
    assert_eq!(
        budget,
        json!({
            "limit_usd": "12.50", "period": "month", "used_usd": "0.00", "held_usd": "0.00", "period_started_at": null
        })
    );
    let keys = world.get(&format!("/admin/v1/tenants/{tenant}/keys")).await.expect(200);
    assert_eq!(keys["data"], json!([key]));

    let changed = world
        .patch(&path, json!({"budget": null, "name": "cd"}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["budget"], &changed["name"], &changed["requests_per_minute"]),
        (&Value::Null, &json!("cd"), &json!(60))
    );
    assert!(
        world.parts.callers.lookup(&hash).is_none(),
        "a write empties this node's cache"
    );
    let revoked = world.post(&format!("{path}/revoke"), json!({})).await.expect(200);
    assert!(revoked["revoked_at"].is_string());
    world
        .patch(&path, json!({"name": "x"}))
        .await
        .expect_error(409, "conflict", None);
    assert_eq!(world.answers_with(secret), 1);
    assert_eq!(world.audit_actions(3).await, ["key.revoke", "key.update", "key.create"]);
}

#[actix_web::test]
async fn keys_out_of_bounds_are_refused() {
    let world = World::new().await;
    let tenant = world.new_tenant().await;
    let path = format!("/admin/v1/tenants/{tenant}/keys");
    for (body, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "a", "requests_per_minute": 0}), "requests_per_minute"),
        (json!({"name": "a", "requests_per_minute": -1}), "requests_per_minute"),
        (json!({"name": "a", "allowed_models": []}), "allowed_models"),
        (
            json!({"name": "a", "budget": {"limit_usd": "0", "period": "day"}}),
            "budget",
        ),
        (
            json!({"name": "a", "budget": {"limit_usd": 5, "period": "day"}}),
            "budget.limit_usd",
        ),
        (
            json!({"name": "a", "budget": {"limit_usd": "5", "period": "year"}}),
            "budget.period",
        ),
        (json!({"name": "a", "expires_at": "tomorrow"}), "expires_at"),
        (json!({"name": "a", "tenant": tenant}), "tenant"),
    ] {
        world
            .post(&path, body)
            .await
            .expect_error(400, "invalid_input", Some(field));
    }
    let nobody = domain::TenantId::generate();
    let path = format!("/admin/v1/tenants/{nobody}/keys");
    world
        .post(&path, json!({"name": "a"}))
        .await
        .expect_error(404, "not_found", None);
    world.get(&path).await.expect_error(404, "not_found", None);
}
