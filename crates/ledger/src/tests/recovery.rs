//! Holds that nobody will end: of earlier boots, and of anybody by age.

use domain::{Amount, NodeId, request::Reason};

use super::world::*;
use crate::{
    Abandoned, HoldRequest, Ledger, LedgerStore, NodeIdentity,
    batch::{Item, ItemOutcome},
    items::{Progress, ProviderCost, Settled},
};

on_every_database! {
    holds_of_an_earlier_boot_are_voided,
    old_holds_are_voided_by_anybody,
    a_late_end_books_its_cost_once_and_charges_nobody,
    a_late_cost_is_owed_to_whoever_it_is_due,
    a_hold_that_cannot_be_closed_does_not_stop_the_others,
    what_was_sent_before_a_refusal_is_the_operators,
    progress_never_goes_back,
    what_is_free_by_rule_stays_free_and_is_given_back_whole,
    a_panic_gives_everything_back,
}

/// A request whose process dies: its hold is never ended.
async fn abandon(ledger: &Ledger, request: HoldRequest) {
    std::mem::forget(ledger.hold(request).await.unwrap());
}

async fn holds_of_an_earlier_boot_are_voided(world: &World) {
    let node = NodeId::generate();
    let (ledger, _, writer) = world.ledger_of(node, 4_000).await;
    let bystander = world.ledger().await;
    let tenant = world.tenant(100_000).await;
    for _ in 0..7 {
        abandon(&ledger, hold_request(tenant, 100)).await;
    }
    let others = bystander.hold(hold_request(tenant, 30)).await.unwrap();
    writer.abort();
    let (next_boot, _, _writer) = world.ledger_of(node, 4_000).await;
    assert_eq!(world.balance(tenant).await, (99_970, 30, 0));
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'relay_crashed'")
            .await,
        7
    );
    assert_eq!(world.posted("operator_loss:node").await, 700);
    assert_eq!(world.posted("provider_payable:acme").await, -700);
    others.settle(&charge_of(30), "acme".to_owned(), completed());
    bystander.drain().await;
    next_boot.drain().await;
}

async fn old_holds_are_voided_by_anybody(world: &World) {
    let (ledger, other) = (world.ledger().await, world.ledger().await);
    let tenant = world.tenant(1_000).await;
    let old = ledger.hold(hold_request(tenant, 100)).await.unwrap();
    let young = ledger.hold(hold_request(tenant, 200)).await.unwrap();
    assert_eq!(other.close_abandoned_holds().await.unwrap(), 0);
    let sql = "UPDATE hold SET created_at_ms = created_at_ms - 961000 WHERE request_id = $1";
    world.change(sql, vec![old.request().as_uuid().into()]).await.unwrap();
    assert_eq!(other.close_abandoned_holds().await.unwrap(), 1);
    assert_eq!(other.close_abandoned_holds().await.unwrap(), 0);
    assert_eq!(world.balance(tenant).await, (800, 200, 0));
    assert_eq!(world.posted("operator_loss:node").await, 100);
    // the node was only slow: its end comes late, and 50 of its cost are not booked yet
    old.settle(&charge_of(150), "acme".to_owned(), completed());
    young.settle(&charge_of(200), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (800, 0, 0));
    assert_eq!(world.posted("operator_loss:late").await, 50);
    assert_eq!(world.posted("revenue_usage").await, -200);
}

