//! A database that is restored from a backup: no node starts on it before the archives were replayed or the rest was
//! declared lost, and afterwards the books are what they were.

use std::time::Duration;

use serde_json::Value;
use support::{Client, Process, TestApp, openai_body};

const CHARGED: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
const AVAILABLE: &str = "SELECT CAST(COALESCE(SUM(available), 0) AS BIGINT) FROM acct";
const LOGGED: &str = "SELECT COUNT(*) FROM request";

/// What a customer was told about a request: its id, its cost.
type Told = (String, Value);

/// Some requests that are charged.
async fn traffic(client: &Client, count: usize) -> Vec<Told> {
    let mut told = Vec::new();
    for _ in 0..count {
        let answer = client.openai(&openai_body(true)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.request_id();
        let closed = client.closed_request(&id).await;
        told.push((id, closed["cost_usd"].clone()));
    }
    told
}

/// What was there before the loss.
struct Before {
    standing: [i64; 3],
    /// Requests since the backup, which the backup does not know.
    since: Vec<Told>,
    /// Requests before it.
    earlier: Vec<Told>,
}

/// Traffic and a grant, a backup, more of both, and the database is the backup again.
async fn restored(app: &mut TestApp) -> Before {
    let earlier = traffic(&app.client(), 3).await;
    let backup = app.backup().await;
    let mut since = traffic(&app.client(), 5).await;
    app.admin.grant(&app.seeded.tenant, "1").await;
    since.extend(traffic(&app.client(), 2).await);
    stop(app.process());
    let standing = standing(app).await;
    app.restore(&backup);
    assert_ne!(self::standing(app).await, standing, "something was lost");
    Before {
        standing,
        since,
        earlier,
    }
}

fn stop(process: &mut Process) {
    process.signal("TERM");
    assert!(process.wait(Duration::from_secs(60)).success());
}

/// Every customer is told the same as before.
async fn assert_told_again(app: &TestApp, told: &[Told]) {
    for (id, cost) in told {
        assert_eq!(&app.closed(id).await["cost_usd"], cost, "{id}");
    }
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
    assert_eq!(standing(&app).await, before.standing);
    app.assert_books_are_clean();
    let (status, told) = app.command(&["ledger", "replay"]);
    assert!(status.success(), "a second time changes nothing: {told}");
    assert_eq!(standing(&app).await, before.standing);
    app.restart().await;
    assert_told_again(&app, &before.earlier).await;
    assert_told_again(&app, &before.since).await;
    app.admin.grant(&app.seeded.tenant, "1").await;
    traffic(&app.client(), 2).await;
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
    assert_eq!(standing(&app).await, before.standing);
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
    assert!(
        status.success() && told.contains("no archive of it was given"),
        "the loss is named: {told}"
    );
    app.assert_books_are_clean();
    assert!(app.number(CHARGED).await < before.standing[0]);
    app.restart().await;
    assert_told_again(&app, &before.earlier).await;
    for (id, _) in &before.since {
        let answer = app.client().get(&format!("/v1/requests/{id}")).await;
        assert_eq!(answer.status(), 404, "what is lost is charged to nobody: {id}");
    }
    app.admin.grant(&app.seeded.tenant, "1").await;
    traffic(&app.client(), 2).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archives_of_all_nodes_together_are_what_was_lost() {
    let mut app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let mut second = app.start_second_node().await;
    let there = second.client_with(&app.seeded.key);
    let mut told = traffic(&app.client(), 2).await;
    told.extend(traffic(&there, 2).await);
    let backup = app.backup().await;
    for _ in 0..3 {
        told.extend(traffic(&app.client(), 2).await);
        told.extend(traffic(&there, 2).await);
    }
    stop(app.process());
    stop(second.process());
    let before = standing(&app).await;
    app.restore(&backup);
    assert_refused(&mut app);
    let (status, named) = app.command(&["ledger", "replay"]);
    assert!(!status.success(), "{named}");
    assert!(
        named.contains("are missing") || named.contains("no archive of it was given"),
        "{named}"
    );
    assert_refused(&mut app);
    let archive = second.data_folder().join("archive");
    let (status, named) = app.command(&["ledger", "replay", archive.to_str().unwrap()]);
    assert!(status.success(), "{named}");
    assert_eq!(standing(&app).await, before);
    app.assert_books_are_clean();
    app.restart().await;
    second.supervise().await;
    assert_told_again(&app, &told).await;
    traffic(&there, 1).await;
    app.finish_second_node(second).await;
    app.finish().await;
}
