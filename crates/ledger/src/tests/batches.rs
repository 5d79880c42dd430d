//! Batches as the store sees them: lost acknowledgements, items that cannot be written, locked tenants, a full disk.

use std::time::Duration;

use domain::{Amount, NodeId, clock::UnixMs, request::Reason};
use futures_util::{future::join_all, poll};
use smallvec::smallvec;
use store::{Backend, StoreError};

use super::world::*;
use crate::{
    BudgetClaim, BudgetKey, Ending, HoldRequest, LedgerError, LedgerStore, ProviderCost,
    batch::{Item, ItemOutcome, Locking},
    rules::HoldOutcome,
};

mod everywhere {
    use super::*;
    on_every_database! {
        a_batch_sent_twice_is_applied_once,
        a_batch_out_of_turn_is_fenced,
        an_end_that_cannot_be_written_stands_alone,
        a_record_that_cannot_be_kept_loses_no_charge,
    }
}

mod locks {
    use super::*;
    on_postgres! { text_with_nul_is_rejected_alone, a_locked_tenant_does_not_stop_the_others }
}

const COUNTS: [&str; 6] = ["tx", "entry", "charge", "hold", "lot", "budget"];

async fn counts(world: &World) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in COUNTS {
        counts.push(world.number(&format!("SELECT COUNT(*) FROM {table}")).await);
    }
    counts
}

async fn a_batch_sent_twice_is_applied_once(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(5_000).await);
    let earlier: Vec<HoldRequest> = (0..4).map(|_| hold_request(tenant, 500)).collect();
    batches.send(earlier.iter().cloned().map(Item::Hold).collect()).await;
    batches.send(vec![void_item(&earlier[3])]).await;
    let (held, ended) = (hold_request(tenant, 100), hold_request(tenant, 100));
    let key = BudgetKey {
        scope: uuid::Uuid::now_v7(),
        period_start: UnixMs(1),
    };
    let beyond_budget = HoldRequest {
        budgets: smallvec![BudgetClaim {
            key,
            limit: Amount::from_nanos(5)
        }],
        ..hold_request(tenant, 100)
    };
    let items = vec![
        Item::Hold(held.clone()),
        Item::Hold(held.clone()),
        Item::Hold(earlier[2].clone()),
        Item::Hold(earlier[3].clone()),
        Item::Hold(ended.clone()),
        settle_item(&ended, 10),
        settle_item(&earlier[0], 200),
        settle_item(&earlier[0], 900),
        void_item(&earlier[1]),
        settle_item(&hold_request(tenant, 1), 30),
        Item::Hold(beyond_budget),
        Item::Hold(hold_request(tenant, 50_000)),
    ];
    let batch = batches.next(items);
    let first = batches.store.apply(&batch, Locking::Wait).await.unwrap();
    let (after, balance) = (counts(world).await, world.balance(tenant).await);
    for locking in [Locking::Wait, Locking::SkipLocked] {
        let second = batches.store.apply(&batch, locking).await.unwrap();
        assert_eq!(second.outcomes, first.outcomes);
        assert_eq!((&second.available, second.now), (&first.available, first.now));
        assert_eq!(
            (counts(world).await, world.balance(tenant).await),
            (after.clone(), balance)
        );
    }
    let held_outcome = |outcome| ItemOutcome::Hold(outcome);
    assert_eq!(
        first.outcomes[..3],
        [HoldOutcome::Held, HoldOutcome::Duplicate, HoldOutcome::Duplicate].map(held_outcome)
    );
    assert_eq!(first.orphans.len(), 1);
    // of 5,000: 210 paid, 500 of earlier[2] and 100 of `held` still reserved
    assert_eq!(balance, (5_000 - 210 - 600, 600, 0));
    batches.send(vec![void_item(&earlier[2]), void_item(&held)]).await;
}

async fn a_batch_out_of_turn_is_fenced(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000).await);
    batches.send(vec![Item::Hold(hold_request(tenant, 1))]).await;
    let stale = batches.next(vec![Item::Hold(hold_request(tenant, 1))]);
    batches.store.apply(&stale, Locking::Wait).await.unwrap();
    let before = counts(world).await;
    for number in [1, 4, 100, 0, -1] {
        let mut batch = stale.clone();
        batch.name.number = number;
        let error = batches.store.apply(&batch, Locking::Wait).await.unwrap_err();
        assert!(matches!(error, StoreError::Fenced(_)), "{number}: {error}");
    }
    let mut stranger = stale;
    stranger.name.boot = uuid::Uuid::now_v7();
    assert!(matches!(
        batches.store.apply(&stranger, Locking::Wait).await,
        Err(StoreError::Fenced(_))
    ));
    assert_eq!(counts(world).await, before);
}

