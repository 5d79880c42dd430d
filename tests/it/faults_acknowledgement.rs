//! A batch is committed, and its node is not told: the connection is gone before the acknowledgement. The node sends the
//! batch again under the same number and finds what it had come to: one hold, one charge, and no batch more. Its archive has
//! the batch all the same.

use std::time::{Duration, Instant};

use fault_proxy::CutKind;
use simulator::Faults;
use support::Backup;

use crate::{
    faults::{OwnDatabase, dialects},
    faults_served::{
        Books, Got, assert_charged_for_what_was_served, begin_streams, finish_streams, price, script, wait_for_notes,
    },
};

/// A commit that writes to one of these tables waits in its last step until the test lets it go on.
const GATE: &str = "CREATE TABLE gate_is_open (at TIMESTAMPTZ); \
     CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     LOOP EXIT WHEN EXISTS (SELECT 1 FROM gate_is_open); PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END $$";
const BEFORE_HOLD: &str = "CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT ON hold DEFERRABLE INITIALLY DEFERRED \
     FOR EACH ROW EXECUTE FUNCTION wait_in_commit()";
const BEFORE_END: &str = "CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT ON charge DEFERRABLE INITIALLY DEFERRED \
     FOR EACH ROW EXECUTE FUNCTION wait_in_commit()";
const CLOSE_GATE: &str = "DELETE FROM gate_is_open";
const OPEN_GATE: &str = "INSERT INTO gate_is_open VALUES (now())";
const IN_COMMIT: &str =
    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

const HELD: &str = "SELECT COUNT(*) FROM hold";
const ENDED: &str = "SELECT COUNT(*) FROM charge";
const CHARGED: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM charge";
/// Batches that the database has.
const WRITTEN: &str = "SELECT CAST(SUM(batch_no) AS BIGINT) FROM node";
/// Batches whose outcome the node knows, and those that it has sent again.
const KNOWN: &str = "truerelay_ledger_batch_items_count";
const RESENT: &str = "truerelay_ledger_batch_retries_total";

/// On a busy machine the node may take the database for away before it is told; its hold is withdrawn then.
const TRIES: usize = 5;

async fn counted(world: &OwnDatabase, metric: &str) -> u64 {
    let metrics = world.app.admin.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(metric));
    line.map_or(0, |value| value.trim().parse().expect("a count"))
}

/// The connection breaks while a commit is under way, which then is made. Answers how many batches there are by then.
async fn lose_acknowledgement(world: &OwnDatabase, committed: &'static str, count: i64) -> i64 {
    world.app.wait_for_number(IN_COMMIT, 1).await;
    let network = world.network.handle();
    network.change(|faults| faults.refuse = true);
    network.break_open(CutKind::Rst);
    world.app.execute(OPEN_GATE).await;
    world.app.wait_for_number(committed, count).await;
    let written = world.app.number(WRITTEN).await;
    network.heal();
    written
}

/// The node has sent the batch again and knows what it came to; that was no other batch.
async fn assert_found_again(world: &OwnDatabase, known: u64, resent: u64, written: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while counted(world, KNOWN).await == known {
        assert!(
            Instant::now() < deadline,
            "the node never learns what became of its batch"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(counted(world, RESENT).await > resent, "it was sent again");
    assert_eq!(world.app.number(WRITTEN).await, written, "and was not written again");
}

/// A backup from before and the archive together are what there was.
async fn assert_archived(world: &mut OwnDatabase, backup: &Backup) {
    world.app.process().signal("TERM");
    assert!(world.app.process().wait(Duration::from_secs(60)).success());
    let charged = world.app.number(CHARGED).await;
    world.app.restore(backup);
    assert!(world.app.number(CHARGED).await < charged, "something was lost");
    let (status, told) = world.app.command(&["ledger", "replay"]);
    assert!(status.success(), "{told}");
    assert_eq!(world.app.number(CHARGED).await, charged, "{told}");
    world.app.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_acknowledgement_is_lost_is_placed_once() {
    let Some(mut world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    world.app.wait_for_holds(0).await;
    let backup = world.app.backup().await;
    world.app.execute(GATE).await;
    world.app.execute(BEFORE_HOLD).await;
    for attempt in 1.. {
        assert!(attempt <= TRIES, "the database seems away again and again");
        world.app.wait_for_holds(0).await;
        world.app.execute(CLOSE_GATE).await;
        let before = Books::of(&world.app).await;
        let (known, resent) = (counted(&world, KNOWN).await, counted(&world, RESENT).await);
        // nothing comes of it that would be noted before the gate is opened
        let faults = Faults {
            hold_before_head: Some("head".to_owned()),
            ..Faults::default()
        };
        world.app.simulator.reset();
        script(&world.app, faults, None);
        let client = world.app.client();
        let call = tokio::spawn(async move {
            let (path, body) = dialects().into_iter().next().unwrap();
            Got::of(client.begin(path, &body).await).await
        });
        let written = lose_acknowledgement(&world, HELD, 1).await;
        assert_found_again(&world, known, resent, written).await;
        world.app.simulator.release("head");
        let got = call.await.unwrap();
        let is_served = got.status == 200;
        assert_charged_for_what_was_served(&world.app, &[got], price, before).await;
        if is_served {
            break;
        }
    }
    assert_archived(&mut world, &backup).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_acknowledgement_is_lost_is_charged_once() {
    let Some(mut world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    world.app.wait_for_holds(0).await;
    let backup = world.app.backup().await;
    world.app.execute(GATE).await;
    world.app.execute(BEFORE_END).await;
    let before = Books::of(&world.app).await;
    let ended = world.app.number(ENDED).await;
    let streams = begin_streams(&world.app, 1).await;
    // what was read so far is noted: the end is the next thing to be committed
    wait_for_notes(&world.app).await;
    let finish = finish_streams(&world.app, streams);
    let lose = async {
        world.app.wait_for_number(IN_COMMIT, 1).await;
        // nothing else is under way
        let (known, resent) = (counted(&world, KNOWN).await, counted(&world, RESENT).await);
        let written = lose_acknowledgement(&world, ENDED, ended + 1).await;
        assert_found_again(&world, known, resent, written).await;
    };
    let (got, ()) = tokio::join!(finish, lose);
    assert_charged_for_what_was_served(&world.app, &got, price, before).await;
    assert_eq!(world.app.number(ENDED).await, ended + 1);
    assert_archived(&mut world, &backup).await;
    world.finish().await;
}
