//! Redis killed, emptied, stopped and slow. Request limits become approximate; money does not notice.

use std::time::{Duration, Instant};

use domain::Amount;
use fault_proxy::Proxy;
use simulator::Faults;
use support::{Backend, Client, KeyOptions, PrivateRedis, TestApp, TestAppOptions, openai_body};

use crate::faults::words;

struct World {
    app: TestApp,
    redis: PrivateRedis,
    network: Proxy,
}

/// Nothing in a run without Redis.
async fn start() -> Option<World> {
    if !Backend::run_is_shared() {
        return None;
    }
    let redis = PrivateRedis::start().await;
    let network = Proxy::start(0, redis.address()).await.unwrap();
    let app = TestApp::start_with(TestAppOptions {
        backend: Some(Backend::fresh().await.with_redis_at(network.address())),
        environment: vec![("TRUERELAY__REDIS__TIMEOUT_MS".to_owned(), "50".to_owned())],
        ..TestAppOptions::default()
    })
    .await;
    app.simulator.script(words(20, Faults::default())).unwrap();
    Some(World { app, redis, network })
}

impl World {
    async fn key_with_limit(&mut self, requests_per_minute: u32) -> Client {
        let tenant = self.app.seeded.tenant.clone();
        let options = KeyOptions {
            requests_per_minute: Some(requests_per_minute),
            ..KeyOptions::default()
        };
        let (_, key) = self.app.key_of(&tenant, options).await;
        self.app.client_with(&key)
    }

    /// Sends requests until Redis decides again, or does not any more.
    async fn until_redis_is(&self, up: bool, client: &Client) -> u64 {
        let line = format!("truerelay_rate_limiter_redis_up {}", u8::from(up));
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut sent = 0;
        loop {
            assert_eq!(client.openai(&openai_body(false)).await.status, 200);
            sent += 1;
            let metrics = self.app.admin.metrics().await;
            if metrics.lines().any(|found| found == line) {
                return sent;
            }
            assert!(Instant::now() < deadline, "no {line} in:\n{metrics}");
        }
    }
}

async fn send_together(client: &Client, count: usize) -> Vec<u16> {
    let body = openai_body(false);
    let calls = (0..count).map(|_| client.openai(&body));
    let answers = futures_util::future::join_all(calls).await;
    answers.iter().map(|answer| answer.status.as_u16()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_redis_changes_who_is_served_or_what_is_charged() {
    let Some(mut world) = start().await else { return };
    let client = world.key_with_limit(100_000).await;
    let first = client.openai(&openai_body(false)).await;
    let price: Amount = world.app.closed(&first.request_id()).await["cost_usd"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let mut sent = 1 + world.until_redis_is(true, &client).await;
    for fault in ["kill", "flush", "stop", "slow"] {
        match fault {
            "kill" => world.redis.kill(),
            "flush" => assert_eq!(world.redis.command("FLUSHALL").await.unwrap(), "+OK"),
            "stop" => world.redis.pause(),
            _ => world
                .network
                .handle()
                .change(|faults| faults.to_client.latency_ms = 200),
        }
        assert_eq!(send_together(&client, 10).await, [200; 10], "{fault}");
        sent += 10;
        if fault != "flush" {
            sent += world.until_redis_is(false, &client).await;
        }
        match fault {
            "kill" => world.redis.restart().await,
            "stop" => world.redis.go_on(),
            _ => world.network.handle().heal(),
        }
        sent += world.until_redis_is(true, &client).await;
        assert_eq!(send_together(&client, 5).await, [200; 5], "after {fault}");
        sent += 5;
    }
    let sent = i64::try_from(sent).unwrap();
    world
        .app
        .wait_for_number("SELECT COUNT(*) FROM charge WHERE state = 'settled'", sent)
        .await;
    let charged = world.app.number("SELECT CAST(SUM(amount) AS BIGINT) FROM charge").await;
    assert_eq!(charged, price.nanos() * sent, "each costs what it cost with Redis");
    world.app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_by_the_node_itself_while_redis_is_away() {
    let Some(mut world) = start().await else { return };
    let unlimited = world.key_with_limit(100_000).await;
    let limited = world.key_with_limit(3).await;
    world.until_redis_is(true, &unlimited).await;
    world.redis.kill();
    world.until_redis_is(false, &unlimited).await;
    let mut answers = send_together(&limited, 12).await;
    answers.sort_unstable();
    // one more comes back every twenty seconds
    let served = answers.iter().filter(|status| **status == 200).count();
    assert!((3..=4).contains(&served), "{answers:?}");
    assert!(answers[served..].iter().all(|status| *status == 429), "{answers:?}");
    world.redis.restart().await;
    world.until_redis_is(true, &unlimited).await;
    world.app.finish().await;
}
