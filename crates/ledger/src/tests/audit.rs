//! The auditor finds what was tampered with, and names it.

use store::Backend;

use super::world::*;
use crate::{BudgetClaim, BudgetKey, HoldRequest, verify};

on_every_database! { every_tampering_is_found_and_named }

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
    allow_changes(world).await;
    for case in cases(world.database.backend(), paid_id, open_id, tenant) {
        run(world, &case.done).await;
        let report = verify::verify(&world.database, MAX_REQUEST_TIME).await.unwrap();
        let offender = report
            .checks
            .iter()
            .filter(|check| check.invariant == case.invariant)
            .find_map(|check| check.offender.clone());
        let offender = offender.unwrap_or_else(|| panic!("{} broke no {}", case.done, case.invariant));
        assert!(
            offender.contains(&case.names),
            "{}: {offender} names no {}",
            case.done,
            case.names
        );
        run(world, &case.undone).await;
        world.assert_clean().await;
    }
    drop(open);
    ledger.drain().await;
}

fn cases(
    backend: Backend,
    paid: domain::RequestId,
    open: domain::RequestId,
    tenant: domain::TenantId,
) -> Vec<Tampering> {
    let literal = |id: &domain::RequestId| match backend {
        Backend::Postgres => format!("'{}'", id.as_uuid()),
        Backend::Sqlite => format!("X'{}'", id.as_uuid().as_simple()),
    };
    let (closed, reserved) = (literal(&paid), literal(&open));
    vec![
        tampering(
            "UPDATE entry SET amount = amount + 1 WHERE account = 'revenue_usage'",
            "UPDATE entry SET amount = amount - 1 WHERE account = 'revenue_usage'",
            "I1",
            "transaction",
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

async fn run(world: &World, statements: &str) {
    for sql in statements.split("; ") {
        world.change(sql, vec![]).await.unwrap();
    }
}

/// Takes the guards of the insert-only tables away, as somebody who owns the database could.
async fn allow_changes(world: &World) {
    for table in ["entry", "charge", "tx"] {
        let guards = match world.database.backend() {
            Backend::Postgres => vec![format!("{table}_insert_only ON {table}")],
            Backend::Sqlite => vec![format!("{table}_no_UPDATE"), format!("{table}_no_DELETE")],
        };
        for guard in guards {
            run(world, &format!("DROP TRIGGER {guard}")).await;
        }
    }
}
