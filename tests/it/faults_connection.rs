//! The connection between node and database breaks at any byte: of a statement, of a result, of the acknowledgement of
//! a commit. A batch whose outcome is in doubt is sent again and is applied once.

use std::time::Duration;

use fault_proxy::{Cut, CutKind, CutPoint, Faults, Lane};

use crate::{
    faults::OwnDatabase,
    faults_served::{
        Books, Got, assert_charged_for_what_was_served, begin_streams, finish_streams, price, stream, wait_for_notes,
    },
};

/// What PostgreSQL says when a commit is durable: `CommandComplete`.
const COMMITTED: &str = "C\0\0\0\u{b}COMMIT\0";
const RESENT: &str = "truerelay_ledger_batch_retries_total";

/// How far one way of a connection's conversation reaches, in bytes.
struct Reach {
    bytes: u64,
    met: u64,
    tried: u64,
}

impl Reach {
    const fn new(bytes: u64) -> Self {
        Self {
            bytes,
            met: 0,
            tried: 0,
        }
    }

    /// Multiples of the golden section come nowhere near each other, however many there will be.
    const fn next_place(&self) -> u64 {
        let fraction = (self.tried * 618_034) % 1_000_000;
        self.bytes * fraction / 1_000_000
    }

    /// A place that is not met is beyond what goes over one connection.
    const fn note(&mut self, place: u64, is_met: bool) {
        self.tried += 1;
        if is_met {
            self.met += 1;
        } else {
            self.bytes = place;
        }
    }
}

const fn cut_once(after: CutPoint) -> Option<Cut> {
    Some(Cut {
        after,
        how: CutKind::Rst,
        times: Some(1),
    })
}

/// Breaks the connection at so many places between the first and the last byte of a request's conversation with the
/// database, alternately on the way there and on the way back.
async fn broken_at_any_byte(places: u64) {
    let Some(world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    let network = world.network.handle();
    let calm = Books::of(&world.app).await;
    let start = network.counts();
    let undisturbed = stream(&world.app).await;
    world.app.wait_for_holds(0).await;
    let talk = network.counts();
    assert_charged_for_what_was_served(&world.app, &[undisturbed], price, calm).await;
    let mut back = Reach::new(talk.bytes_to_client - start.bytes_to_client);
    let mut there = Reach::new(talk.bytes_to_server - start.bytes_to_server);
    for number in 0..places {
        let before = Books::of(&world.app).await;
        let before_break = network.counts().broken;
        let reach = if number % 2 == 0 { &mut back } else { &mut there };
        let place = reach.next_place();
        network.change(|faults| {
            let lane = if number % 2 == 0 {
                &mut faults.to_client
            } else {
                &mut faults.to_server
            };
            lane.cut = cut_once(CutPoint::Bytes(place));
        });
        let got = stream(&world.app).await;
        // the end is written after the answer
        world.app.wait_for_holds(0).await;
        network.heal();
        reach.note(place, network.counts().broken > before_break);
        assert_charged_for_what_was_served(&world.app, &[got], price, before).await;
        world.wait_until_served().await;
    }
    let met = back.met + there.met;
    eprintln!(
        "{met} of {places} places were met: {} on the way there, {} on the way back",
        there.met, back.met
    );
    assert!(met * 2 >= places, "{met} of {places} places were met");
    assert!(there.met > 0 && back.met > 0, "one way was never broken");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_byte_costs_nobody_anything() {
    broken_at_any_byte(24).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make faults"]
async fn a_connection_that_breaks_at_very_many_bytes_costs_nobody_anything() {
    broken_at_any_byte(200).await;
}

/// The next acknowledgement of a commit does not reach the node, and the database cannot be asked again for a moment.
fn lose_acknowledgement(world: &OwnDatabase) {
    world.network.handle().set(Faults {
        refuse: true,
        to_client: Lane {
            cut: cut_once(CutPoint::Text(COMMITTED.to_owned())),
            ..Lane::default()
        },
        ..Faults::default()
    });
}

/// Waits until an acknowledgement was lost, heals the network, and answers what the database had by then.
async fn lost(world: &OwnDatabase, broken: u64, sql: &'static str) -> i64 {
    let network = world.network.handle();
    let cut = network.wait_until(|counts| counts.broken > broken);
    tokio::time::timeout(Duration::from_secs(30), cut)
        .await
        .expect("something is committed");
    // nobody else can have written it: the node has not come back yet
    let number = world.app.number(sql).await;
    network.heal();
    number
}

async fn resent(world: &OwnDatabase) -> u64 {
    let metrics = world.app.admin.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(RESENT));
    line.map_or(0, |value| value.trim().parse().expect("a count"))
}

/// Tries of a test that must meet the ledger's commit: somebody else's may come before it.
const TRIES: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_acknowledgement_is_lost_is_placed_once() {
    const HELD: &str = "SELECT COUNT(*) FROM hold";
    let Some(world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    for attempt in 1.. {
        assert!(attempt <= TRIES, "the hold's commit was never met");
        let (before, resent_before) = (Books::of(&world.app).await, resent(&world).await);
        let broken = world.network.handle().counts().broken;
        lose_acknowledgement(&world);
        let (streams, held) = tokio::join!(begin_streams(&world.app, 1), lost(&world, broken, HELD));
        assert_eq!(world.app.number(HELD).await, 1, "placed once");
        let resent = resent(&world).await > resent_before;
        let got = finish_streams(&world.app, streams).await;
        assert_charged_for_what_was_served(&world.app, &got, price, before).await;
        if held == 1 && resent {
            break;
        }
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_acknowledgement_is_lost_is_charged_once() {
    const ENDED: &str = "SELECT COUNT(*) FROM charge";
    let Some(world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world.app).await;
    for attempt in 1.. {
        assert!(attempt <= TRIES, "the end's commit was never met");
        let (before, resent_before) = (Books::of(&world.app).await, resent(&world).await);
        let streams = begin_streams(&world.app, 1).await;
        // what was read so far is noted: the end is the next thing to be committed
        wait_for_notes(&world.app).await;
        let charged = world.app.number(ENDED).await;
        let broken = world.network.handle().counts().broken;
        lose_acknowledgement(&world);
        let (got, ended): (Vec<Got>, i64) =
            tokio::join!(finish_streams(&world.app, streams), lost(&world, broken, ENDED));
        assert_charged_for_what_was_served(&world.app, &got, price, before).await;
        if ended == charged + 1 && resent(&world).await > resent_before {
            break;
        }
    }
    world.finish().await;
}
