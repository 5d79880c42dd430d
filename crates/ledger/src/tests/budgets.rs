//! Budgets: what a key, and a tenant with all its keys, may spend in a period.

use domain::{Amount, TenantId, clock::UnixMs};
use futures_util::future::join_all;
use smallvec::smallvec;
use uuid::Uuid;

use super::world::*;
use crate::{BudgetClaim, BudgetKey, HoldRequest, Ledger, LedgerError, Refusal, reading};

on_every_database! {
    parallel_holds_stay_within_the_limit,
    a_settle_goes_to_the_period_of_its_hold,
    a_lower_limit_refuses_and_keeps_what_is_open,
    nested_budgets_take_a_hold_all_or_none,
    keys_at_once_stay_within_the_budget_of_their_tenant,
    a_late_settle_goes_to_the_periods_of_its_own_hold,
}

fn claim(key: BudgetKey, limit: i64) -> BudgetClaim {
    BudgetClaim {
        key,
        limit: Amount::from_nanos(limit),
    }
}

fn under(tenant: TenantId, amount: i64, key: BudgetKey, limit: i64) -> HoldRequest {
    HoldRequest {
        budgets: smallvec![claim(key, limit)],
        ..hold_request(tenant, amount)
    }
}

/// Under the budget of a key and that of its tenant.
fn nested(tenant: TenantId, amount: i64, own: (BudgetKey, i64), shared: (BudgetKey, i64)) -> HoldRequest {
    HoldRequest {
        budgets: smallvec![claim(own.0, own.1), claim(shared.0, shared.1)],
        ..hold_request(tenant, amount)
    }
}

fn some_budget(period_start: i64) -> BudgetKey {
    BudgetKey {
        scope: Uuid::now_v7(),
        period_start: UnixMs(period_start),
    }
}

fn exceeded(budget: BudgetKey, left: i64) -> Refusal {
    Refusal::BudgetExceeded {
        scope: budget.scope,
        left: Amount::from_nanos(left),
    }
}

async fn refusal(ledger: &Ledger, request: HoldRequest) -> Refusal {
    match ledger.hold(request).await {
        Err(LedgerError::Refused(refusal)) => refusal,
        Err(error) => panic!("{error}"),
        Ok(hold) => panic!("{} was held", hold.request()),
    }
}

async fn state(world: &World, key: BudgetKey) -> (i64, i64) {
    let found = reading::budgets(world.database.readers(), &[key]).await.unwrap();
    let budget = found.get(&key).copied().unwrap_or_default();
    (budget.used.nanos(), budget.held.nanos())
}

async fn parallel_holds_stay_within_the_limit(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000_000).await);
    let key = some_budget(1);
    let holds = join_all((0..50).map(|_| ledger.hold(under(tenant, 300, key, 1_000)))).await;
    let (held, refused): (Vec<_>, Vec<_>) = holds.into_iter().partition(Result::is_ok);
    assert_eq!((held.len(), refused.len()), (3, 47));
    let refusal = exceeded(key, 100);
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
    let key = some_budget(1);
    let hold = ledger.hold(under(tenant, 800, key, 1_000)).await.unwrap();
    assert_eq!(refusal(&ledger, under(tenant, 1, key, 500)).await, exceeded(key, 0));
    // what costs nothing always fits
    drop(ledger.hold(under(tenant, 0, key, 500)).await.unwrap());
    world.assert_clean().await;
    hold.settle(&charge_of(800), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!(state(world, key).await, (800, 0));
}

async fn nested_budgets_take_a_hold_all_or_none(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(10_000).await);
    let (own, shared) = (some_budget(1), some_budget(1));
    let ask = |amount, own_limit, shared_limit| nested(tenant, amount, (own, own_limit), (shared, shared_limit));
    // either alone refuses, and nothing is reserved in the other
    assert_eq!(refusal(&ledger, ask(300, 299, 1_000)).await, exceeded(own, 299));
    assert_eq!(refusal(&ledger, ask(300, 1_000, 200)).await, exceeded(shared, 200));
    // both refuse: what is affordable is what the tighter one leaves
    assert_eq!(refusal(&ledger, ask(300, 250, 200)).await, exceeded(shared, 200));
    assert_eq!(refusal(&ledger, ask(300, 150, 200)).await, exceeded(own, 150));
    assert_eq!((state(world, own).await, state(world, shared).await), ((0, 0), (0, 0)));
    assert_eq!(world.balance(tenant).await, (10_000, 0, 0));

    let first = ledger.hold(ask(300, 1_000, 500)).await.unwrap();
    assert_eq!(
        (state(world, own).await, state(world, shared).await),
        ((0, 300), (0, 300))
    );
    assert_eq!(refusal(&ledger, ask(300, 1_000, 500)).await, exceeded(shared, 200));
    assert_eq!(state(world, own).await, (0, 300));
    // want of credit is told before want of room
    let poor = refusal(&ledger, ask(20_000, 1_000, 500)).await;
    assert!(matches!(poor, Refusal::InsufficientCredit { available } if available.nanos() == 9_700));
    first.settle(&charge_of(120), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!(
        (state(world, own).await, state(world, shared).await),
        ((120, 0), (120, 0))
    );
    drop(ledger.hold(ask(380, 500, 500)).await.unwrap());
    ledger.drain().await;
    assert_eq!(
        (state(world, own).await, state(world, shared).await),
        ((120, 0), (120, 0))
    );
}

async fn keys_at_once_stay_within_the_budget_of_their_tenant(world: &World) {
    let (one, other) = (world.ledger().await, world.ledger().await);
    let tenant = world.tenant(1_000_000).await;
    let (keys, shared) = ([some_budget(1), some_budget(1)], some_budget(1));
    let holds = join_all((0..60).map(|index| {
        let (ledger, key) = (if index % 3 == 0 { &one } else { &other }, keys[index % 2]);
        ledger.hold(nested(tenant, 100, (key, 700), (shared, 1_000)))
    }))
    .await;
    let held: Vec<_> = holds.into_iter().filter_map(Result::ok).collect();
    assert_eq!(held.len(), 10);
    let own = [state(world, keys[0]).await.1, state(world, keys[1]).await.1];
    assert!(own.iter().all(|held| *held <= 700), "{own:?}");
    assert_eq!(
        (own.iter().sum::<i64>(), state(world, shared).await),
        (1_000, (0, 1_000))
    );
    for hold in held {
        hold.settle(&charge_of(60), "acme".to_owned(), completed());
    }
    one.drain().await;
    other.drain().await;
    assert_eq!(state(world, shared).await, (600, 0));
    assert_eq!(state(world, keys[0]).await.0 + state(world, keys[1]).await.0, 600);
}

async fn a_late_settle_goes_to_the_periods_of_its_own_hold(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(10_000).await);
    let (yesterday, month) = (some_budget(1), some_budget(5));
    let today = BudgetKey {
        period_start: UnixMs(2),
        ..yesterday
    };
    // the key counts by the day, its tenant by the month; the day changes while the request runs
    let late = ledger
        .hold(nested(tenant, 900, (yesterday, 1_000), (month, 2_000)))
        .await
        .unwrap();
    let next = ledger
        .hold(nested(tenant, 1_000, (today, 1_000), (month, 2_000)))
        .await
        .unwrap();
    late.settle(&charge_of(400), "acme".to_owned(), completed());
    next.void(completed());
    ledger.drain().await;
    assert_eq!(
        (state(world, yesterday).await, state(world, today).await),
        ((400, 0), (0, 0))
    );
    assert_eq!(state(world, month).await, (400, 0));
}
