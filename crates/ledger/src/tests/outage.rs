//! A database that is away: what is told, what is kept on disk, and what comes of it afterwards.

use std::time::Duration;

use domain::{NodeId, request::Reason};
use store::{Backend, Tx};

use super::world::*;
use crate::{HoldRequest, Ledger, LedgerError};

on_every_database! {
    ends_during_an_outage_are_written_once_it_is_over,
    ends_during_an_outage_survive_the_process,
    a_drain_ends_when_everything_is_on_disk,
}

/// Keeps everybody else from writing to the books.
async fn take_away(world: &World) -> Tx {
    let tx = world.database.begin().await.unwrap();
    match world.database.backend() {
        Backend::Postgres => tx
            .execute("LOCK TABLE acct, node IN EXCLUSIVE MODE", vec![])
            .await
            .unwrap(),
        // a transaction that writes keeps all other writers out
        Backend::Sqlite => tx.execute("UPDATE acct SET version = version", vec![]).await.unwrap(),
    };
    tx
}

/// A hold that finds the database away. The caller is told within seconds.
async fn withdrawn(ledger: &Ledger, request: HoldRequest) {
    let told = ledger.hold(request).await;
    assert!(matches!(told, Err(LedgerError::Unavailable)), "{:?}", told.err());
}

async fn ends_during_an_outage_are_written_once_it_is_over(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(100_000).await);
    let first = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let second = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let away = take_away(world).await;
    let in_flight = hold_request(tenant, 5_000);
    let queued = hold_request(tenant, 6_000);
    tokio::join!(withdrawn(&ledger, in_flight.clone()), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        withdrawn(&ledger, queued.clone()).await;
    });
    assert!(ledger.is_stalled());
    assert!(matches!(
        ledger.reserve(hold_request(tenant, 1)),
        Err(LedgerError::Unavailable)
    ));
    first.settle(&charge_of(300), "acme".to_owned(), completed());
    second.void(ending(Reason::UpstreamFailed));
    away.rollback().await.unwrap();
    ledger.drain().await;
    // the places of what is on disk are free: the books themselves say when all of it is written
    while world.number("SELECT COUNT(*) FROM hold").await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.balance(tenant).await, (99_700, 0, 0));
    let of = "SELECT COUNT(*) FROM charge WHERE reason = 'ledger_unavailable' AND amount = 0";
    assert_eq!(
        world.number(of).await,
        1,
        "the hold in flight was placed after its caller had been told"
    );
    assert_eq!(world.number("SELECT COUNT(*) FROM charge").await, 3);
    let hold = ledger.hold(hold_request(tenant, 1)).await.unwrap();
    hold.void(ending(Reason::UpstreamFailed));
    ledger.drain().await;
}

async fn ends_during_an_outage_survive_the_process(world: &World) {
    let node = NodeId::generate();
    let (ledger, _, writer) = world.ledger_of(node, 4_000).await;
    let tenant = world.tenant(100_000).await;
    let settled = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let progressed = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let silent = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let away = take_away(world).await;
    withdrawn(&ledger, hold_request(tenant, 5_000)).await;
    progressed.progress(
        &charge_of(70),
        "acme".to_owned(),
        record(progressed.request(), tenant, "m"),
        None,
    );
    let id = settled.request();
    settled.settle(&charge_of(300), "acme".to_owned(), completed());
    // an end is on disk when the place that it takes in the queue is free again
    while ledger.queue_depth() > 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    writer.abort();
    std::mem::forget((progressed, silent));
    away.rollback().await.unwrap();
    let (_next, _, _writer) = world.ledger_of(node, 4_000).await;
    assert_eq!(world.balance(tenant).await, (100_000 - 300 - 70, 0, 0));
    let charged = format!(
        "SELECT amount FROM charge WHERE reason = 'completed' AND request_id = {}",
        uuid_literal(world, id)
    );
    assert_eq!(world.number(&charged).await, 300);
    assert_eq!(
        world
            .number("SELECT SUM(amount) FROM charge WHERE reason = 'relay_crashed'")
            .await,
        70
    );
    // nothing is known of the silent one: what its provider may bill is the operator's
    assert_eq!(world.posted("operator_loss:node").await, 1_000);
    let folder = world.data_folder(node).join("spool");
    assert_eq!(
        std::fs::read_dir(folder).unwrap().count(),
        1,
        "only the living boot's spool is left"
    );
}

fn uuid_literal(world: &World, id: domain::RequestId) -> String {
    match world.database.backend() {
        Backend::Postgres => format!("'{}'", id.as_uuid()),
        Backend::Sqlite => format!("x'{}'", id.as_uuid().simple()),
    }
}

async fn a_drain_ends_when_everything_is_on_disk(world: &World) {
    let node = NodeId::generate();
    let (ledger, _, writer) = world.ledger_of(node, 4_000).await;
    let tenant = world.tenant(100_000).await;
    let hold = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
    let away = take_away(world).await;
    hold.settle(&charge_of(300), "acme".to_owned(), completed());
    ledger.drain().await;
    writer.abort();
    away.rollback().await.unwrap();
    let (_next, _, _writer) = world.ledger_of(node, 4_000).await;
    assert_eq!(world.balance(tenant).await, (99_700, 0, 0));
}
