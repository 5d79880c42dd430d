//! Archives with gaps: the loss is named, nobody is charged more than before, and what is declared lost stays lost.

use std::collections::BTreeSet;

use super::{
    history::History,
    tables::{assert_same, rows_of},
};
use crate::{
    LedgerError,
    archive::{Loss, ReplayOrder, ReplayOutcome, refuse_restored, replay},
    movements::GrantKind,
    tests::world::World,
};

on_every_database! {
    a_lost_segment_is_named_and_nobody_is_charged_more,
    a_damaged_segment_is_named,
    a_torn_end_is_left_out_whole,
    an_end_before_a_declaration_is_missed,
    without_any_archive_the_rest_is_declared_lost,
    what_was_declared_lost_stays_lost_after_the_next_restore,
    an_account_that_went_on_after_the_restore_is_not_overwritten,
}

/// Takes one segment out of the middle of the history behind the backup.
fn without_one(order: &mut ReplayOrder, before: &BTreeSet<std::path::PathBuf>) -> std::path::PathBuf {
    order.archives.sort();
    let later: Vec<usize> = (0..order.archives.len())
        .filter(|at| !before.contains(&order.archives[*at]))
        .collect();
    order.archives.remove(later[later.len() / 3])
}

/// Every charge of the restored database is one of the original.
async fn assert_nobody_is_charged_more(restored: &World, original: &World) {
    let (restored, original) = (rows_of(restored).await, rows_of(original).await);
    let original: BTreeSet<&String> = original["charge"].iter().collect();
    assert!(restored["charge"].iter().all(|row| original.contains(row)));
}

async fn a_lost_segment_is_named_and_nobody_is_charged_more(world: &World) {
    for seed in [31, 32, 33] {
        let mut history = History::begin(world, 2, seed).await;
        let own = history.nodes[0].id;
        history.go_on(30).await;
        let backup = world.backup().await;
        let before: BTreeSet<_> = history.segments().into_iter().collect();
        history.go_on(200).await;
        history.stop().await;
        let mut order = history.order(own);
        without_one(&mut order, &before);
        let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
        assert_eq!(report.outcome, ReplayOutcome::Incomplete, "{report:?}");
        // a segment of movements alone takes no batch along
        assert!(!report.losses.named.is_empty(), "{report:?}");
        let behind: u64 = report
            .losses
            .named
            .iter()
            .filter_map(|loss| match loss {
                Loss::Versions { behind, .. } => Some(behind.parts),
                _ => None,
            })
            .sum();
        assert_eq!(behind, report.parts.behind);
        assert_nobody_is_charged_more(&backup, world).await;
        let tenant = history.tenants[0];
        let refused = backup.grant(tenant, GrantKind::Promotion, 9, "while closed").await;
        assert!(matches!(refused, Err(LedgerError::AwaitsReplay(_))), "{refused:?}");

        // the missing segment is found after all
        let found = history.order(own);
        let other = backup.backup().await;
        let report = replay(&other.database, &*other.rider, &found, |_| {}).await.unwrap();
        assert_eq!(report.outcome, ReplayOutcome::Complete, "{report:?}");
        assert_same(&rows_of(&other).await, &rows_of(world).await);
        other.end().await;

        // or it is not
        order.declare_lost = Some("the disk is gone".to_owned());
        let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
        assert_eq!(report.outcome, ReplayOutcome::DeclaredLost, "{report:?}");
        backup.assert_clean().await;
        assert_nobody_is_charged_more(&backup, world).await;
        backup.grant(tenant, GrantKind::Promotion, 9, "after it").await.unwrap();
        refuse_restored(&backup.database, &history.archive_folder(own), own)
            .await
            .unwrap();
        assert_eq!(
            backup
                .number("SELECT COUNT(*) FROM audit WHERE action = 'ledger.declare_lost'")
                .await,
            1
        );
        backup.end().await;
    }
}