async fn an_end_that_cannot_be_written_stands_alone(world: &World) {
    let node = NodeId::generate();
    let (ledger, _, writer) = world.ledger_of(node, 4_000).await;
    let tenant = world.tenant(100_000).await;
    let holds = join_all((0..20).map(|_| ledger.hold(hold_request(tenant, 100)))).await;
    for (place, hold) in holds.into_iter().enumerate() {
        let lost = ProviderCost {
            provider: "acme".to_owned(),
            amount: Amount::from_nanos(-5),
        };
        let unbilled = if place == 7 { vec![lost] } else { Vec::new() };
        let ending = Ending {
            reason: Reason::Completed,
            unbilled,
            record: None,
        };
        hold.unwrap().settle(&charge_of(100), "acme".to_owned(), ending);
    }
    ledger.drain().await;
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE state = 'settled'")
            .await,
        19
    );
    assert_eq!(world.balance(tenant).await, (100_000 - 2_000, 100, 0));
    drop(ledger);
    writer.await.unwrap();
    let next_boot = world.ledger_of(node, 4_000).await;
    assert_eq!(world.balance(tenant).await, (100_000 - 1_900, 0, 0));
    drop(next_boot);
}

async fn a_record_that_cannot_be_kept_loses_no_charge(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(100_000).await);
    let holds = join_all((0..20).map(|_| ledger.hold(hold_request(tenant, 100)))).await;
    for (place, hold) in holds.into_iter().enumerate() {
        let hold = hold.unwrap();
        let model = if place == 7 { POISON } else { "m" };
        let record = Some(record(hold.request(), tenant, model));
        hold.settle(&charge_of(100), "acme".to_owned(), Ending { record, ..completed() });
    }
    ledger.drain().await;
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE state = 'settled'")
            .await,
        20
    );
    assert_eq!(world.number("SELECT COUNT(*) FROM change_topic").await, 19);
    assert_eq!(world.balance(tenant).await, (98_000, 0, 0));
}

async fn text_with_nul_is_rejected_alone(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(100_000).await);
    let holds = join_all((0..20).map(|place| {
        let mut request = hold_request(tenant, 100);
        if place == 7 {
            request.provider = "a\0b".to_owned();
        }
        ledger.hold(request)
    }))
    .await;
    for (place, hold) in holds.into_iter().enumerate() {
        match hold {
            Ok(hold) => hold.settle(&charge_of(1), "acme".to_owned(), completed()),
            Err(error) => assert!(place == 7 && matches!(error, LedgerError::Rejected), "{place}: {error}"),
        }
    }
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (100_000 - 19, 0, 0));
}

async fn a_locked_tenant_does_not_stop_the_others(world: &World) {
    let ledger = world.ledger().await;
    let (locked, free) = (world.tenant(1_000).await, world.tenant(1_000).await);
    let open = ledger.hold(hold_request(locked, 100)).await.unwrap();
    let lock = world.database.begin().await.unwrap();
    // as another node's batch would: account, lots and holds
    for sql in [
        "SELECT tenant_id FROM acct WHERE tenant_id = $1 FOR UPDATE",
        "SELECT id FROM lot WHERE tenant_id = $1 FOR UPDATE",
        "SELECT request_id FROM hold WHERE tenant_id = $1 FOR UPDATE",
    ] {
        assert_eq!(lock.query(sql, vec![locked.as_uuid().into()]).await.unwrap().len(), 1);
    }
    let mut waits = Box::pin(ledger.hold(hold_request(locked, 200)));
    assert!(poll!(&mut waits).is_pending());
    open.settle(&charge_of(100), "acme".to_owned(), completed());
    for _ in 0..3 {
        drop(ledger.hold(hold_request(free, 1_000)).await.unwrap());
        while world.balance(free).await.1 > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(poll!(&mut waits).is_pending());
    assert_eq!(world.balance(locked).await, (900, 100, 0));
    lock.commit().await.unwrap();
    let hold = waits.await.unwrap();
    hold.settle(&charge_of(200), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!(world.balance(locked).await, (700, 0, 0));
    assert_eq!(world.balance(free).await, (1_000, 0, 0));
}

#[tokio::test]
async fn a_full_disk_is_neither_poison_nor_the_end() {
    let world = World::sqlite().await;
    assert_eq!(world.database.backend(), Backend::Sqlite);
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000).await);
    let pages = world.number("SELECT page_count FROM pragma_page_count").await;
    world
        .change(&format!("PRAGMA max_page_count = {pages}"), vec![])
        .await
        .unwrap();
    let request = HoldRequest {
        provider: "x".repeat(1_000_000),
        ..hold_request(tenant, 100)
    };
    let batch = batches.next(vec![Item::Hold(request.clone())]);
    for _ in 0..3 {
        let error = batches.store.apply(&batch, Locking::Wait).await.unwrap_err();
        assert!(matches!(error, StoreError::Database(_)), "{error}");
        assert!(!error.is_data_error() && !error.is_io_failure());
    }
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    world.change("PRAGMA max_page_count = 1000000", vec![]).await.unwrap();
    let committed = batches.store.apply(&batch, Locking::Wait).await.unwrap();
    assert_eq!(committed.outcomes, vec![ItemOutcome::Hold(HoldOutcome::Held)]);
    batches.send(vec![void_item(&request)]).await;
    world.end().await;
}
