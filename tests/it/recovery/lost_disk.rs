//! A node comes back with nothing of its own: another node to the ledger.

use support::{TestApp, TestAppOptions, openai_body};

use super::{amount, id_of, long_answer, noted, pause_after, read_rest, wait_for_note};

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
    let lost_node = [
        "UPDATE hold SET created_at_ms = created_at_ms - 3600000",
        "UPDATE node SET retired_at_ms = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT \
         WHERE (id, boot) IN (SELECT node_id, boot FROM hold)",
    ];
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
