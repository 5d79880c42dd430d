//! A database that is restored from a backup: no node starts on it before the archives were replayed or the rest was
//! declared lost, and afterwards the books are what they were.

use std::time::Duration;

use support::{TestApp, openai_body};

const CHARGED: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
const AVAILABLE: &str = "SELECT CAST(COALESCE(SUM(available), 0) AS BIGINT) FROM acct";
const LOGGED: &str = "SELECT COUNT(*) FROM request";

/// Some requests that are charged.
async fn traffic(app: &TestApp, count: usize) {
    for _ in 0..count {
        let answer = app.client().openai(&openai_body(true)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        app.closed(&answer.request_id()).await;
    }
}

/// Traffic and a grant, a backup, more of both, and the database is the backup again. Answers what was there before.
async fn restored(app: &mut TestApp) -> [i64; 3] {
    traffic(app, 3).await;
    let backup = app.backup().await;
    traffic(app, 5).await;
    app.admin.grant(&app.seeded.tenant, "1").await;
    traffic(app, 2).await;
    app.process().signal("TERM");
    assert!(app.process().wait(Duration::from_secs(60)).success());
    let before = standing(app).await;
    app.restore(&backup);
    assert_ne!(standing(app).await, before, "something was lost");
    before
}

async fn standing(app: &TestApp) -> [i64; 3] {
    [
        app.number(CHARGED).await,
        app.number(AVAILABLE).await,
        app.number(LOGGED).await,
    ]
}

/// A node does not start, and says what to do.
fn assert_refused(app: &mut TestApp) {
    let log = app.start_and_fail();
    assert!(log.contains("restored from a backup"), "{log}");
    assert!(log.contains("truerelay ledger replay"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_waits_for_its_archive_and_is_then_what_it_was() {
    let mut app = TestApp::start().await;
    let before = restored(&mut app).await;
    assert_refused(&mut app);
    assert_refused(&mut app);
    let (status, told) = app.command(&["ledger", "replay"]);
    assert!(status.success(), "{told}");
    assert_eq!(standing(&app).await, before);
    app.assert_books_are_clean();
    let (status, told) = app.command(&["ledger", "replay"]);
    assert!(status.success(), "a second time changes nothing: {told}");
    assert_eq!(standing(&app).await, before);
    app.restart().await;
    app.admin.grant(&app.seeded.tenant, "1").await;
    traffic(&app, 2).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_is_run_again() {
    let mut app = TestApp::start().await;
    let before = restored(&mut app).await;
    for kill_after_ms in [5, 20, 40, 60, 80, 100, 120, 140, 160, 180] {
        app.command_killed_after(&["ledger", "replay"], Duration::from_millis(kill_after_ms));
    }
    let (status, told) = app.command(&["ledger", "replay"]);
    assert!(status.success(), "{told}");
    assert_eq!(standing(&app).await, before);
    app.restart().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_archive_the_rest_is_declared_lost_and_nobody_is_charged_more() {
    let mut app = TestApp::start().await;
    let before = restored(&mut app).await;
    assert_refused(&mut app);
    let archive = app.data_folder().join("archive");
    std::fs::remove_dir_all(&archive).expect("the archive was there");
    assert_refused(&mut app);
    let (status, told) = app.command(&["ledger", "replay"]);
    assert!(
        !status.success() && told.contains("no archive of it was given"),
        "{told}"
    );
    let (status, told) = app.command(&["ledger", "replay", "--declare-lost"]);
    assert!(!status.success() && told.contains("--reason"), "{told}");
    assert_refused(&mut app);
    let declare = ["ledger", "replay", "--declare-lost", "--reason", "the disk is gone"];
    let (status, told) = app.command(&declare);
    assert!(status.success(), "{told}");
    app.assert_books_are_clean();
    assert!(app.number(CHARGED).await < before[0]);
    app.restart().await;
    app.admin.grant(&app.seeded.tenant, "1").await;
    traffic(&app, 2).await;
    app.finish().await;
}
