//! Nodes and their retirement.

use actix_web::http::Method;
use domain::{NodeId, clock::UnixMs};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Call, World};

/// What the ledger's own tests have real nodes for.
macro_rules! change {
    ($world:expr, $sql:expr, $($value:expr),+) => {{
        let tx = $world.parts.database.begin().await.unwrap();
        tx.execute($sql, vec![$($value.into()),+]).await.unwrap();
        tx.commit().await.unwrap();
    }};
}

/// A node that has started so often, and last wrote at this instant.
async fn node(world: &World, boots: usize, last_commit_at: i64) -> (NodeId, Uuid) {
    let (id, mut boot) = (NodeId::generate(), Uuid::nil());
    for _ in 0..boots {
        boot = Uuid::now_v7();
        let sql = "INSERT INTO node (id, boot, batch_no, last_commit_at_ms) VALUES ($1, $2, 7, $3)";
        change!(world, sql, id.as_uuid(), boot, last_commit_at);
    }
    (id, boot)
}

async fn hold(world: &World, (node, boot): (NodeId, Uuid), amount: i64, placed_at: i64) {
    let sql = "INSERT INTO hold (request_id, tenant_id, key_id, node_id, boot, amount, budgets_json, price_version, \
               provider, provider_estimate, created_at_ms) VALUES ($1, $2, $2, $3, $4, $5, '[]', 1, 'acme', 0, $6)";
    let (request, tenant) = (Uuid::now_v7(), Uuid::now_v7());
    change!(world, sql, request, tenant, node.as_uuid(), boot, amount, placed_at);
}

#[actix_web::test]
async fn nodes_are_listed_newest_first_with_what_they_hold() {
    let world = World::new().await;
    assert_eq!(world.get("/admin/v1/nodes").await.expect(200)["data"], json!([]));
    let old = node(&world, 3, 1_000).await;
    let new = node(&world, 1, 2_000).await;
    hold(&world, old, 1_500_000_000, 900).await;
    hold(&world, old, 500_000_000, 950).await;
    let page = world.get("/admin/v1/nodes").await.expect(200);
    let expected = |(id, boot): (NodeId, Uuid), boots, at: i64, holds, held| {
        json!({
            "id": id, "boots": boots, "newest_boot": boot, "last_commit_at": UnixMs(at).to_rfc3339(),
            "open_holds": holds, "held_usd": held, "retired_at": null
        })
    };
    let mut rows = page["data"].as_array().unwrap().clone();
    for row in &mut rows {
        let booted = row.as_object_mut().unwrap().remove("booted_at").unwrap();
        assert!(
            UnixMs::from_rfc3339(booted.as_str().unwrap()).unwrap() <= UnixMs::now(),
            "{booted}"
        );
    }
    assert_eq!(
        rows,
        [expected(new, 1, 2_000, 0, "0.00"), expected(old, 3, 1_000, 2, "2.00")]
    );
    let first = world.get("/admin/v1/nodes?limit=1").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(
        (cursor, &first["data"][0]),
        (new.0.to_string().as_str(), &page["data"][0])
    );
    let second = world.get(&format!("/admin/v1/nodes?cursor={cursor}")).await.expect(200);
    assert_eq!(
        (&second["data"][0], &second["next_cursor"]),
        (&page["data"][1], &Value::Null)
    );
}

#[actix_web::test]
async fn a_retired_node_says_what_happens_and_is_retired_once() {
    let world = World::new().await;
    let (gone, other) = (node(&world, 2, 1_000).await, node(&world, 1, 1_000).await);
    hold(&world, gone, 1_500_000_000, 900).await;
    hold(&world, other, 9, 900).await;
    // a hold that is placed after the retirement is no business of it
    hold(&world, gone, 7, 4_000_000_000_000).await;
    let path = format!("/admin/v1/nodes/{}/retire", gone.0);
    let answer = world
        .post(&path, json!({"reason": " the disk is lost "}))
        .await
        .expect(200);
    assert_eq!(
        (&answer["holds_to_close"], &answer["held_to_close_usd"]),
        (&json!(1), &json!("1.50"))
    );
    assert!(answer["what_happens"].as_str().unwrap().contains("given back"));
    let retired_at = UnixMs::from_rfc3339(answer["node"]["retired_at"].as_str().unwrap()).unwrap();
    assert!(retired_at.0 > 1_000);
    let entry = world.get("/admin/v1/audit?limit=1").await.expect(200)["data"][0].clone();
    assert_eq!(
        (&entry["action"], &entry["subject"], &entry["before"]["retired_at"]),
        (&json!("node.retire"), &json!(gone.0), &Value::Null)
    );
    assert_eq!(
        (&entry["after"]["reason"], &entry["after"]["holds_to_close"]),
        (&json!("the disk is lost"), &json!(1))
    );

    let again = Call::new(Method::POST, &path)
        .bearer(&world.full)
        .json(&json!({"reason": "again"}));
    assert_eq!(world.send(again).await.expect(200), answer);
    let nodes = world.get("/admin/v1/nodes").await.expect(200);
    assert_eq!(
        (&nodes["data"][0]["retired_at"], &nodes["data"][1]),
        (&Value::Null, &answer["node"])
    );
    assert_eq!(world.get("/admin/v1/audit?limit=1").await.expect(200)["data"][0], entry);

    // it was not gone after all, and then it is
    let sql = "UPDATE node SET last_commit_at_ms = $2, retired_at_ms = $2 - 1 WHERE boot = $1";
    change!(world, sql, gone.1, retired_at.0);
    let later = world.post(&path, json!({"reason": "gone indeed"})).await.expect(200);
    assert_eq!(later["holds_to_close"], 1);
}

#[actix_web::test]
async fn a_retirement_needs_a_reason_a_node_and_the_full_role() {
    let world = World::new().await;
    let (id, _) = node(&world, 1, 1_000).await;
    let path = format!("/admin/v1/nodes/{id}/retire");
    let long = "x".repeat(501);
    for body in [
        json!({}),
        json!({"reason": " "}),
        json!({"reason": "a\nb"}),
        json!({"reason": long}),
    ] {
        world
            .post(&path, body)
            .await
            .expect_error(400, "invalid_input", Some("reason"));
    }
    let body = json!({"reason": "gone"});
    let reader = Call::new(Method::POST, &path).bearer(&world.read_only).json(&body);
    world.send(reader).await.expect_error(403, "forbidden", None);
    for nobody in [NodeId::generate().to_string(), "node_x".to_owned()] {
        world
            .post(&format!("/admin/v1/nodes/{nobody}/retire"), body.clone())
            .await
            .expect_error(404, "not_found", None);
    }
    let nodes = world.get("/admin/v1/nodes").await.expect(200);
    assert_eq!(nodes["data"][0]["retired_at"], Value::Null);
}
