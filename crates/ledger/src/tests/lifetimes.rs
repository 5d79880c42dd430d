//! Holds whose callers leave, queues that are full, and the end of a node.

use std::time::Duration;

use domain::NodeId;
use futures_util::poll;

use super::world::*;
use crate::{LedgerError, WriterEnd};

on_every_database! {
    a_caller_that_leaves_early_gets_its_credit_back,
    a_caller_that_leaves_after_the_commit_gets_its_credit_back,
    a_dropped_hold_is_voided,
    a_full_queue_refuses_holds_and_never_ends,
    a_drain_waits_for_open_holds,
    the_writer_ends_when_everybody_has_left,
}

async fn a_caller_that_leaves_early_gets_its_credit_back(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000).await);
    for _ in 0..20 {
        let mut asked = Box::pin(ledger.hold(hold_request(tenant, 1_000)));
        drop(poll!(&mut asked));
        drop(asked);
    }
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    assert_eq!(world.number("SELECT COUNT(*) FROM hold").await, 0);
}

async fn a_caller_that_leaves_after_the_commit_gets_its_credit_back(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000).await);
    let mut asked = Box::pin(ledger.hold(hold_request(tenant, 1_000)));
    assert!(poll!(&mut asked).is_pending());
    while world.number("SELECT COUNT(*) FROM hold").await == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(asked);
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE reason = 'client_gone_before_head'")
            .await,
        1
    );
}

async fn a_dropped_hold_is_voided(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000).await);
    drop(ledger.hold(hold_request(tenant, 1_000)).await.unwrap());
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    let hold = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let task = tokio::spawn(async move {
        let _hold = hold;
        panic!("a handler of the test panics");
    });
    assert!(task.await.unwrap_err().is_panic());
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE reason = 'internal_error'")
            .await,
        1
    );
}

async fn a_full_queue_refuses_holds_and_never_ends(world: &World) {
    let (ledger, _, _writer) = world.ledger_of(NodeId::generate(), 10).await;
    let tenant = world.tenant(100_000).await;
    let mut holds = Vec::new();
    for _ in 0..9 {
        holds.push(ledger.hold(hold_request(tenant, 100)).await.unwrap());
    }
    // one place is left, and a hold needs two: its own and its end's
    assert!(matches!(
        ledger.hold(hold_request(tenant, 100)).await,
        Err(LedgerError::Overloaded)
    ));
    assert_eq!(ledger.queue_depth(), 9);
    for hold in holds {
        hold.settle(&charge_of(100), "acme".to_owned(), completed());
    }
    ledger.drain().await;
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE state = 'settled'")
            .await,
        9
    );
    assert_eq!(world.balance(tenant).await, (99_100, 0, 0));
    drop(ledger.hold(hold_request(tenant, 100)).await.unwrap());
    ledger.drain().await;
}

async fn a_drain_waits_for_open_holds(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000).await);
    let hold = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let mut drain = Box::pin(ledger.drain());
    assert!(poll!(&mut drain).is_pending());
    // whoever drains takes nothing new
    assert!(matches!(
        ledger.hold(hold_request(tenant, 1)).await,
        Err(LedgerError::Overloaded)
    ));
    hold.settle(&charge_of(1), "acme".to_owned(), completed());
    drain.await;
    assert_eq!(world.balance(tenant).await, (999, 0, 0));
}

async fn the_writer_ends_when_everybody_has_left(world: &World) {
    let (ledger, _, writer) = world.ledger_of(NodeId::generate(), 10).await;
    let tenant = world.tenant(1_000).await;
    let hold = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    drop(ledger);
    // the hold keeps the queue open: its end is still written
    hold.settle(&charge_of(1), "acme".to_owned(), completed());
    assert!(matches!(writer.await.unwrap(), WriterEnd::Closed));
    assert_eq!(world.balance(tenant).await, (999, 0, 0));
}
