//! The auditor finds what was tampered with, and names it.

mod corrections;

use store::Backend;

use super::world::*;
use crate::{
    BudgetClaim, BudgetKey, HoldRequest,
    audit::run_scheduled,
    claims::Purpose,
    movements::GrantKind::{Payment, Promotion},
};

on_every_database! {
    every_tampering_is_found_and_named,
    a_guard_that_is_gone_is_named,
    pages_are_read_to_the_end,
}

mod locks {
    use super::*;
    on_postgres! { by_the_clock_one_node_audits_at_a_time }
}

mod references {
    use super::*;
    on_postgres! { an_entry_without_its_transaction_is_named }
}

/// SQLite refuses to write one.
async fn an_entry_without_its_transaction_is_named(world: &World) {
    let lost = uuid::Uuid::now_v7();
    let sql = "INSERT INTO entry (tx_id, line, account, amount) VALUES ($1, 1, 'bank', 5)";
    world.change(sql, vec![lost.into()]).await.unwrap();
    let report = world.audit().await;
    let found: Vec<_> = report.offences().collect();
    assert_eq!((found.len(), found[0].invariant), (1, "I1"), "{found:?}");
    assert!(found[0].offender.as_ref().unwrap().contains(&lost.to_string()));
    guard_history(world, false).await;
    run(world, "DELETE FROM entry").await;
    guard_history(world, true).await;
}

/// What is done, what takes it back, the invariant that it breaks, and a word that the report must contain.
struct Tampering {
    done: String,
    undone: String,
    invariant: &'static str,
    names: String,
}

fn tampering(done: &str, undone: &str, invariant: &'static str, names: impl ToString) -> Tampering {
    Tampering {
        done: done.to_owned(),
        undone: undone.to_owned(),
        invariant,
        names: names.to_string(),
    }
}

async fn every_tampering_is_found_and_named(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(10_000).await);
    let paid = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let paid_id = paid.request();
    paid.settle(&charge_of(400), "acme".to_owned(), completed());
    let key = BudgetKey {
        scope: uuid::Uuid::now_v7(),
        period_start: domain::clock::UnixMs(1),
    };
    let limit = domain::Amount::from_nanos(5_000);
    let budgets = smallvec::smallvec![BudgetClaim { key, limit }];
    let open = ledger
        .hold(HoldRequest {
            budgets,
            ..hold_request(tenant, 700)
        })
        .await
        .unwrap();
    let open_id = open.request();
    while world.number("SELECT COUNT(*) FROM charge").await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    world.assert_clean().await;
    for case in cases(world.database.backend(), paid_id, open_id, tenant) {
        try_case(world, &case).await;
    }
    let request = literal(world.database.backend(), &paid_id.as_uuid());
    for case in record_cases(&request, paid_id) {
        try_case(world, &case).await;
    }
    // an end that was put aside: of a request that is closed all the same nobody waits for it
    run(world, &put_aside(&request)).await;
    world.assert_clean().await;
    let open_request = literal(world.database.backend(), &open_id.as_uuid());
    let gone = "DELETE FROM quarantine";
    try_case(world, &tampering(&put_aside(&open_request), gone, "I5", open_id)).await;
    // a name that looks like a number below zero is none
    let harmless = record(&request, "completed", r#"{"model":"a\":-1"}"#);
    run(world, &harmless).await;
    world.assert_clean().await;
    run(world, "DELETE FROM request").await;
    drop(open);
    ledger.drain().await;
    corrections::try_all(world, paid_id).await;
    credit_cases(world).await;
}

async fn by_the_clock_one_node_audits_at_a_time(world: &World) {
    let other = world.database.begin().await.unwrap();
    let lock: i64 = 0x0074_7275_6564;
    other
        .query("SELECT pg_advisory_xact_lock($1)", vec![lock.into()])
        .await
        .unwrap();
    assert!(!run_scheduled(&world.database, MAX_REQUEST_TIME).await.unwrap());
    // whoever runs the command by hand is not kept waiting
    world.assert_clean().await;
    other.rollback().await.unwrap();
    assert!(run_scheduled(&world.database, MAX_REQUEST_TIME).await.unwrap());
}

