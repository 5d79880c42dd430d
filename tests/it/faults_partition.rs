//! One of three nodes is cut off from the database: it alone refuses, what it has under way ends on its disk and is
//! charged when the network has healed; what others had closed by then stays as it was closed.

use std::time::Duration;

use domain::Amount;
use fault_proxy::{CutKind, Handle, Proxy};
use serde_json::json;
use support::{Client, TestApp, openai_body};

use crate::{
    faults::id_of,
    faults_served::{begin_served, begin_streams_of, finish_streams, price, wait_for_notes},
    faults_stopped_node::watchful,
};

const LATE: &str = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM entry WHERE account = 'operator_loss:late'";

fn swallow(network: &Handle) {
    network.blackhole();
}

fn refuse(network: &Handle) {
    network.change(|faults| faults.refuse = true);
    network.break_open(CutKind::Rst);
}

/// A request to the node that is cut off. The limit is far beyond what refusing takes.
async fn assert_refused(client: &Client) {
    let answer = tokio::time::timeout(Duration::from_secs(20), client.openai(&openai_body(false)))
        .await
        .expect("it is refused soon, it does not wait for the database");
    assert_eq!(answer.status, 503, "{}", answer.text());
}

async fn assert_served(client: &Client) {
    let answer = client.openai(&openai_body(false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// As if nobody had heard of it for an hour.
async fn age(app: &TestApp, id: &str) {
    let sql = "UPDATE hold SET created_at_ms = created_at_ms - 3600000 \
               WHERE 'req_' || replace(request_id::text, '-', '') = $1";
    let mut connection = app.backend.connect().await;
    let aged = sqlx::query(sql).bind(id).execute(&mut connection).await.unwrap();
    assert_eq!(aged.rows_affected(), 1);
}

async fn partitioned(begin: fn(&Handle), lasting: Duration) {
    let app = watchful().await;
    if !app.backend.is_shared() {
        return app.finish().await;
    }
    let proxy = Proxy::start(0, app.backend.database_address()).await.unwrap();
    let network = proxy.handle();
    let behind = app.backend.clone().with_database_at(proxy.address());
    let (second, third) = tokio::join!(app.start_second_node(), app.start_node_on(&behind, Vec::new()));
    let clients = [&second, &third].map(|node| node.client_with(&app.seeded.key));
    let [there, cut_off] = &clients;
    let here = &app.client();
    let price = price(&app).await;
    let openers: Vec<Client> = [here, there, cut_off, cut_off, cut_off].map(Client::clone).to_vec();
    let streams = begin_streams_of(&app, &openers).await;
    let ids: Vec<String> = streams.iter().map(id_of).collect();
    wait_for_notes(&app).await;

    begin(&network);
    for _ in 0..3 {
        assert_refused(cut_off).await;
        assert_served(here).await;
        assert_served(there).await;
    }
    // one of its requests is taken for abandoned, by nodes that cannot know better
    let given_up = &ids[2];
    age(&app, given_up).await;
    let earlier = app.closed(given_up).await;
    assert_eq!(earlier["reason"], "hold_expired", "{earlier}");
    for got in finish_streams(&app, streams).await {
        assert_eq!((got.status, got.words), (200, 20), "what is under way goes on");
    }
    tokio::time::sleep(lasting).await;
    assert_refused(cut_off).await;
    assert_served(here).await;
    for id in &ids[3..] {
        let open = app.client().get(&format!("/v1/requests/{id}")).await.json().await;
        assert_eq!(open["state"], "open", "only its node can tell what it cost");
    }
    assert_eq!(app.number(LATE).await, 0);

    network.heal();
    for id in ids.iter().filter(|id| *id != given_up) {
        let closed = app.closed(id).await;
        let charged = closed["cost_usd"].as_str().unwrap().parse::<Amount>().unwrap().nanos();
        assert_eq!((&closed["reason"], charged), (&json!("completed"), price), "{closed}");
    }
    app.wait_for_number("SELECT COUNT(*) FROM tx WHERE kind = 'late_cost'", 1)
        .await;
    assert!(
        app.number(LATE).await > 0,
        "the rest of what was given up is the operator's"
    );
    assert_eq!(app.closed(given_up).await["cost_usd"], earlier["cost_usd"]);
    let (path, body) = crate::faults::dialects().into_iter().next().unwrap();
    let served = begin_served(cut_off, path, &body).await;
    let id = id_of(&served);
    served.text().await.unwrap();
    app.closed(&id).await;
    app.finish_second_node(second).await;
    app.finish_second_node(third).await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_way_to_the_database_swallows_everything_is_alone_with_that() {
    partitioned(swallow, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_way_to_the_database_refuses_everything_is_alone_with_that() {
    partitioned(refuse, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make faults"]
async fn a_node_without_the_database_for_a_minute_is_alone_with_that() {
    partitioned(swallow, Duration::from_secs(60)).await;
    partitioned(refuse, Duration::from_secs(30)).await;
}
