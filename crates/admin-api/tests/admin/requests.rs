//! The request log, joined with the ledger.

use domain::{
    Amount, CredentialId, KeyId, OfferId, PoolId, RequestId, TenantId,
    clock::UnixMs,
    request::{AttemptRecord, ChargeLine, Dialect, Reason, RequestRecord},
    usage::{TokenClass, Usage, UsageSource},
};
use serde_json::{Value, json};

use crate::support::World;

fn record(tenant: TenantId, model: &str, reason: Reason) -> RequestRecord {
    RequestRecord {
        id: RequestId::generate(),
        tenant,
        key: KeyId::generate(),
        dialect: Dialect::OpenaiChat,
        requested_model: model.to_owned(),
        model: model.to_owned(),
        served_model: None,
        provider: Some("one".to_owned()),
        pool: Some(PoolId::generate()),
        offer: Some(OfferId::generate()),
        price_version: 3,
        multiplier: "1.7".to_owned(),
        stream: true,
        status: 200,
        reason,
        usage: Usage::default().with_tokens(TokenClass::Input, 12),
        usage_source: UsageSource::Provider,
        flags: vec![],
        lines: vec![ChargeLine {
            class: "input".to_owned(),
            quantity: 12,
            price_key: "input".to_owned(),
            nano_usd_exact: "30000".to_owned(),
        }],
        held: Amount::from_nanos(100_000),
        started_at: UnixMs(1_000),
        first_byte_ms: Some(20),
        duration_ms: 40,
        attempts: vec![AttemptRecord {
            offer: OfferId::generate(),
            pool: PoolId::generate(),
            credential: CredentialId::generate(),
            provider: "one".to_owned(),
            status: None,
            outcome: "connect_failed".to_owned(),
            elapsed_ms: 5,
        }],
        priced_by: None,
        request_sha256: None,
        response_sha256: None,
        budgets: Vec::new(),
    }
}

async fn write(world: &World, records: &[&RequestRecord]) {
    let tx = world.parts.database.begin().await.unwrap();
    let (_, (sql, rows)) = request_log::stored_records(records).unwrap();
    tx.execute_rows(sql, &rows).await.unwrap();
    tx.commit().await.unwrap();
}

/// Writes a terminal row as the ledger does.
async fn write_charge(world: &World, request: RequestId, tenant: TenantId, key: KeyId) {
    let tx = world.parts.database.begin().await.unwrap();
    tx.execute(
        "INSERT INTO charge (request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, \
         unbilled, price_version, tx_id, closed_at_ms) \
         VALUES ($1, $2, $3, 'settled', 'completed', 100000, 51000, 0, 30000, 0, 3, NULL, 2000)",
        vec![request.as_uuid().into(), tenant.as_uuid().into(), key.as_uuid().into()],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

fn ids(page: &Value) -> Vec<String> {
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect()
}

#[actix_web::test]
async fn a_request_shows_what_it_cost_and_why() {
    let world = World::new().await;
    let record = record(TenantId::generate(), "acme/writer", Reason::Completed);
    write(&world, &[&record]).await;
    let path = format!("/admin/v1/requests/{}", record.id);
    assert!(world.get(&path).await.expect(200)["charge"].is_null());
    write_charge(&world, record.id, record.tenant, record.key).await;
    let request = world.get(&path).await.expect(200);
    assert_eq!(request["charge"]["amount_usd"], "0.000051");
    assert_eq!(request["charge"]["closed_at"], "1970-01-01T00:00:02Z");
    assert_eq!(request["reason"], "completed");
    assert_eq!(request["record"]["started_at"], "1970-01-01T00:00:01Z");
    assert_eq!(request["record"]["usage"]["tokens"], json!({"input": 12}));
    assert_eq!(request["record"]["lines"][0]["nano_usd_exact"], "30000");
    assert_eq!(request["record"]["attempts"][0]["outcome"], "connect_failed");
    assert_eq!(
        world.get("/admin/v1/requests").await.expect(200)["data"],
        json!([request])
    );
}

#[actix_web::test]
async fn a_request_that_only_the_ledger_knows_is_found() {
    let world = World::new().await;
    let (request, tenant, key) = (RequestId::generate(), TenantId::generate(), KeyId::generate());
    let path = format!("/admin/v1/requests/{request}");
    world.get(&path).await.expect_error(404, "not_found", None);
    write_charge(&world, request, tenant, key).await;
    let shown = world.get(&path).await.expect(200);
    assert_eq!((&shown["record"], &shown["tenant"]), (&Value::Null, &json!(tenant)));
}

#[actix_web::test]
async fn requests_are_filtered_and_paged_newest_first() {
    let world = World::new().await;
    let (one, two) = (TenantId::generate(), TenantId::generate());
    let records = [
        record(one, "acme/a", Reason::Completed),
        record(one, "acme/b", Reason::ClientGone),
        record(two, "acme/a", Reason::Completed),
    ];
    write(&world, &records.iter().collect::<Vec<_>>()).await;
    let [first, second, third] = records.each_ref().map(|record| record.id.to_string());
    let list = async |query: &str| ids(&world.get(&format!("/admin/v1/requests?{query}")).await.expect(200));
    assert_eq!(list("").await, [third.as_str(), second.as_str(), first.as_str()]);
    assert_eq!(list(&format!("tenant={one}")).await, [second.as_str(), first.as_str()]);
    assert_eq!(list(&format!("key={}", records[2].key)).await, [third.as_str()]);
    assert_eq!(list("model=acme/a").await, [third.as_str(), first.as_str()]);
    assert_eq!(list("model=acme/%25").await, Vec::<String>::new());
    assert_eq!(list("reason=client_gone").await, [second.as_str()]);
    assert_eq!(list(&format!("model=acme/a&tenant={one}")).await, [first.as_str()]);
    assert_eq!(list(&format!("cursor={third}&limit=1")).await, [second.as_str()]);
}