async fn try_case(world: &World, case: &Tampering) {
    guard_history(world, false).await;
    run(world, &case.done).await;
    let report = world.audit().await;
    let mut offenders = report.offences().filter(|check| check.invariant == case.invariant);
    let named = offenders.any(|check| check.offender.as_ref().unwrap().contains(&case.names));
    assert!(
        named,
        "{} broke no {} of {}: {report:#?}",
        case.done, case.invariant, case.names
    );
    run(world, &case.undone).await;
    guard_history(world, true).await;
    world.assert_clean().await;
}

fn record(id: &str, reason: &str, record: &str) -> String {
    format!(
        "INSERT INTO request (id, tenant_id, key_id, model, status, reason, started_at_ms, duration_ms, record_json) \
         VALUES ({id}, {id}, {id}, 'm', 200, '{reason}', 1, 1, '{record}')"
    )
}

fn put_aside(request: &str) -> String {
    format!(
        "INSERT INTO quarantine (request_id, tenant_id, node_id, boot, kind, item_json, error, at_ms) \
         VALUES ({request}, {request}, {request}, {request}, 'end', '', 'it was too long', 1)"
    )
}

/// What the request log says about a charged request.
fn record_cases(request: &str, paid: domain::RequestId) -> Vec<Tampering> {
    let gone = "DELETE FROM request";
    let negative = r#"{"usage":{"tokens":[1,-2]},"held":-1}"#;
    vec![
        tampering(&record(request, "hold_expired", "{}"), gone, "I5", paid),
        tampering(&record(request, "completed", negative), gone, "I8", paid),
        tampering(
            &record(request, "completed", r#"{"held":-1"#),
            gone,
            "I8",
            "cannot be read",
        ),
    ]
}

/// Claims, suspensions, refunds and expiry.
async fn credit_cases(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let paid = world.grant(tenant, Payment, 1_000, "a").await.unwrap().lot.unwrap();
    let promo = world.grant(tenant, Promotion, 100, "b").await.unwrap().lot.unwrap();
    world.withdraw(tenant, paid, Purpose::Refund, 10, "c").await.unwrap();
    world
        .withdraw(tenant, paid, Purpose::Suspension, 20, "d")
        .await
        .unwrap();
    let hold = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    world
        .withdraw(tenant, paid, Purpose::Suspension, 300, "e")
        .await
        .unwrap();
    let name = |id: uuid::Uuid| literal(world.database.backend(), &id);
    let (paid_id, promo_id, tenant_id) = (name(paid.as_uuid()), name(promo.as_uuid()), name(tenant.as_uuid()));
    let refund = format!("refunds_payable:{tenant}");
    let cases = [
        tampering(
            "UPDATE claim SET amount = 971",
            "UPDATE claim SET amount = 230",
            "I10",
            paid,
        ),
        tampering(
            "UPDATE claim SET amount = 229",
            "UPDATE claim SET amount = 230",
            "I10",
            tenant,
        ),
        tampering(
            &format!("UPDATE claim SET tenant_id = {paid_id}"),
            &format!("UPDATE claim SET tenant_id = {tenant_id}"),
            "I10",
            "another tenant",
        ),
        tampering(
            &format!("UPDATE claim SET lot_id = {promo_id}, amount = 100, purpose = 'refund'"),
            &format!("UPDATE claim SET lot_id = {paid_id}, amount = 230, purpose = 'suspension'"),
            "I11",
            promo,
        ),
        tampering(
            &format!("UPDATE entry SET account = '{refund}' WHERE account = 'promo_expense'"),
            &format!("UPDATE entry SET account = 'promo_expense' WHERE account = '{refund}' AND amount > 0"),
            "I11",
            "credit_promo",
        ),
        tampering(
            "UPDATE entry SET amount = -amount WHERE account LIKE 'refunds_payable%'",
            "UPDATE entry SET amount = -amount WHERE account LIKE 'refunds_payable%'",
            "I2",
            "refunds payable are -10",
        ),
        tampering(
            "UPDATE entry SET amount = -amount WHERE account LIKE 'credit_suspended%'",
            "UPDATE entry SET amount = -amount WHERE account LIKE 'credit_suspended%'",
            "I2",
            paid,
        ),
    ];
    for case in &cases {
        try_case(world, case).await;
    }
    hold.void(completed());
    ledger.drain().await;
    // not yet an hour ago, and then it is
    let expiry = |ago_ms: i64| {
        let now = world.database.now();
        async move { now.await.unwrap().plus_ms(-ago_ms).0 }
    };
    let recently = format!(
        "UPDATE lot SET expires_at_ms = {} WHERE id = {promo_id}",
        expiry(3_000_000).await
    );
    run(world, &recently).await;
    world.assert_clean().await;
    let long_ago = format!(
        "UPDATE lot SET expires_at_ms = {} WHERE id = {promo_id}",
        expiry(3_601_000).await
    );
    try_case(world, &tampering(&long_ago, &recently, "I12", promo)).await;
}

async fn a_guard_that_is_gone_is_named(world: &World) {
    let sql = match world.database.backend() {
        Backend::Postgres => "ALTER TABLE entry DISABLE TRIGGER entry_insert_only",
        Backend::Sqlite => "DROP TRIGGER entry_no_DELETE",
    };
    assert!(world.audit().await.is_clean());
    run(world, sql).await;
    let report = world.audit().await;
    let found: Vec<_> = report.offences().collect();
    assert_eq!((found.len(), found[0].invariant), (1, "I13"));
    assert!(found[0].offender.as_ref().unwrap().contains("table entry "));
    let back = match world.database.backend() {
        Backend::Postgres => "ALTER TABLE entry ENABLE TRIGGER entry_insert_only",
        Backend::Sqlite => {
            "CREATE TRIGGER entry_no_DELETE BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'table entry is insert-only'); END"
        }
    };
    world.change(back, vec![]).await.unwrap();
}

/// More accounts than fit in two pages, of which the last one offends; and by the clock it is found as well.
async fn pages_are_read_to_the_end(world: &World) {
    let many = match world.database.backend() {
        Backend::Postgres => {
            "INSERT INTO acct (tenant_id, available, held, debt, version) \
             SELECT gen_random_uuid(), 0, 0, 0, 0 FROM generate_series(1, 10000)"
        }
        Backend::Sqlite => {
            "INSERT INTO acct (tenant_id, available, held, debt, version) WITH RECURSIVE n (i) AS \
             (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT RANDOMBLOB(16), 0, 0, 0, 0 FROM n"
        }
    };
    world.change(many, vec![]).await.unwrap();
    assert!(run_scheduled(&world.database, MAX_REQUEST_TIME).await.unwrap());
    let last = uuid::Uuid::max();
    let sql = "INSERT INTO acct (tenant_id, available, held, debt, version) VALUES ($1, 5, 0, 0, 0)";
    world.change(sql, vec![last.into()]).await.unwrap();
    let report = world.audit().await;
    let found: Vec<_> = report.offences().collect();
    assert_eq!((found.len(), found[0].invariant, found[0].rows), (1, "I2", 10_001));
    assert!(
        found[0]
            .offender
            .as_ref()
            .unwrap()
            .contains(&last.as_simple().to_string())
    );
    world.change("UPDATE acct SET available = 0", vec![]).await.unwrap();
}

fn cases(
    backend: Backend,
    paid: domain::RequestId,
    open: domain::RequestId,
    tenant: domain::TenantId,
) -> Vec<Tampering> {
    let bytes = |id: &uuid::Uuid| literal(backend, id);
    let (closed, reserved) = (bytes(&paid.as_uuid()), bytes(&open.as_uuid()));
    vec![
        tampering(
            "UPDATE entry SET amount = amount + 1 WHERE account = 'revenue_usage'",
            "UPDATE entry SET amount = amount - 1 WHERE account = 'revenue_usage'",
            "I1",
            "transaction",
        ),
        // only a movement that moves nothing yet may have no entries
        tampering(
            &format!("INSERT INTO tx (id, kind, reference, actor, at_ms) VALUES ({closed}, 'usage', '', '', 1)"),
            &format!("DELETE FROM tx WHERE id = {closed}"),
            "I1",
            "no entries",
        ),
        tampering(
            "UPDATE lot SET remaining = remaining - 1",
            "UPDATE lot SET remaining = remaining + 1",
            "I2",
            "lot_",
        ),
        tampering(
            "UPDATE acct SET available = available + 1",
            "UPDATE acct SET available = available - 1",
            "I2",
            tenant,
        ),
        tampering(
            "UPDATE acct SET held = held + 1, available = available - 1",
            "UPDATE acct SET held = held - 1, available = available + 1",
            "I3",
            tenant,
        ),
        tampering(
            "CREATE TABLE kept AS SELECT * FROM hold; DELETE FROM hold",
            "INSERT INTO hold SELECT * FROM kept; DROP TABLE kept",
            "I3",
            tenant,
        ),
        tampering(
            "UPDATE budget SET held = held + 1",
            "UPDATE budget SET held = held - 1",
            "I3",
            "budget",
        ),
        tampering(
            "UPDATE budget SET used = used + 5000",
            "UPDATE budget SET used = used - 5000",
            "I3",
            "budget",
        ),
        tampering(
            "CREATE TABLE kept AS SELECT * FROM budget; DELETE FROM budget",
            "INSERT INTO budget SELECT * FROM kept; DROP TABLE kept",
            "I3",
            "no row",
        ),
        tampering(
            "UPDATE charge SET state = 'voided'",
            "UPDATE charge SET state = 'settled'",
            "I4",
            paid,
        ),
        tampering(
            "UPDATE charge SET amount = amount + 1",
            "UPDATE charge SET amount = amount - 1",
            "I5",
            "usage",
        ),
        tampering(
            "UPDATE charge SET provider_cost = 1",
            "UPDATE charge SET provider_cost = 400",
            "I5",
            "cost",
        ),
        tampering(
            "UPDATE charge SET price_version = 77",
            "UPDATE charge SET price_version = 1",
            "I7",
            "version 77",
        ),
        tampering(
            "UPDATE hold SET price_version = 77",
            "UPDATE hold SET price_version = 1",
            "I7",
            open,
        ),
        tampering(
            "UPDATE charge SET unbilled = -1",
            "UPDATE charge SET unbilled = 0",
            "I8",
            paid,
        ),
        tampering(
            &format!("UPDATE tx SET tenant_id = {closed} WHERE kind = 'usage'"),
            &format!(
                "UPDATE tx SET tenant_id = {} WHERE kind = 'usage'",
                bytes(&tenant.as_uuid())
            ),
            "I5",
            paid,
        ),
        tampering(
            "CREATE TABLE kept AS SELECT * FROM charge; UPDATE charge SET tx_id = NULL",
            "DELETE FROM charge; INSERT INTO charge SELECT * FROM kept; DROP TABLE kept",
            "I5",
            "usage",
        ),
        tampering(
            &format!("UPDATE hold SET request_id = {closed}"),
            &format!("UPDATE hold SET request_id = {reserved}"),
            "I5",
            paid,
        ),
        tampering(
            "UPDATE hold SET created_at_ms = created_at_ms - 1021000",
            "UPDATE hold SET created_at_ms = created_at_ms + 1021000",
            "I6",
            open,
        ),
    ]
}

fn literal(backend: Backend, id: &uuid::Uuid) -> String {
    match backend {
        Backend::Postgres => format!("'{id}'"),
        Backend::Sqlite => format!("X'{}'", id.as_simple()),
    }
}

async fn run(world: &World, statements: &str) {
    for sql in statements.split("; ") {
        world.change(sql, vec![]).await.unwrap();
    }
}

/// Takes the guards of the insert-only tables away, as somebody who owns the database could, and puts them back.
async fn guard_history(world: &World, guarded: bool) {
    for table in ["entry", "charge", "tx", "quarantine"] {
        if world.database.backend() == Backend::Postgres {
            let word = if guarded { "ENABLE" } else { "DISABLE" };
            run(
                world,
                &format!("ALTER TABLE {table} {word} TRIGGER {table}_insert_only"),
            )
            .await;
            continue;
        }
        for event in ["UPDATE", "DELETE"] {
            let trigger = format!("{table}_no_{event}");
            let sql = if guarded {
                format!(
                    "CREATE TRIGGER {trigger} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'insert-only'); END"
                )
            } else {
                format!("DROP TRIGGER {trigger}")
            };
            world.change(&sql, vec![]).await.unwrap();
        }
    }
}
