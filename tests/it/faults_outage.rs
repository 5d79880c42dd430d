//! The database falls silent while answers are under way: they finish and are charged once afterwards, new requests are
//! refused, and service comes back by itself. The outages are shorter than real ones; nothing in the node depends on
//! how long they last.

use std::time::Duration;

use fault_proxy::CutKind;
use reqwest::Response;
use serde_json::json;
use simulator::{Faults, Hold};
use support::{Answer, openai_body};

use crate::{
    faults::{OwnDatabase, dialects, id_of, words, words_received},
    faults_served::begin_served,
    spools::{end_of, wait_for_ends_on_disk},
};

/// How the database is away.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// Its processes are stopped: connections stay and nobody answers.
    Stopped,
    /// The network swallows everything; after it has healed the old connections still stand.
    Unreachable,
    /// Connections break and new ones are refused.
    Refused,
}

impl Away {
    fn begin(self, world: &OwnDatabase) {
        let network = world.network.handle();
        match self {
            Self::Stopped => world.postgres.pause(),
            Self::Unreachable => network.blackhole(),
            Self::Refused => {
                network.change(|faults| faults.refuse = true);
                network.break_open(CutKind::Rst);
            }
        }
    }

    fn end(self, world: &OwnDatabase) {
        match self {
            Self::Stopped => world.postgres.go_on(),
            Self::Unreachable | Self::Refused => world.network.handle().heal(),
        }
    }
}

async fn begin_streams(world: &OwnDatabase, per_dialect: usize) -> Vec<Response> {
    let hold = Hold {
        gate: "rest".to_owned(),
        events: 12,
    };
    let faults = Faults {
        hold_after_events: Some(hold),
        ..Faults::default()
    };
    world.app.simulator.reset();
    world.app.simulator.script(words(60, faults)).unwrap();
    let mut streams = Vec::new();
    for (path, body) in dialects() {
        for _ in 0..per_dialect {
            streams.push(begin_served(&world.app.client(), path, &body).await);
        }
    }
    streams
}

/// A request during an outage. The limit is far beyond what refusing takes, and far below the limit of a hold's wait.
async fn refused(world: &OwnDatabase) -> Answer {
    let answer = tokio::time::timeout(Duration::from_secs(20), world.app.client().openai(&openai_body(false)))
        .await
        .expect("a request is refused soon, it does not wait for the database");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    answer
}

/// Streams under way, the database away for so long after their end, and back.
async fn outage(away: Away, per_dialect: usize, lasting: Duration) {
    let Some(world) = OwnDatabase::start(&[]).await else {
        return;
    };
    world.wait_until_served().await;
    let streams = begin_streams(&world, per_dialect).await;
    let open = i64::try_from(streams.len()).unwrap();
    world.app.wait_for_holds(open).await;
    let charges = world.app.number("SELECT COUNT(*) FROM charge").await;

    away.begin(&world);
    for _ in 0..3 {
        refused(&world).await;
    }
    let provider_calls = world.app.simulator.log().len();
    world.app.simulator.release("rest");
    let mut ids = Vec::new();
    for response in streams {
        let id = id_of(&response);
        let text = tokio::time::timeout(Duration::from_secs(20), response.text()).await;
        let text = text.expect("a stream under way goes on").expect("and to its end");
        assert_eq!(words_received(&text), 60, "{away:?}: {text}");
        ids.push(id);
    }
    tokio::time::sleep(lasting).await;
    refused(&world).await;
    assert_eq!(
        world.app.simulator.log().len(),
        provider_calls,
        "what is refused at once is not sent"
    );
    away.end(&world);

    for id in ids {
        let closed = world.app.closed(&id).await;
        assert_eq!(
            (
                &closed["reason"],
                &closed["usage_source"],
                &closed["usage"]["tokens"]["output"]
            ),
            (&json!("completed"), &json!("provider"), &json!(60)),
            "{away:?}: {closed}"
        );
    }
    world.app.wait_for_holds(0).await;
    let settled = "SELECT COUNT(*) FROM charge WHERE state = 'settled'";
    assert_eq!(
        world.app.number(settled).await,
        charges + open,
        "{away:?}: each is charged once"
    );
    world.wait_until_served().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_during_an_outage_still_charges_what_had_ended() {
    let Some(mut world) = OwnDatabase::start(&[]).await else {
        return;
    };
    world.wait_until_served().await;
    let streams = begin_streams(&world, 3).await;
    world.app.wait_for_holds(6).await;
    Away::Refused.begin(&world);
    refused(&world).await;
    world.app.simulator.release("rest");
    let mut ids = Vec::new();
    for response in streams {
        ids.push(id_of(&response));
        assert_eq!(words_received(&response.text().await.unwrap()), 60);
    }
    wait_for_ends_on_disk(&world.app.data_folder(), ids.iter()).await;
    world.app.kill();
    Away::Refused.end(&world);
    assert_audit_sees_the_spool(&world, &ids[0]);
    world.app.restart().await;
    assert_nothing_is_spooled(&world);
    for id in ids {
        let closed = world.app.closed(&id).await;
        assert_eq!(
            (&closed["reason"], &closed["usage"]["tokens"]["output"]),
            (&json!("completed"), &json!(60)),
            "{closed}"
        );
    }
    world.app.wait_for_holds(0).await;
    world.wait_until_served().await;
    world.finish().await;
}

/// The audit tells what waits on the node's disk, and whether it can be read.
fn assert_audit_sees_the_spool(world: &OwnDatabase, id: &str) {
    let (status, report) = world.app.command(&["ledger", "verify"]);
    assert!(status.success(), "{report}");
    // those of the streams, and whatever became of the request that was refused
    let told = report.split_once(" ends and ").unwrap().0.rsplit_once(' ').unwrap().1;
    assert!(told.parse::<u32>().unwrap() >= 6, "{report}");
    let files = std::fs::read_dir(world.app.data_folder().join("spool")).unwrap();
    let file = files.last().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    let name = end_of(id);
    let place = whole.windows(name.len()).position(|found| found == name.as_bytes());
    let mut damaged = whole.clone();
    damaged[place.unwrap()] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let (status, report) = world.app.command(&["ledger", "verify"]);
    assert!(!status.success(), "{report}");
    assert!(
        report.contains("the books are consistent") && report.contains("FAILED  spool of boot"),
        "{report}"
    );
    std::fs::write(&file, whole).unwrap();
}

fn assert_nothing_is_spooled(world: &OwnDatabase) {
    let (status, report) = world.app.command(&["ledger", "verify"]);
    assert!(status.success(), "{report}");
    assert!(report.contains(": 0 ends and 0 notes of progress wait"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_database_loses_nothing_that_is_under_way() {
    outage(Away::Stopped, 3, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_loses_nothing_that_is_under_way() {
    outage(Away::Unreachable, 3, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_connections_loses_nothing_that_is_under_way() {
    outage(Away::Refused, 3, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make faults"]
async fn a_minute_without_the_database_loses_nothing_that_is_under_way() {
    for away in [Away::Stopped, Away::Unreachable, Away::Refused] {
        outage(away, 20, Duration::from_secs(60)).await;
    }
}
