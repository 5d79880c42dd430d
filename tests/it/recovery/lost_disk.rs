//! A node comes back with nothing of its own: another node to the ledger.

use fault_proxy::CutKind;
use support::{PrivatePostgres, TestApp, TestAppOptions, openai_body};

use super::{amount, id_of, long_answer, noted, pause_after, read_rest, wait_for_note};
use crate::{
    faults::OwnDatabase,
    faults_served::{begin_streams, finish_streams, price, wait_for_notes},
    spools::wait_for_ends_on_disk,
};

const RETIRE: &str = "UPDATE node SET retired_at_ms = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT \
     WHERE (id, boot) IN (SELECT node_id, boot FROM hold)";

#[tokio::test(flavor = "multi_thread")]
async fn holds_of_a_node_whose_disk_is_lost_are_closed_by_age_or_when_it_is_retired() {
    let mut app = TestApp::start_with(TestAppOptions {
        environment: vec![(
            "TRUERELAY__LEDGER__CLOSE_ABANDONED_HOLDS_EVERY_S".to_owned(),
            "1".to_owned(),
        )],
        ..TestAppOptions::default()
    })
    .await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let lost_node = ["UPDATE hold SET created_at_ms = created_at_ms - 3600000", RETIRE];
    for (reason, given_up) in ["hold_expired", "relay_crashed"].into_iter().zip(lost_node) {
        app.simulator.reset();
        app.simulator.script(long_answer(90, 0, pause_after(60))).unwrap();
        let response = app.client().begin("/v1/chat/completions", &openai_body(true)).await;
        let id = id_of(&response);
        let log = app.simulator.wait_until(|log| log[0].events_sent >= 60).await;
        wait_for_note(&app, log[0].tokens_generated - 2).await;
        let noted = noted(&app).await;
        app.kill();
        read_rest(response).await;
        std::fs::remove_dir_all(app.data_folder()).unwrap();

        app.restart().await;
        let open = app.client().get(&format!("/v1/requests/{id}")).await.json().await;
        assert_eq!(
            open["state"], "open",
            "another node's hold is not this one's to close: {open}"
        );
        app.execute(given_up).await;
        let closed = app.closed(&id).await;
        assert_eq!(closed["reason"], reason, "{closed}");
        assert_eq!(amount(&closed["cost_usd"]).nanos(), noted);
    }
    app.finish().await;
}

/// What providers will bill for requests that have ended, by their own count, and what is booked for it.
const BOOKED: &str = "SELECT CAST(-SUM(amount) AS BIGINT) FROM entry WHERE account LIKE 'provider_payable:%'";
const COST_OF_LAST: &str = "SELECT provider_cost FROM charge ORDER BY request_id DESC LIMIT 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_lost_during_an_outage_loses_no_more_than_its_spool_had_and_the_invoice_tells_how_much() {
    const STREAMS: usize = 6;
    if !support::Backend::run_is_shared() {
        return;
    }
    let often = "TRUERELAY__LEDGER__CLOSE_ABANDONED_HOLDS_EVERY_S";
    let options = TestAppOptions {
        environment: vec![(often.to_owned(), "1".to_owned())],
        ..TestAppOptions::default()
    };
    let mut world = OwnDatabase::with(PrivatePostgres::start(&[]).await, options).await;
    let whole = price(&world.app).await;
    let cost_of_one = world.app.number(COST_OF_LAST).await;
    let booked_before = world.app.number(BOOKED).await;
    let streams = begin_streams(&world.app, STREAMS).await;
    wait_for_notes(&world.app).await;
    let network = world.network.handle();
    network.change(|faults| faults.refuse = true);
    network.break_open(CutKind::Rst);
    let noted = crate::spools::noted(&world).await;
    let got = finish_streams(&world.app, streams).await;
    let ids: Vec<String> = got.into_iter().map(|got| got.id).collect();
    wait_for_ends_on_disk(&world.app.data_folder(), ids.iter()).await;
    world.app.kill();
    std::fs::remove_dir_all(world.app.data_folder()).unwrap();
    network.heal();
    world.app.restart().await;
    world.app.execute(RETIRE).await;

    let mut charged = 0;
    for id in &ids {
        let closed = world.app.closed(id).await;
        assert_eq!(closed["reason"], "relay_crashed", "{closed}");
        assert_eq!(
            amount(&closed["cost_usd"]).nanos(),
            noted[id],
            "as was noted before the outage"
        );
        charged += noted[id];
    }
    let invoiced = cost_of_one * i64::try_from(STREAMS).unwrap();
    let booked = world.app.number(BOOKED).await - booked_before;
    assert!(0 < booked && booked < invoiced, "{booked} booked, {invoiced} invoiced");
    // the price list is the cost here, so what customers were not charged is what the invoice is higher by
    let lost = whole * i64::try_from(STREAMS).unwrap() - charged;
    assert!(lost > 0, "the spool had more than was noted");
    let rounding = 2 * i64::try_from(STREAMS).unwrap();
    let explained = (invoiced - booked) * whole / cost_of_one;
    assert!(
        (lost - explained).abs() <= rounding,
        "{lost} lost, {explained} on the invoice"
    );
    world.wait_until_served().await;
    world.finish().await;
}
