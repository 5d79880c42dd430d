//! Budgets: what a key may spend in a period.

use domain::{Amount, TenantId, clock::UnixMs};
use futures_util::future::join_all;
use smallvec::smallvec;
use uuid::Uuid;

use super::world::*;
use crate::{BudgetClaim, BudgetKey, HoldRequest, LedgerError, Refusal, reading};

on_every_database! {
    parallel_holds_stay_within_the_limit,
    a_settle_goes_to_the_period_of_its_hold,
    a_lower_limit_refuses_and_keeps_what_is_open,
}

fn under(tenant: TenantId, amount: i64, key: BudgetKey, limit: i64) -> HoldRequest {
    HoldRequest {
        budgets: smallvec![BudgetClaim {
            key,
            limit: Amount::from_nanos(limit)
        }],
        ..hold_request(tenant, amount)
    }
}

async fn state(world: &World, key: BudgetKey) -> (i64, i64) {
    let budget = reading::budget(world.database.readers(), key).await.unwrap().unwrap();
    (budget.used.nanos(), budget.held.nanos())
}

async fn parallel_holds_stay_within_the_limit(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000_000).await);
    let key = BudgetKey {
        scope: Uuid::now_v7(),
        period_start: UnixMs(1),
    };
    let holds = join_all((0..50).map(|_| ledger.hold(under(tenant, 300, key, 1_000)))).await;
    let (held, refused): (Vec<_>, Vec<_>) = holds.into_iter().partition(Result::is_ok);
    assert_eq!((held.len(), refused.len()), (3, 47));
    let refusal = Refusal::BudgetExceeded {
        left: Amount::from_nanos(100),
    };
    assert!(
        refused
            .iter()
            .all(|result| matches!(result, Err(LedgerError::Refused(found)) if *found == refusal))
    );
    assert_eq!(state(world, key).await, (0, 900));
    assert_eq!(world.balance(tenant).await, (999_100, 900, 0));
    for hold in held {
        hold.unwrap().settle(&charge_of(50), "acme".to_owned(), completed());
    }
    ledger.drain().await;
    assert_eq!(state(world, key).await, (150, 0));
}

async fn a_settle_goes_to_the_period_of_its_hold(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(10_000).await);
    let scope = Uuid::now_v7();
    let old = BudgetKey {
        scope,
        period_start: UnixMs(1),
    };
    let new = BudgetKey {
        scope,
        period_start: UnixMs(2),
    };
    let hold = ledger.hold(under(tenant, 1_000, old, 1_000)).await.unwrap();
    let next = ledger.hold(under(tenant, 1_000, new, 1_000)).await.unwrap();
    hold.settle(&charge_of(400), "acme".to_owned(), completed());
    next.void(completed());
    ledger.drain().await;
    assert_eq!(state(world, old).await, (400, 0));
    assert_eq!(state(world, new).await, (0, 0));
}

async fn a_lower_limit_refuses_and_keeps_what_is_open(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(10_000).await);
    let key = BudgetKey {
        scope: Uuid::now_v7(),
        period_start: UnixMs(1),
    };
    let hold = ledger.hold(under(tenant, 800, key, 1_000)).await.unwrap();
    let refused = ledger.hold(under(tenant, 1, key, 500)).await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::BudgetExceeded { left })) if left.is_zero()));
    // what costs nothing always fits
    drop(ledger.hold(under(tenant, 0, key, 500)).await.unwrap());
    world.assert_clean().await;
    hold.settle(&charge_of(800), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!(state(world, key).await, (800, 0));
}