async fn a_late_end_books_its_cost_once_and_charges_nobody(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000).await);
    let request = hold_request(tenant, 400);
    batches
        .send(vec![Item::Hold(request.clone()), void_item(&request)])
        .await;
    for _ in 0..3 {
        let ends = vec![
            settle_item(&request, 350),
            settle_item(&request, 350),
            void_item(&request),
        ];
        let committed = batches.send(ends).await;
        assert_eq!(committed.outcomes, vec![ItemOutcome::Closed; 3]);
        assert!(committed.orphans.is_empty());
        assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
        assert_eq!(world.posted("operator_loss:late").await, 350);
        assert_eq!(world.posted("provider_payable:acme").await, -350);
    }
    // recovery that comes after the end knows nothing better
    let mut recovered = void_item(&request);
    if let Item::Close(closing) = &mut recovered {
        closing.reason = Reason::HoldExpired;
        closing.unbilled.push(ProviderCost {
            provider: "acme".to_owned(),
            amount: Amount::from_nanos(390),
        });
    }
    batches.send(vec![recovered]).await;
    assert_eq!(world.posted("operator_loss:late").await, 350);
    assert_eq!(world.posted("operator_loss:node").await, 0);
    assert_eq!(world.number("SELECT COUNT(*) FROM charge").await, 1);
    // an end without any hold is written once, charges nobody, and is told
    let stray = hold_request(tenant, 400);
    assert_eq!(
        batches.send(vec![settle_item(&stray, 20)]).await.orphans,
        vec![stray.request]
    );
    assert!(batches.send(vec![settle_item(&stray, 20)]).await.orphans.is_empty());
    assert_eq!(world.posted("operator_loss:late").await, 370);
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
}

async fn a_late_cost_is_owed_to_whoever_it_is_due(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000).await);
    let fallen_over = |of: &HoldRequest| {
        let mut end = settle_item(of, 120);
        if let Item::Close(closing) = &mut end {
            closing.unbilled.push(ProviderCost {
                provider: "first".to_owned(),
                amount: Amount::from_nanos(30),
            });
        }
        end
    };
    let (voided, settled) = (hold_request(tenant, 400), hold_request(tenant, 400));
    let holds = [&voided, &settled].map(|request| Item::Hold(request.clone()));
    batches.send(holds.to_vec()).await;
    batches.send(vec![void_item(&voided), settle_item(&settled, 100)]).await;
    assert_eq!(world.posted("provider_payable:acme").await, -100);
    for _ in 0..2 {
        batches.send(vec![fallen_over(&voided), fallen_over(&settled)]).await;
        assert_eq!(world.posted("operator_loss:late").await, 150 + 50);
        assert_eq!(world.posted("provider_payable:acme").await, -100 - 120 - 20);
        assert_eq!(world.posted("provider_payable:first").await, -30 - 30);
    }
    assert_eq!(world.balance(tenant).await, (900, 0, 0));
}

async fn a_hold_that_cannot_be_closed_does_not_stop_the_others(world: &World) {
    let node = NodeId::generate();
    let (ledger, _, writer) = world.ledger_of(node, 4_000).await;
    let (tenant, stranger) = (world.tenant(1_000).await, world.tenant(0).await);
    let requests: Vec<HoldRequest> = (0..5).map(|_| hold_request(tenant, 100)).collect();
    for request in &requests {
        abandon(&ledger, request.clone()).await;
    }
    writer.abort();
    let give_to = async |owner: domain::TenantId| {
        let sql = "UPDATE hold SET tenant_id = $2 WHERE request_id = $1";
        let values = vec![requests[2].request.as_uuid().into(), owner.as_uuid().into()];
        world.change(sql, values).await.unwrap();
    };
    // the damaged hold belongs to somebody who has nothing reserved
    give_to(stranger).await;
    let second_boot = world.ledger_of(node, 4_000).await;
    assert_eq!(world.balance(tenant).await, (900, 100, 0));
    assert_eq!(world.number("SELECT COUNT(*) FROM hold").await, 1);
    give_to(tenant).await;
    let third_boot = world.ledger_of(node, 4_000).await;
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    drop((second_boot, third_boot));
}

