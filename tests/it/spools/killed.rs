//! A node that dies while it writes what an earlier boot had kept on disk, and dies again: the books are those of a node
//! that was left alone.

use std::time::{Duration, Instant};

use support::Dice;

use super::Kept;

const STREAMS: usize = 40;
/// Each charge takes its time, so that writing the spool takes longer than a kill needs to fall into it.
const SLOW: &str = "CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$; \
     CREATE TRIGGER slow AFTER INSERT ON charge FOR EACH ROW EXECUTE FUNCTION take_long()";
const SLEEPING: &str =
    "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

async fn killed_again_and_again(kills: u64) {
    let Some(mut kept) = Kept::make(STREAMS, SLOW).await else {
        return;
    };
    kept.world.app.restart().await;
    kept.world.app.wait_for_holds(0).await;
    let undisturbed = kept.books().await;
    assert!(!kept.spool().exists(), "all of it is in the database");
    for id in kept.requests.keys() {
        assert_eq!(kept.world.app.closed(id).await["reason"], "completed", "{id}");
    }
    let mut dice = Dice::of_run();
    let (mut done, mut met) = (0, 0);
    // about half of what writing takes: the look into the database takes its time, too
    let longest_ms = u64::try_from(STREAMS).unwrap() * 25;
    while done < kills {
        kept.world.app.kill();
        kept.put_back();
        // up to three boots in a row do not live to the end of it
        for _ in 0..(1 + dice.below(3)).min(kills - done) {
            kept.world.app.begin_restart();
            wait_for_writing(&mut kept).await;
            dice.pause(longest_ms).await;
            kept.world.app.kill();
            done += 1;
            met += u64::from(kept.spool().exists());
        }
        kept.world.app.restart().await;
        kept.world.app.wait_for_holds(0).await;
        assert!(!kept.spool().exists(), "all of it is in the database");
        assert_eq!(kept.books().await, undisturbed, "after {done} kills");
        kept.world.app.assert_books_are_clean();
    }
    eprintln!("{met} of {done} kills met a spool that was being written");
    assert!(
        met * 2 >= done,
        "{met} of {done} kills met a spool that was being written"
    );
    kept.world.wait_until_served().await;
    kept.world.finish().await;
}

/// Until the spool is being written, or is by now: an earlier boot may have brought it to the database.
async fn wait_for_writing(kept: &mut Kept) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while kept.spool().exists() && kept.world.app.number(SLEEPING).await == 0 {
        assert!(
            Instant::now() < deadline,
            "the spool is not written:\n{}",
            kept.world.app.process().log()
        );
        if kept.world.app.process().has_ended() {
            kept.world.app.begin_restart();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_whose_node_is_killed_while_it_is_written_is_written_once() {
    killed_again_and_again(3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make faults"]
async fn a_spool_whose_node_is_killed_fifty_times_is_written_once() {
    killed_again_and_again(50).await;
}
