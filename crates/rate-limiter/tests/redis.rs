//! The shared limiter against a real Redis: the suite's own, named by `TRUERELAY_TEST_REDIS_URL`, or one that the
//! test starts; always one that it starts where Redis has to be stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{KeyId, secret::SecretText};
use rate_limiter::{Decision, RateLimiter, RateLimiterError, RedisLimiter, RedisSettings};

const PATIENCE: Duration = Duration::from_secs(60);

/// A Redis of our own on a free port, without persistence.
struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = spawn(port, &folder);
        let server = Self { process, port, folder };
        server.wait_until_it_answers();
        server
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = spawn(self.port, &self.folder);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                Instant::now() < until,
                "redis-server does not answer on port {}",
                self.port
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, folder: &tempfile::TempDir) -> Child {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("`redis-server` cannot be started: install it (Debian: apt-get install redis-server)")
}

/// The suite's Redis if there is one, otherwise one of our own that lives as long as the answer.
fn any_redis() -> (String, Option<Server>) {
    match std::env::var("TRUERELAY_TEST_REDIS_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            let server = Server::start();
            (server.url(), Some(server))
        }
    }
}

/// A node of ten. Alone it would allow a tenth of each limit, so `remaining` shows who has decided.
async fn node(url: &str, timeout_ms: u64) -> RedisLimiter {
    let settings = RedisSettings {
        nodes: 10,
        timeout_ms,
        ..RedisSettings::new(SecretText::new(url.to_owned()))
    };
    RedisLimiter::open(&settings).await.unwrap()
}

/// A time-out that a busy test machine does not reach.
const AMPLE_MS: u64 = 30_000;