async fn what_was_sent_before_a_refusal_is_the_operators(world: &World) {
    let ledger = world.ledger().await;
    let tenant = world.tenant(50).await;
    let request = hold_request(tenant, 100);
    let (id, key) = (request.request, request.key);
    let refused = ledger.reserve(request).unwrap().committed().await;
    assert!(matches!(refused, Err(crate::LedgerError::Refused(_))));
    let costs = [("acme", 7), ("other", 5), ("acme", 2)].map(|(provider, amount)| ProviderCost {
        provider: provider.to_owned(),
        amount: Amount::from_nanos(amount),
    });
    for _ in 0..2 {
        ledger.book_refused_cost(crate::RefusedCost {
            request: id,
            tenant,
            key,
            reason: domain::request::Reason::InsufficientCredit,
            costs: costs.to_vec(),
        });
    }
    ledger.drain().await;
    assert_eq!(world.posted("operator_loss:unbilled").await, 14, "once");
    assert_eq!(world.posted("provider_payable:acme").await, -9);
    assert_eq!(world.posted("provider_payable:other").await, -5);
    assert_eq!(world.balance(tenant).await, (50, 0, 0));
}

/// A spool that is applied at a boot may hold progress that is older than what was written after it.
async fn progress_never_goes_back(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000).await);
    let request = hold_request(tenant, 400);
    batches.send(vec![Item::Hold(request.clone())]).await;
    for nanos in [200, 350, 300] {
        let progress = Progress {
            request: request.request,
            tenant,
            so_far: Settled::new(&charge_of(nanos), "acme".to_owned()),
            record: None,
            free_by: None,
        };
        let committed = batches.send(vec![Item::Progress(progress)]).await;
        assert_eq!(committed.outcomes, vec![ItemOutcome::Noted]);
    }
    let next_boot = NodeIdentity {
        id: NodeId::from_uuid(batches.name.node),
        boot: uuid::Uuid::now_v7(),
    };
    let first = domain::RequestId::from_uuid(uuid::Uuid::nil());
    let which = Abandoned::EarlierBoots(next_boot);
    let abandoned = batches.store.abandoned(which, first, 10).await.unwrap();
    let noted = abandoned[0].progress.as_ref().unwrap().so_far.amount();
    assert_eq!(noted.nanos(), 350);
    batches.send(vec![settle_item(&request, 400)]).await;
}

/// The model turned out to be another one in the midst of the answer, and then the node died.
async fn what_is_free_by_rule_stays_free_and_is_given_back_whole(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000).await);
    let request = hold_request(tenant, 400);
    batches.send(vec![Item::Hold(request.clone())]).await;
    // what comes later, or again from a spool, changes nothing about it
    for (nanos, free_by) in [(200, None), (150, Some(Reason::ModelSubstituted)), (300, None)] {
        let progress = Progress {
            request: request.request,
            tenant,
            so_far: Settled::new(&charge_of(nanos), "acme".to_owned()),
            record: Some(record(request.request, tenant, "m")),
            free_by,
        };
        batches.send(vec![Item::Progress(progress)]).await;
    }
    let next_boot = world.ledger_of(NodeId::from_uuid(batches.name.node), 4_000).await;
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    let sql = "SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'model_substituted' AND unbilled > 0";
    assert_eq!(world.number(sql).await, 1);
    assert!(world.posted("operator_loss:unbilled").await > 0);
    drop(next_boot);
}

/// The refund rule of `internal_error`: whoever holds the credit panics, and nothing is charged.
async fn a_panic_gives_everything_back(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000).await);
    let hold = ledger.hold(hold_request(tenant, 100)).await.unwrap();
    let panicking = tokio::spawn(async move {
        let _kept = hold;
        panic!("an error of ours");
    });
    assert!(panicking.await.unwrap_err().is_panic());
    world.wait_for_charges(1).await;
    let free = "SELECT COUNT(*) FROM charge WHERE state = 'voided' AND reason = 'internal_error' AND amount = 0";
    assert_eq!(world.number(free).await, 1);
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
    assert_eq!(Reason::InternalError.rule().pays, domain::refund_rules::Pays::Nothing);
    ledger.drain().await;
}
