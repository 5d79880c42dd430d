//! Complete archives.

use std::time::Duration;

use super::{
    history::History,
    tables::{assert_same, rows_of},
};
use crate::{
    LedgerError,
    archive::{ReplayOutcome, refuse_restored, replay},
    movements::{self, GrantKind},
    tests::world::World,
};

on_every_database! {
    a_replay_brings_everything_back_row_by_row,
    a_replay_that_is_interrupted_is_begun_again,
    a_restored_database_is_recognised_and_gated,
    a_replay_on_a_database_that_lacks_nothing_changes_nothing,
}

async fn a_replay_brings_everything_back_row_by_row(world: &World) {
    for seed in 1..=4 {
        let mut history = History::begin(world, 3, seed).await;
        let own = history.nodes[0].id;
        history.go_on(60).await;
        let backup = world.backup().await;
        history.go_on(150).await;
        history.stop().await;
        let expected = rows_of(world).await;
        assert!(rows_of(&backup).await != expected, "something was lost");
        let corrected = |kind: &str| expected["tx"].iter().any(|line| line.contains(kind));
        assert!(
            corrected("request_refund") || corrected("true_up"),
            "corrections are among it"
        );
        for _ in 0..2 {
            let order = history.order(own);
            assert!(order.archives.len() > 6, "{:?}", order.archives);
            let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
            assert_eq!(report.outcome, ReplayOutcome::Complete, "{report:?}");
            assert_same(&rows_of(&backup).await, &expected);
        }
        refuse_restored(&backup.database, &history.archive_folder(own), own)
            .await
            .unwrap();
        backup.end().await;
        close_open_holds(&mut history).await;
    }
}

/// So that the next history of the same world does not meet them.
async fn close_open_holds(history: &mut History<'_>) {
    let sql = "UPDATE node SET retired_at_ms = 9000000000000";
    history.world.change(sql, vec![]).await.unwrap();
    history.add_node(domain::NodeId::generate(), 0).await;
    history.nodes[0].ledger.close_abandoned_holds().await.unwrap();
    history.stop().await;
}

async fn a_replay_that_is_interrupted_is_begun_again(world: &World) {
    let mut history = History::begin(world, 2, 11).await;
    let own = history.nodes[0].id;
    let backup = world.backup().await;
    history.go_on(1_500).await;
    history.stop().await;
    let expected = rows_of(world).await;
    let order = history.order(own);
    for _ in 0..10 {
        let limit = Duration::from_millis(history.dice.below(60) + 1);
        let cut = replay(&backup.database, &*backup.rider, &order, |_| {});
        // dropped wherever it is, in the middle of a transaction too
        drop(tokio::time::timeout(limit, cut).await);
    }
    let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    assert_eq!(report.outcome, ReplayOutcome::Complete, "{report:?}");
    assert_same(&rows_of(&backup).await, &expected);
    backup.end().await;
    close_open_holds(&mut history).await;
}

async fn a_restored_database_is_recognised_and_gated(world: &World) {
    let mut history = History::begin(world, 1, 5).await;
    let own = history.nodes[0].id;
    history.go_on(20).await;
    let backup = world.backup().await;
    let tenant = history.tenants[0];
    // the only thing that a backup can lack is a movement, too
    history.grant(tenant, GrantKind::Promotion, 7).await.unwrap();
    history.stop().await;
    let folder = history.archive_folder(own);
    refuse_restored(&world.database, &folder, own).await.unwrap();
    for _ in 0..2 {
        let refusal = refuse_restored(&backup.database, &folder, own).await.unwrap_err();
        assert!(matches!(refusal, LedgerError::AwaitsReplay(_)), "{refusal}");
        assert!(refusal.to_string().contains("truerelay ledger replay"), "{refusal}");
    }
    assert_eq!(
        backup.number("SELECT COUNT(*) FROM restore_gate").await,
        1,
        "it is closed once"
    );
    let refused = backup.grant(tenant, GrantKind::Promotion, 9, "while closed").await;
    assert!(matches!(refused, Err(LedgerError::AwaitsReplay(_))), "{refused:?}");
    let tx = backup.database.begin().await.unwrap();
    let refused = movements::open_account(&tx, domain::TenantId::generate()).await;
    assert!(matches!(refused, Err(LedgerError::AwaitsReplay(_))), "{refused:?}");
    tx.rollback().await.unwrap();
    let order = history.order(own);
    replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    refuse_restored(&backup.database, &folder, own).await.unwrap();
    backup.grant(tenant, GrantKind::Promotion, 9, "after it").await.unwrap();
    assert_eq!(
        backup
            .number("SELECT COUNT(*) FROM audit WHERE action = 'ledger.replay'")
            .await,
        1
    );
    backup.end().await;
    close_open_holds(&mut history).await;
}

async fn a_replay_on_a_database_that_lacks_nothing_changes_nothing(world: &World) {
    let mut history = History::begin(world, 2, 23).await;
    let own = history.nodes[0].id;
    history.go_on(80).await;
    history.stop().await;
    let before = rows_of(world).await;
    let order = history.order(own);
    let report = replay(&world.database, &*world.rider, &order, |_| {}).await.unwrap();
    assert_eq!(
        (report.outcome, report.batches),
        (ReplayOutcome::Complete, 0),
        "{report:?}"
    );
    assert_same(&rows_of(world).await, &before);
    close_open_holds(&mut history).await;
}
