//! The node's own disk is full, or fails, when the database is away and the disk is all there is; and a database whose
//! commits are slow.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use domain::Amount;
use fault_proxy::CutKind;
use support::{Backend, PrivatePostgres, SmallDisk, TestApp, TestAppOptions, openai_body};

use crate::{
    faults::{OwnDatabase, dialects, id_of},
    faults_served::{
        Books, Got, assert_charged_for_what_was_served, begin_streams, finish_streams, price, wait_for_notes,
    },
    spools::{noted, wait_for_ends_on_disk},
};

fn cut_off(world: &OwnDatabase) {
    let network = world.network.handle();
    network.change(|faults| faults.refuse = true);
    network.break_open(CutKind::Rst);
}

async fn assert_refused(world: &OwnDatabase) {
    let answer = tokio::time::timeout(Duration::from_secs(20), world.app.client().openai(&openai_body(false)))
        .await
        .expect("it is refused soon, it does not wait for the database");
    assert_eq!(answer.status, 503, "{}", answer.text());
}

/// A node on a disk of its own, which is full when the database goes away.
async fn outage_on_a_full_disk(dies: bool) {
    if !Backend::run_is_shared() {
        return;
    }
    let Some(disk) = SmallDisk::mount(24) else {
        return;
    };
    let options = TestAppOptions {
        environment: vec![(
            "TRUERELAY__DATA__FOLDER".to_owned(),
            disk.path().join("node").display().to_string(),
        )],
        config: "[ledger]\nspool_reserved_mib = 2\n".to_owned(),
        ..TestAppOptions::default()
    };
    let mut world = OwnDatabase::with(PrivatePostgres::start(&[]).await, options).await;
    let price = price(&world.app).await;
    let streams = begin_streams(&world.app, 8).await;
    wait_for_notes(&world.app).await;
    let before = Books::of(&world.app).await;
    disk.fill();
    cut_off(&world);
    assert_refused(&world).await;
    let ids: Vec<String> = streams.iter().map(id_of).collect();
    let got = finish_streams(&world.app, streams).await;
    // in the room that was taken at the start
    wait_for_ends_on_disk(&disk.path().join("node"), ids.iter()).await;
    if dies {
        world.app.kill();
        world.network.handle().heal();
        let log = world.app.start_and_fail();
        assert!(log.contains("No space left on device"), "{log}");
        disk.make_room();
        world.app.restart().await;
    } else {
        world.network.handle().heal();
        // by itself, and while the disk is still full
        world.wait_for_database().await;
    }
    assert_charged_for_what_was_served(&world.app, &got, price, before).await;
    world.wait_until_served().await;
    if !dies {
        disk.make_room();
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_of_the_node_what_is_under_way_is_still_kept() {
    outage_on_a_full_disk(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_of_the_node_what_was_kept_outlives_the_node() {
    outage_on_a_full_disk(true).await;
}

/// From here on every `fdatasync` of this file by the process fails. Nothing, with a line for the report, where this
/// user may not or cannot.
fn fail_syncs(process: u32, file: &Path) -> Option<Child> {
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"])
        .arg("-P")
        .arg(file)
        .args(["-p", &process.to_string(), "-o", "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else {
        eprintln!("not run: there is no strace to make a disk fail with");
        return None;
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_traced(process) {
        if strace.try_wait().unwrap().is_some() {
            eprintln!("not run: this user may not trace a process, which is how a disk is made to fail");
            return None;
        }
        assert!(Instant::now() < deadline, "strace does not attach");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(strace)
}

/// Whether all threads of the process are traced.
fn is_traced(process: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let mut statuses = tasks
        .flatten()
        .map(|task| std::fs::read_to_string(task.path().join("status")));
    statuses.all(|status| status.is_ok_and(|status| !status.contains("TracerPid:\t0\n")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_fails_ends_and_what_it_had_under_way_is_recovered() {
    let Some(mut world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    let streams = begin_streams(&world.app, 4).await;
    wait_for_notes(&world.app).await;
    let noted = noted(&world).await;
    let mut spools = std::fs::read_dir(world.app.data_folder().join("spool")).unwrap();
    let spool = spools.next().unwrap().unwrap().path();
    let Some(mut strace) = fail_syncs(world.app.process().id(), &spool) else {
        finish_streams(&world.app, streams).await;
        return world.finish().await;
    };
    cut_off(&world);
    world.app.simulator.release("rest");
    // it must not go on with a disk of which nobody knows what it has
    let status = world.app.process().wait(Duration::from_secs(60));
    strace.wait().unwrap();
    assert!(!status.success(), "{status}");
    let log = world.app.process().log();
    assert!(log.contains("the spool cannot be written"), "{log}");
    let ids: Vec<String> = streams.iter().map(id_of).collect();
    drop(streams);
    world.network.handle().heal();
    world.app.restart().await;
    for id in ids {
        let closed = world.app.closed(&id).await;
        let charged = closed["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap().nanos();
        let is_whole = closed["reason"] == "completed" && charged == price;
        let is_recovered = closed["reason"] == "relay_crashed" && (noted[&id]..=price).contains(&charged);
        assert!(
            is_whole || is_recovered,
            "{} noted, {price} whole: {closed}",
            noted[&id]
        );
    }
    world.wait_until_served().await;
    world.finish().await;
}

/// The commit of a hold takes two seconds.
const SLOW_COMMIT: &str = "CREATE FUNCTION sleep_in_commit() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$; \
     CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON hold DEFERRABLE INITIALLY DEFERRED \
     FOR EACH ROW EXECUTE FUNCTION sleep_in_commit()";
const SLEEPING: &str =
    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

#[tokio::test(flavor = "multi_thread")]
async fn while_a_commit_is_slow_answers_wait_for_it_and_holds_are_kept() {
    const TAKEN_IN: &str = "SELECT (SELECT COUNT(*) FROM hold) + (SELECT COUNT(*) FROM charge)";
    let app = TestApp::start().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    // the next request is sent at once: its tenant is known to be rich
    let price = price(&app).await;
    let before = Books::of(&app).await;
    app.execute(SLOW_COMMIT).await;
    let sent = app.simulator.log().len();
    let taken_in = app.number(TAKEN_IN).await;
    let client = app.client();
    let call = tokio::spawn(async move {
        let (path, body) = dialects().into_iter().next().unwrap();
        client.begin(path, &body).await
    });
    app.wait_for_number(SLEEPING, 1).await;
    app.simulator.wait_until(|log| log.len() > sent).await;
    let has_begun = call.is_finished();
    let is_durable = app.number(TAKEN_IN).await > taken_in;
    assert!(
        is_durable || !has_begun,
        "not a byte of an answer before its hold is durable"
    );
    let response = call.await.unwrap();
    assert_eq!(app.number(TAKEN_IN).await, taken_in + 1, "by now it is");
    let got = Got::of(response).await;
    assert_eq!(got.status, 200);
    assert_charged_for_what_was_served(&app, &[got], price, before).await;
    app.finish().await;
}