async fn a_damaged_segment_is_named(world: &World) {
    let mut history = History::begin(world, 1, 41).await;
    let own = history.nodes[0].id;
    let backup = world.backup().await;
    history.go_on(120).await;
    history.stop().await;
    let segments = history.segments();
    let damaged = &segments[segments.len() / 2];
    let mut bytes = std::fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(damaged, bytes).unwrap();
    let mut order = history.order(own);
    order.declare_lost = Some("a bad sector".to_owned());
    let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    let named = report
        .losses
        .named
        .iter()
        .any(|loss| matches!(loss, Loss::Damage { segment, .. } if segment == damaged));
    assert!(named, "{report:?}");
    assert_nobody_is_charged_more(&backup, world).await;
    backup.end().await;
}

/// A machine that loses its power may leave a batch of which only the first parts were written.
async fn a_torn_end_is_left_out_whole(world: &World) {
    let mut history = History::begin(world, 1, 43).await;
    let own = history.nodes[0].id;
    let backup = world.backup().await;
    history.go_on(60).await;
    history.stop().await;
    let number = |path: &std::path::PathBuf| {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        stem.rsplit_once('-').unwrap().1.parse::<u32>().unwrap()
    };
    let segments = history.segments();
    let last = segments.iter().max_by_key(|path| number(path)).unwrap();
    let bytes = std::fs::read(last).unwrap();
    std::fs::write(last, &bytes[..bytes.len() - 3]).unwrap();
    let order = history.order(own);
    let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    assert_eq!(report.outcome, ReplayOutcome::Complete, "{report:?}");
    let batches = "SELECT CAST(SUM(batch_no) AS BIGINT) FROM node";
    assert_eq!(backup.number(batches).await, world.number(batches).await - 1);
    backup.assert_clean().await;
    backup.end().await;
}

async fn an_end_before_a_declaration_is_missed(world: &World) {
    let mut history = History::begin(world, 1, 47).await;
    let own = history.nodes[0].id;
    let tenant = history.tenants[0];
    let backup = world.backup().await;
    history.grant(tenant, GrantKind::Promotion, 5).await.unwrap();
    history.stop().await;
    // something was declared lost later, and of the time before it nothing is left
    let mut order = history.order(own);
    order.archives.clear();
    order.declare_lost = Some("gone".to_owned());
    replay(&world.database, &*world.rider, &order, |_| {}).await.unwrap();
    let segments = history.segments();
    let declaration = segments
        .iter()
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    let order = ReplayOrder {
        archives: vec![declaration.unwrap().clone()],
        declare_lost: None,
        ..order
    };
    let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    let named = report
        .losses
        .named
        .iter()
        .any(|loss| matches!(loss, Loss::Versions { tenant: of, from: 2, .. } if *of == tenant));
    assert!(named && report.outcome == ReplayOutcome::Incomplete, "{report:?}");
    backup.end().await;
}

async fn without_any_archive_the_rest_is_declared_lost(world: &World) {
    let mut history = History::begin(world, 2, 51).await;
    let own = history.nodes[0].id;
    history.go_on(60).await;
    let backup = world.backup().await;
    history.go_on(60).await;
    history.stop().await;
    refuse_restored(&backup.database, &history.archive_folder(own), own)
        .await
        .unwrap_err();
    let mut order = history.order(own);
    order.archives.clear();
    let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    assert_eq!(report.outcome, ReplayOutcome::Incomplete);
    let missing = report
        .losses
        .named
        .iter()
        .filter(|loss| matches!(loss, Loss::NoArchive { .. }))
        .count();
    assert_eq!(missing, 2, "both nodes were writing: {report:?}");
    let balances = rows_of(&backup).await;
    order.declare_lost = Some("both disks are gone".to_owned());
    let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    assert_eq!(report.outcome, ReplayOutcome::DeclaredLost);
    assert_eq!(rows_of(&backup).await["charge"], balances["charge"]);
    // the archive that is still there belongs to what was given up
    let line = refuse_restored(&backup.database, &history.archive_folder(own), own)
        .await
        .unwrap();
    assert!(line > 0);
    backup.end().await;
}

