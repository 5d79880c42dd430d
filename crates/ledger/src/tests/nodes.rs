//! Nodes as operators see them, and their retirement.

use domain::NodeId;

use super::world::*;
use crate::nodes::{self, NodeView, Retirement};

on_every_database! {
    nodes_are_listed_with_what_they_hold,
    a_retirement_covers_every_boot_and_what_it_held,
    a_node_that_comes_back_can_be_retired_again,
    a_retirement_and_a_commit_do_not_wait_for_ever,
}

async fn listed(world: &World) -> Vec<NodeView> {
    nodes::list(world.database.readers(), None, 100).await.unwrap()
}

async fn view(world: &World, node: NodeId) -> NodeView {
    listed(world).await.into_iter().find(|view| view.id == node).unwrap()
}

async fn retire(world: &World, node: NodeId) -> Option<Retirement> {
    let tx = world.database.begin().await.unwrap();
    let retirement = nodes::retire(&tx, node).await.unwrap();
    tx.commit().await.unwrap();
    retirement
}

/// When the boots of a node were retired, oldest boot first.
async fn retired_at(world: &World, node: NodeId) -> Vec<Option<i64>> {
    let sql = "SELECT retired_at_ms FROM node WHERE id = $1 ORDER BY boot";
    let rows = world.rows(sql, vec![node.as_uuid().into()]).await;
    rows.iter()
        .map(|row| row.try_get("", "retired_at_ms").unwrap())
        .collect()
}

async fn nodes_are_listed_with_what_they_hold(world: &World) {
    let (first, second) = (NodeId::generate(), NodeId::generate());
    let (ledger, before, _) = world.ledger_of(first, 4_000).await;
    let tenant = world.tenant(10_000).await;
    let open = ledger.hold(hold_request(tenant, 300)).await.unwrap();
    let more = ledger.hold(hold_request(tenant, 70)).await.unwrap();
    let (_, after, _) = world.ledger_of(second, 4_000).await;
    let found = listed(world).await;
    assert_eq!(found.iter().map(|node| node.id).collect::<Vec<_>>(), [second, first]);
    assert_eq!((found[0].newest_boot, found[0].boots), (after.boot, 1));
    assert_eq!(
        (found[0].open_holds, found[0].held.nanos(), found[0].retired_at),
        (0, 0, None)
    );
    assert_eq!(
        (found[1].newest_boot, found[1].open_holds, found[1].held.nanos()),
        (before.boot, 2, 370)
    );
    let committed = "SELECT MAX(last_commit_at_ms) FROM node";
    assert_eq!(
        found.iter().map(|node| node.last_commit_at.0).max(),
        Some(world.number(committed).await)
    );
    assert!(found[0].booted_at.unwrap() >= found[1].booted_at.unwrap());

    let readers = world.database.readers();
    assert_eq!(nodes::list(readers, None, 1).await.unwrap(), found[..1]);
    assert_eq!(nodes::list(readers, Some(second), 10).await.unwrap(), found[1..]);
    assert_eq!(nodes::list(readers, Some(first), 10).await.unwrap(), []);
    open.void(completed());
    more.void(completed());
    ledger.drain().await;
    assert_eq!(view(world, first).await.open_holds, 0);
}

async fn a_retirement_covers_every_boot_and_what_it_held(world: &World) {
    let (gone, bystander) = (NodeId::generate(), NodeId::generate());
    drop(world.ledger_of(gone, 4_000).await);
    let (ledger, newest, _) = world.ledger_of(gone, 4_000).await;
    let (other, ..) = world.ledger_of(bystander, 4_000).await;
    let tenant = world.tenant(10_000).await;
    let open = ledger.hold(hold_request(tenant, 300)).await.unwrap();
    let others = other.hold(hold_request(tenant, 50)).await.unwrap();
    let first = retire(world, gone).await.unwrap();
    assert!(first.is_new && first.retired_before.is_none());
    assert_eq!((first.holds_to_close, first.held_to_close.nanos()), (1, 300));
    assert_eq!((first.node.newest_boot, first.node.boots), (newest.boot, 2));
    let at = first.node.retired_at.unwrap();
    assert!(at >= first.node.last_commit_at);
    assert_eq!(retired_at(world, gone).await, [Some(at.0), Some(at.0)]);
    assert_eq!(retired_at(world, bystander).await, [None]);

    let again = retire(world, gone).await.unwrap();
    assert_eq!(
        (again.is_new, again.retired_before, &again.node),
        (false, Some(at), &first.node)
    );
    assert_eq!(retire(world, NodeId::generate()).await, None);
    open.void(completed());
    others.void(completed());
    ledger.drain().await;
    other.drain().await;
    assert_eq!(retire(world, gone).await.unwrap().holds_to_close, 0);
}

async fn a_node_that_comes_back_can_be_retired_again(world: &World) {
    let node = NodeId::generate();
    let (ledger, ..) = world.ledger_of(node, 4_000).await;
    let tenant = world.tenant(10_000).await;
    let first = retire(world, node).await.unwrap().node.retired_at.unwrap();
    // it was not gone: its holds of later are not covered by the word of before
    let past = "UPDATE node SET retired_at_ms = retired_at_ms - 1000";
    world.change(past, vec![]).await.unwrap();
    let open = ledger.hold(hold_request(tenant, 300)).await.unwrap();
    let second = retire(world, node).await.unwrap();
    assert!(second.is_new && second.node.retired_at.unwrap() >= first);
    assert_eq!((second.holds_to_close, second.held_to_close.nanos()), (1, 300));
    open.void(completed());
    ledger.drain().await;

    let (_, newest, _) = world.ledger_of(node, 4_000).await;
    let back = view(world, node).await;
    assert_eq!((back.newest_boot, back.retired_at), (newest.boot, None));
    let third = retire(world, node).await.unwrap();
    assert!(third.is_new && third.retired_before.is_none() && third.node.retired_at.is_some());
    assert_eq!(retired_at(world, node).await.iter().flatten().count(), 2);
}

async fn a_retirement_and_a_commit_do_not_wait_for_ever(world: &World) {
    let node = NodeId::generate();
    let (ledger, ..) = world.ledger_of(node, 4_000).await;
    let tenant = world.tenant(1_000_000).await;
    let holding = async {
        for _ in 0..20 {
            drop(ledger.hold(hold_request(tenant, 10)).await.unwrap());
        }
        ledger.drain().await;
    };
    let retiring = async {
        for _ in 0..20 {
            retire(world, node).await.unwrap();
        }
    };
    futures_util::future::join(holding, retiring).await;
    assert_eq!(view(world, node).await.open_holds, 0);
    assert_eq!(world.balance(tenant).await, (1_000_000, 0, 0));
}
