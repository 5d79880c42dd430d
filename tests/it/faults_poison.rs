//! One request whose end the database refuses for what is in it. It goes into quarantine; everybody else is charged as
//! if nothing had happened.

use serde_json::json;
use simulator::Faults;
use support::{KeyOptions, TestApp};

use crate::faults::{dialects, id_of, words};

/// Refuses the ends of the tenant that is called so, as a check of a value would.
const REFUSE: [&str; 2] = [
    "CREATE FUNCTION refuse_poison() RETURNS trigger AS $$ BEGIN \
         IF NEW.tenant_id = (SELECT id FROM tenant WHERE name = 'another') AND NEW.state = 'settled' THEN \
             RAISE EXCEPTION 'poison' USING ERRCODE = '23514'; \
         END IF; \
         RETURN NEW; END $$ LANGUAGE plpgsql",
    "CREATE TRIGGER refuse_poison BEFORE INSERT ON charge FOR EACH ROW EXECUTE FUNCTION refuse_poison()",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_database_refuses_is_put_aside_and_all_others_are_charged() {
    let mut app = TestApp::start().await;
    if !app.backend.is_shared() {
        // the refusal is written in PostgreSQL's language
        app.finish().await;
        return;
    }
    let (_, poisoned_key) = app.tenant_with("1", KeyOptions::default()).await;
    let poisoned = app.client_with(&poisoned_key);
    let healthy = app.client();
    for statement in REFUSE {
        app.execute(statement).await;
    }
    app.simulator.script(words(20, Faults::default())).unwrap();
    let (path, body) = dialects().into_iter().next().unwrap();
    let calls = (0..12).map(|number| {
        let client = if number == 5 { &poisoned } else { &healthy };
        client.begin(path, &body)
    });
    let mut ids = Vec::new();
    for response in futures_util::future::join_all(calls).await {
        assert_eq!(response.status(), 200);
        ids.push(id_of(&response));
        response.text().await.expect("the answer is whole");
    }
    let poison = ids.remove(5);
    for id in ids {
        assert_eq!(app.closed(&id).await["reason"], "completed");
    }
    app.wait_for_number("SELECT COUNT(*) FROM quarantine", 1).await;
    app.wait_for_metric("truerelay_ledger_items_rejected_total 1").await;
    // its hold stays, so its credit is safe; once the database takes ends again, recovery closes it
    app.wait_for_holds(1).await;
    app.execute("DROP TRIGGER refuse_poison ON charge").await;
    app.kill();
    app.restart().await;
    app.wait_for_holds(0).await;
    let closed = poisoned.closed_request(&poison).await;
    assert_eq!(closed["reason"], json!("relay_crashed"), "{closed}");
    app.finish().await;
}