async fn what_was_declared_lost_stays_lost_after_the_next_restore(world: &World) {
    let mut history = History::begin(world, 2, 61).await;
    let own = history.nodes[0].id;
    history.go_on(30).await;
    let (first, second) = (world.backup().await, world.backup().await);
    let third = world.backup().await;
    let before: BTreeSet<_> = history.segments().into_iter().collect();
    history.go_on(150).await;
    history.stop().await;
    let mut order = history.order(own);
    let lost = without_one(&mut order, &before);
    order.declare_lost = Some("gone".to_owned());
    let report = replay(&first.database, &*first.rider, &order, |_| {}).await.unwrap();
    assert_eq!(report.outcome, ReplayOutcome::DeclaredLost, "{report:?}");
    assert!(report.parts.behind > 0, "{report:?}");

    // life goes on, and the same old backup has to be restored again
    let line = refuse_restored(&first.database, &history.archive_folder(own), own)
        .await
        .unwrap();
    let mut later = history.moved_to(&first);
    later.add_node(own, line).await;
    later.go_on(80).await;
    later.stop().await;
    let expected = rows_of(&first).await;
    let refusal = refuse_restored(&second.database, &later.archive_folder(own), own).await;
    assert!(matches!(refusal, Err(LedgerError::AwaitsReplay(_))), "{refusal:?}");
    let mut order = later.order(own);
    order.archives.retain(|segment| *segment != lost);
    order.declare_lost = Some("the same".to_owned());
    replay(&second.database, &*second.rider, &order, |_| {}).await.unwrap();
    let mut found = rows_of(&second).await;
    // the batches of the lost segment are declared lost once more, which begins another line
    for (rows, of) in [(&mut found, &second), (&mut expected.clone(), &first)] {
        assert!(rows["acct"].len() > 3);
        of.assert_clean().await;
    }
    let mut expected = expected;
    found.remove("acct");
    expected.remove("acct");
    assert_same(&found, &expected);

    // should the lost segment be found now, it changes no customer's balance
    let order = later.order(own);
    replay(&third.database, &*third.rider, &order, |_| {}).await.unwrap();
    let mut found = rows_of(&third).await;
    let mut expected = rows_of(&first).await;
    // refusals of a tenant whose account was lost moved nothing, and may be known to either alone
    for rows in [&mut found, &mut expected] {
        rows.entry("charge")
            .or_default()
            .retain(|line| !line.contains("|0|0|0|0|0|"));
    }
    let kept = |table: &&str| ["lot", "charge", "budget", "hold", "claim"].contains(table);
    let kept = expected.into_iter().filter(|(table, _)| kept(table)).collect();
    assert_same(&found, &kept);
    // both know of the declarations, so that nodes start on them
    for database in [&second, &third] {
        let known = refuse_restored(&database.database, &later.archive_folder(own), own).await;
        assert!(known.unwrap() >= line);
    }
    third.end().await;
    second.end().await;
    first.end().await;
}

async fn an_account_that_went_on_after_the_restore_is_not_overwritten(world: &World) {
    let mut history = History::begin(world, 1, 71).await;
    let own = history.nodes[0].id;
    let tenant = history.tenants[0];
    let backup = world.backup().await;
    history.grant(tenant, GrantKind::Promotion, 5).await.unwrap();
    history.grant(tenant, GrantKind::Promotion, 6).await.unwrap();
    history.stop().await;
    // a node that does not know of the restore
    backup
        .grant(tenant, GrantKind::Promotion, 1_000, "meanwhile")
        .await
        .unwrap();
    let order = history.order(own);
    let report = replay(&backup.database, &*backup.rider, &order, |_| {}).await.unwrap();
    assert_eq!(report.outcome, ReplayOutcome::Incomplete);
    assert!(
        matches!(report.losses.named[..], [Loss::OtherHistory { .. }]),
        "{report:?}"
    );
    assert_eq!(backup.balance(tenant).await, (6_000, 0, 0));
    backup.end().await;
}
