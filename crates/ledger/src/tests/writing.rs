//! Holds and their ends through the writer.

use domain::request::Reason;
use futures_util::future::join_all;

use super::world::*;
use crate::{Ending, LedgerError, ProviderCost, Refusal};

on_every_database! {
    a_settle_below_at_and_above_the_hold,
    voids_give_everything_back,
    refusals_write_a_zero_charge,
    many_ends_share_a_commit,
    credit_for_one_is_held_once,
    credit_for_one_is_held_once_by_two_nodes,
    a_request_is_held_once,
    records_ride_with_the_first_end,
}

async fn a_settle_below_at_and_above_the_hold(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(10_000).await);
    for (charge, paid) in [(400, 400), (1_000, 1_000), (1_500, 1_000)] {
        let before = world.balance(tenant).await.0;
        let hold = ledger.hold(hold_request(tenant, 1_000)).await.unwrap();
        assert_eq!(world.balance(tenant).await, (before - 1_000, 1_000, 0));
        hold.settle(&charge_of(charge), "acme".to_owned(), completed());
        ledger.drain().await;
        assert_eq!(world.balance(tenant).await, (before - paid, 0, 0));
    }
    assert_eq!(world.posted("revenue_usage").await, -2_900);
    assert_eq!(world.posted("operator_loss:overrun").await, 500);
    assert_eq!(world.posted("provider_cost:acme").await, 2_900);
    assert_eq!(world.posted("provider_payable:acme").await, -2_900);
    assert_eq!(world.number("SELECT SUM(overrun) FROM charge").await, 500);
}

async fn voids_give_everything_back(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(5_000).await);
    let hold = ledger.hold(hold_request(tenant, 5_000)).await.unwrap();
    let lost = ProviderCost {
        provider: "slow".to_owned(),
        amount: domain::Amount::from_nanos(70),
    };
    hold.void(Ending {
        reason: Reason::UpstreamNoOutput,
        unbilled: vec![lost],
        record: None,
    });
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (5_000, 0, 0));
    assert_eq!(world.posted("operator_loss:unbilled").await, 70);
    assert_eq!(world.posted("provider_payable:slow").await, -70);
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE state = 'voided' AND amount = 0")
            .await,
        1
    );
    assert_eq!(world.number("SELECT COUNT(*) FROM hold").await, 0);
}

async fn refusals_write_a_zero_charge(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(999).await);
    let refused = ledger.hold(hold_request(tenant, 1_000)).await;
    let Err(LedgerError::Refused(Refusal::InsufficientCredit { available })) = refused else {
        panic!("it should have been refused");
    };
    assert_eq!(available.nanos(), 999);
    let stranger = hold_request(domain::TenantId::generate(), 1);
    assert!(matches!(ledger.hold(stranger).await, Err(LedgerError::Refused(_))));
    assert!(matches!(
        ledger.hold(hold_request(tenant, -1)).await,
        Err(LedgerError::InvalidAmount(_))
    ));
    assert_eq!(world.balance(tenant).await, (999, 0, 0));
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE state = 'refused' AND amount = 0")
            .await,
        2
    );
}

async fn many_ends_share_a_commit(world: &World) {
    let (ledger, node, _writer) = world.ledger_of(domain::NodeId::generate(), 4_000).await;
    let tenant = world.tenant(1_000_000).await;
    let holds = join_all((0..300).map(|_| ledger.hold(hold_request(tenant, 1_000)))).await;
    let batch_no = "SELECT batch_no FROM node WHERE id = $1";
    let read = async || -> i64 {
        world.rows(batch_no, vec![node.id.as_uuid().into()]).await[0]
            .try_get("", "batch_no")
            .unwrap()
    };
    let before = read().await;
    for hold in holds {
        hold.unwrap().settle(&charge_of(10), "acme".to_owned(), completed());
    }
    ledger.drain().await;
    let batches = read().await - before;
    assert!((1..100).contains(&batches), "300 ends took {batches} commits");
    let transactions = world.number("SELECT COUNT(*) FROM tx WHERE kind = 'usage'").await;
    assert!(
        transactions <= batches,
        "{transactions} usage transactions in {batches} batches"
    );
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE state = 'settled'")
            .await,
        300
    );
    assert_eq!(world.balance(tenant).await, (1_000_000 - 3_000, 0, 0));
}

async fn credit_for_one_is_held_once(world: &World) {
    let ledger = world.ledger().await;
    hold_by_many(world, &[ledger]).await;
}

async fn credit_for_one_is_held_once_by_two_nodes(world: &World) {
    let nodes = [world.ledger().await, world.ledger().await];
    hold_by_many(world, &nodes).await;
}

async fn hold_by_many(world: &World, nodes: &[crate::Ledger]) {
    let tenant = world.tenant(1_000).await;
    let holds = join_all((0..200).map(|n| {
        let ledger = nodes[n % nodes.len()].clone();
        tokio::spawn(async move { ledger.hold(hold_request(tenant, 1_000)).await })
    }))
    .await;
    let (held, refused): (Vec<_>, Vec<_>) = holds.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert!(
        refused
            .iter()
            .all(|result| matches!(result, Err(LedgerError::Refused(_))))
    );
    assert_eq!((held.len(), refused.len()), (1, 199));
    assert_eq!(world.balance(tenant).await, (0, 1_000, 0));
    world.assert_clean().await;
    for hold in held {
        hold.unwrap().settle(&charge_of(1_000), "acme".to_owned(), completed());
    }
    join_all(nodes.iter().map(crate::Ledger::drain)).await;
    assert_eq!(world.balance(tenant).await, (0, 0, 0));
}

async fn a_request_is_held_once(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(5_000).await);
    let request = hold_request(tenant, 1_000);
    let hold = ledger.hold(request.clone()).await.unwrap();
    assert!(matches!(
        ledger.hold(request.clone()).await,
        Err(LedgerError::Duplicate)
    ));
    hold.settle(&charge_of(5), "acme".to_owned(), completed());
    ledger.drain().await;
    assert!(matches!(ledger.hold(request).await, Err(LedgerError::Duplicate)));
    assert_eq!(world.balance(tenant).await, (4_995, 0, 0));
}

async fn records_ride_with_the_first_end(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(5_000).await);
    let request = hold_request(tenant, 1_000);
    let with_record = |item| match item {
        crate::batch::Item::Close(closing) => crate::batch::Item::Close(crate::items::Closing {
            record: Some(record(request.request, tenant, "m")),
            ..closing
        }),
        other => other,
    };
    batches.send(vec![crate::batch::Item::Hold(request.clone())]).await;
    // the rider's row would conflict with itself if it were written twice
    let ends = vec![with_record(settle_item(&request, 5)), with_record(void_item(&request))];
    batches.send(ends).await;
    batches.send(vec![with_record(settle_item(&request, 5))]).await;
    assert_eq!(world.number("SELECT COUNT(*) FROM change_topic").await, 1);
    assert!(world.rider.written.lock().unwrap().contains(&request.request));
}
