//! The connection between node and database breaks at any byte: of a statement, of a result, of the acknowledgement of
//! a commit. A batch whose outcome is in doubt is sent again and is applied once.

use fault_proxy::{Cut, CutKind, CutPoint};

use crate::{
    faults::OwnDatabase,
    faults_served::{Books, assert_charged_for_what_was_served, price, stream},
};

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
