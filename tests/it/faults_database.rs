//! The database dies in the middle of a batch, and the database lives and cannot: no connections left, deadlocks, a full
//! disk. Requests wait or are refused; whoever was served is charged once, everybody else nothing.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fault_proxy::CutKind;
use futures_util::future::join_all;
use sqlx::{Connection, Executor, PgConnection};
use support::{Dice, PrivatePostgres, SmallDisk};

use crate::{
    faults::OwnDatabase,
    faults_served::{Books, Got, assert_charged_for_what_was_served, begin_streams, finish_streams, price, stream},
};

const SLEEP: &str = "CREATE FUNCTION take_long() RETURNS trigger AS \
    'BEGIN PERFORM pg_sleep(2); RETURN NULL; END' LANGUAGE plpgsql";
const SLEEPING: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

/// Kills the database while a transaction of the ledger is between its first statement and its commit.
async fn killed_while(slow: &'static str, quick: &'static str) {
    let Some(world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    world.app.execute(SLEEP).await;
    for _ in 0..2 {
        let before = Books::of(&world.app).await;
        world.app.execute(slow).await;
        let customers = join_all((0..8).map(|_| stream(&world.app)));
        let disaster = async {
            world.app.wait_for_number(SLEEPING, 1).await;
            world.postgres.kill();
            world.postgres.restart().await;
            world.app.execute(quick).await;
        };
        let (answers, ()) = tokio::join!(customers, disaster);
        assert_charged_for_what_was_served(&world.app, &answers, price, before).await;
        world.wait_until_served().await;
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_killed_in_the_middle_of_a_batch_of_holds_comes_back_without_a_trace() {
    killed_while(
        "CREATE TRIGGER take_long AFTER INSERT ON hold EXECUTE FUNCTION take_long()",
        "DROP TRIGGER IF EXISTS take_long ON hold",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_killed_in_the_middle_of_a_batch_of_ends_charges_each_once() {
    killed_while(
        "CREATE TRIGGER take_long AFTER INSERT ON charge EXECUTE FUNCTION take_long()",
        "DROP TRIGGER IF EXISTS take_long ON charge",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_connections_to_the_database_requests_are_refused_until_there_are_some() {
    let Some(world) = OwnDatabase::start(&["max_connections=20"]).await else {
        return;
    };
    let price = price(&world.app).await;
    let streams = begin_streams(&world.app, 4).await;
    let before = Books::of(&world.app).await;
    // somebody else takes all connections while the node has none
    let network = world.network.handle();
    network.change(|faults| faults.refuse = true);
    network.break_open(CutKind::Rst);
    let mut hogs = take_all_connections(&world.postgres).await;
    let watcher = hogs.last_mut().unwrap();
    while number(
        watcher,
        "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'truerelay'",
    )
    .await
        > 0
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hogs.extend(take_all_connections(&world.postgres).await);
    network.heal();

    let refused = stream(&world.app).await;
    assert_eq!((refused.status, refused.words), (503, 0));
    let mut answers = finish_streams(&world.app, streams).await;
    answers.push(refused);
    for hog in hogs {
        hog.close().await.unwrap();
    }
    world.wait_for_database().await;
    assert_charged_for_what_was_served(&world.app, &answers, price, before).await;
    world.wait_until_served().await;
    world.finish().await;
}

/// Connects until the server has no room.
async fn take_all_connections(postgres: &PrivatePostgres) -> Vec<PgConnection> {
    let mut taken = Vec::new();
    loop {
        match PgConnection::connect(&postgres.url("postgres")).await {
            Ok(connection) => taken.push(connection),
            Err(error) => {
                let code = error
                    .as_database_error()
                    .and_then(|error| error.code().map(|code| code.into_owned()));
                assert_eq!(code.as_deref(), Some("53300"), "{error}");
                return taken;
            }
        }
    }
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_tried_again_and_nothing_is_charged_twice() {
    // found before the ledger's own limit for locks, 200 ms, has passed
    let Some(world) = OwnDatabase::start(&["deadlock_timeout=100ms"]).await else {
        return;
    };
    let price = price(&world.app).await;
    let mut intruder = world.connect().await;
    // the intruder is patient: the ledger's transaction is the one that is ended
    intruder.execute("SET deadlock_timeout = '60s'").await.unwrap();
    const FOUND: &str = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    const WAITING: &str = "SELECT COUNT(*) FROM pg_stat_activity \
        WHERE application_name = 'truerelay' AND wait_event_type = 'Lock'";
    let mut rounds = 0;
    while world.app.number(FOUND).await < 3 {
        rounds += 1;
        assert!(rounds <= 40, "the locks of the two never crossed");
        let before = Books::of(&world.app).await;
        // against the order of everybody else: lots before accounts
        intruder.execute("BEGIN").await.unwrap();
        intruder.execute("SELECT 1 FROM lot FOR UPDATE").await.unwrap();
        let customers = join_all((0..4).map(|_| stream(&world.app)));
        let crossing = async {
            while number(&mut intruder, WAITING).await == 0 {
                tokio::task::yield_now().await;
            }
            intruder.execute("SELECT 1 FROM acct FOR UPDATE").await.unwrap();
            intruder.execute("ROLLBACK").await.unwrap();
        };
        let (answers, ()) = tokio::join!(customers, crossing);
        assert!(
            answers.iter().all(|got| got.status == 200),
            "a deadlock is nobody's refusal"
        );
        assert_charged_for_what_was_served(&world.app, &answers, price, before).await;
    }
    drop(intruder);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_requests_are_refused_until_there_is_room() {
    if !support::Backend::run_is_shared() {
        return;
    }
    let Some(disk) = SmallDisk::mount(96) else {
        return;
    };
    let world = OwnDatabase::on(PrivatePostgres::start_on_disk(&disk).await).await;
    let price = price(&world.app).await;
    let streams = begin_streams(&world.app, 4).await;
    let before = Books::of(&world.app).await;
    disk.fill();
    let mut answers = Vec::new();
    // what was allocated before is used up first
    while answers.last().is_none_or(|got: &Got| got.status == 200) {
        assert!(answers.len() < 2_000, "the disk is not full");
        answers.push(stream(&world.app).await);
        disk.fill();
    }
    answers.extend(finish_streams(&world.app, streams).await);
    disk.make_room();
    if world.postgres.has_ended() {
        // without room for its log PostgreSQL gives up
        world.postgres.restart().await;
    }
    world.wait_for_database().await;
    assert_charged_for_what_was_served(&world.app, &answers, price, before).await;
    world.wait_until_served().await;
    world.finish().await;
}

/// Customers who never pause while the database is killed again and again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make faults"]
async fn a_database_killed_at_random_under_load_charges_each_answer_once() {
    const ROUNDS: usize = 20;
    const CUSTOMERS: usize = 12;
    let Some(world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    let before = Books::of(&world.app).await;
    let is_over = AtomicBool::new(false);
    let customer = async || {
        let mut answers = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            answers.push(stream(&world.app).await);
        }
        answers
    };
    let disasters = async {
        let mut dice = Dice::of_run();
        for _ in 0..ROUNDS {
            dice.pause(2_200).await;
            world.postgres.kill();
            dice.pause(6_000).await;
            world.postgres.restart().await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    let (answers, ()) = tokio::join!(join_all((0..CUSTOMERS).map(|_| customer())), disasters);
    let answers: Vec<Got> = answers.into_iter().flatten().collect();
    let refused = answers.iter().filter(|got| got.status == 503).count();
    assert!(
        refused > 0 && refused < answers.len(),
        "{refused} of {} were refused",
        answers.len()
    );
    world.wait_for_database().await;
    assert_charged_for_what_was_served(&world.app, &answers, price, before).await;
    world.wait_until_served().await;
    world.finish().await;
}