async fn until_shared(limiter: &RedisLimiter) {
    let until = Instant::now() + PATIENCE;
    loop {
        let decision = limiter.check(KeyId::generate(), 1_000).await;
        if decision == (Decision::Allowed { remaining: 999 }) && limiter.is_shared() {
            return;
        }
        assert!(Instant::now() < until, "Redis is back, but not used again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn nodes_share_one_limit() {
    let (url, _server) = any_redis();
    let (a, b) = (node(&url, AMPLE_MS).await, node(&url, AMPLE_MS).await);
    let key = KeyId::generate();
    // one per minute and burst of one: no time of this test brings a second
    assert_eq!(a.check(key, 1).await, Decision::Allowed { remaining: 0 });
    let Decision::Refused { retry_after_ms } = b.check(key, 1).await else {
        panic!("the limit is not shared")
    };
    assert!((1..=60_000).contains(&retry_after_ms));
    assert!(
        a.check(KeyId::generate(), 1).await.is_allowed(),
        "another key has its own limit"
    );
    assert!(!a.check(key, 0).await.is_allowed());
    assert!(a.is_shared() && b.is_shared());
}

#[tokio::test]
async fn the_script_agrees_with_the_rule() {
    let (url, _server) = any_redis();
    let limiter = node(&url, AMPLE_MS).await;
    let key = KeyId::generate();
    // an interval of 12 s: the burst counts down one by one
    for remaining in (0..5).rev() {
        assert_eq!(limiter.check(key, 5).await, Decision::Allowed { remaining });
    }
    let Decision::Refused { retry_after_ms } = limiter.check(key, 5).await else {
        panic!("over the limit")
    };
    assert!((1..=12_000).contains(&retry_after_ms));
    // a smaller limit set meanwhile refuses too, and never for longer than a minute
    let Decision::Refused { retry_after_ms } = limiter.check(key, 1).await else {
        panic!("over the limit")
    };
    assert!((1..=60_000).contains(&retry_after_ms));
}

#[tokio::test]
async fn state_is_under_a_hash_tag_exact_and_expires() {
    let (url, _server) = any_redis();
    let limiter = node(&url, AMPLE_MS).await;
    let key = KeyId::generate();
    assert!(limiter.check(key, 7).await.is_allowed());
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let name = format!("truerelay:rpm:{{{key}}}");
    let (tat, ttl): (String, i64) = redis::pipe()
        .get(&name)
        .pttl(&name)
        .query_async(&mut connection)
        .await
        .unwrap();
    // all sixteen digits of microseconds, not Lua's short form
    assert!(
        tat.len() == 16 && tat.bytes().all(|byte| byte.is_ascii_digit()),
        "{tat}"
    );
    assert!((1..=8_600).contains(&ttl), "{ttl}");
    // state that is not a number counts as none
    let () = redis::cmd("SET")
        .arg(&name)
        .arg("damaged")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(limiter.check(key, 7).await, Decision::Allowed { remaining: 6 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_at_once_get_no_more_than_the_limit() {
    let (url, _server) = any_redis();
    let nodes = [
        Arc::new(node(&url, AMPLE_MS).await),
        Arc::new(node(&url, AMPLE_MS).await),
    ];
    let key = KeyId::generate();
    let started = Instant::now();
    let tasks: Vec<_> = (0..200)
        .map(|index| {
            let node = Arc::clone(&nodes[index % 2]);
            tokio::spawn(async move { node.check(key, 20).await.is_allowed() })
        })
        .collect();
    let mut allowed = 0;
    for task in tasks {
        allowed += u64::from(task.await.unwrap());
    }
    // what the rate brings while a slow machine is at it
    let brought = started.elapsed().as_secs() / 3 + 1;
    assert!((20..=20 + brought).contains(&allowed), "{allowed}");
}

#[tokio::test]
async fn a_forgotten_script_is_loaded_again() {
    let server = Server::start();
    let limiter = node(&server.url(), AMPLE_MS).await;
    let key = KeyId::generate();
    assert_eq!(limiter.check(key, 1_000).await, Decision::Allowed { remaining: 999 });
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut connection)
        .await
        .unwrap();
    // 1000 a minute would refill one in 60 ms: only that Redis has decided is looked at
    let Decision::Allowed { remaining } = limiter.check(key, 1_000).await else {
        panic!("far from the limit")
    };
    assert!(remaining >= 998 && limiter.is_shared());
}

#[tokio::test]
async fn without_redis_each_node_decides_on_its_share_and_comes_back() {
    let mut server = Server::start();
    let limiter = node(&server.url(), AMPLE_MS).await;
    until_shared(&limiter).await;
    server.stop();
    let key = KeyId::generate();
    // 20 a minute by ten nodes: two each, and the next in half a minute
    let mut allowed = 0;
    for _ in 0..10 {
        allowed += u32::from(limiter.check(key, 20).await.is_allowed());
    }
    assert_eq!(allowed, 2);
    assert!(
        limiter.check(KeyId::generate(), 3).await.is_allowed(),
        "the share is never nothing"
    );
    assert!(!limiter.is_shared());
    server.start_again();
    until_shared(&limiter).await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_not_waited_for() {
    let server = Server::start();
    let limiter = node(&server.url(), 200).await;
    until_shared(&limiter).await;
    server.signal("-STOP");
    let key = KeyId::generate();
    let mut allowed = 0;
    for _ in 0..100 {
        allowed += u32::from(limiter.check(key, 20).await.is_allowed());
    }
    assert_eq!(allowed, 2);
    assert!(!limiter.is_shared());
    server.signal("-CONT");
    until_shared(&limiter).await;
}

#[tokio::test]
async fn starts_without_redis_and_finds_it_later() {
    let mut server = Server::start();
    server.stop();
    let settings = RedisSettings {
        timeout_ms: AMPLE_MS,
        ..RedisSettings::new(SecretText::new(server.url()))
    };
    let RateLimiter::Redis(limiter) = RateLimiter::redis(&settings).await.unwrap() else {
        panic!("not Redis")
    };
    assert!(limiter.check(KeyId::generate(), 1).await.is_allowed());
    assert!(!limiter.is_shared());
    server.start_again();
    until_shared(&limiter).await;
}

#[tokio::test]
async fn unusable_settings_are_refused_without_showing_the_password() {
    let wrong = RedisSettings::new(SecretText::new("http://user:hunter2@host".to_owned()));
    let error = RedisLimiter::open(&wrong).await.err().unwrap();
    assert!(matches!(error, RateLimiterError::Address));
    assert!(!format!("{error} {error:?} {wrong:?}").contains("hunter2"));
    let no_nodes = RedisSettings {
        nodes: 0,
        ..RedisSettings::new(SecretText::new("redis://localhost".to_owned()))
    };
    assert!(matches!(
        RedisLimiter::open(&no_nodes).await,
        Err(RateLimiterError::Settings(_))
    ));
}
