//! The connection between node and database breaks at any byte: of a statement, of a result, of the acknowledgement of
//! a commit. A batch whose outcome is in doubt is sent again and is applied once.

use fault_proxy::{Cut, CutKind, CutPoint};

use crate::{
    faults::OwnDatabase,
    faults_served::{Books, assert_charged_for_what_was_served, price, stream},
};

/// Breaks the connection at so many places between the first and the last byte of a request's conversation with the
/// database, alternately on the way there and on the way back.
async fn broken_at_any_byte(places: u64) {
    let Some(world) = OwnDatabase::start(&[]).await else {
        return;
    };
    let price = price(&world).await;
    let network = world.network.handle();
    let calm = Books::of(&world).await;
    let start = network.counts();
    let undisturbed = stream(&world).await;
    world.app.wait_for_holds(0).await;
    let talk = network.counts();
    assert_charged_for_what_was_served(&world, &[undisturbed], price, calm).await;
    let (sent, heard) = (
        talk.bytes_to_server - start.bytes_to_server,
        talk.bytes_to_client - start.bytes_to_client,
    );
    let mut broken = 0;
    for place in 0..places {
        let before = Books::of(&world).await;
        let before_break = network.counts().broken;
        // offsets count on each connection by itself, and one alone carries about half of it all
        let at = |length: u64| CutPoint::Bytes(length * place / places / 2);
        network.change(|faults| {
            let lane = |after| {
                Some(Cut {
                    after,
                    how: CutKind::Rst,
                    times: Some(1),
                })
            };
            if place % 2 == 0 {
                faults.to_client.cut = lane(at(heard));
            } else {
                faults.to_server.cut = lane(at(sent));
            }
        });
        let got = stream(&world).await;
        network.heal();
        broken += network.counts().broken - before_break;
        assert_charged_for_what_was_served(&world, &[got], price, before).await;
        world.wait_until_served().await;
    }
    // how many are met depends on the machine: on which connection what is sent, and when
    eprintln!("{broken} of {places} places were met");
    assert!(broken > 0, "no place was met");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_at_any_byte_costs_nobody_anything() {
    broken_at_any_byte(24).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make faults"]
async fn a_connection_that_breaks_at_very_many_bytes_costs_nobody_anything() {
    broken_at_any_byte(400).await;
}
