//! The way to Redis: one multiplexed connection that is held, replaced in the background when it is lost.
//!
//! A check-out from the pool costs two round trips (`UNWATCH`, `PING`), so a connection is taken from it once and
//! kept; all requests of the node share it and their commands travel together. Nobody ever waits for a connection
//! to be made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ::redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use deadpool_redis::{Connection, Manager, Pool, Runtime};
use domain::secret::SecretText;
use metrics::gauge;

use crate::{
    RateLimiterError,
    breaker::{Breaker, Change},
    rules::Micros,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const UP: &str = "truerelay_rate_limiter_redis_up";

pub(crate) struct Link {
    pool: Pool,
    slot: parking_lot::RwLock<Slot>,
    connecting: AtomicBool,
    breaker: Breaker,
    started: Instant,
}

#[derive(Default)]
struct Slot {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that who saw one fail does not drop its successor.
    number: u64,
}

/// The connection at hand, to be handed back in name by [`Link::lose`] if it fails.
pub(crate) struct Held {
    pub connection: MultiplexedConnection,
    number: u64,
}

impl Link {
    /// Tries to connect once. That Redis is away is no error.
    pub(crate) async fn open(url: &SecretText, response_timeout: Duration) -> Result<Arc<Self>, RateLimiterError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(response_timeout));
        let manager = Manager::new_with_config(url.expose(), config).map_err(|_| RateLimiterError::Address)?;
        let pool = Pool::builder(manager)
            .max_size(1)
            .wait_timeout(Some(CONNECT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| RateLimiterError::Settings("the Redis pool cannot be built"))?;
        let link = Arc::new(Self {
            pool,
            slot: parking_lot::RwLock::default(),
            connecting: AtomicBool::new(false),
            breaker: Breaker::default(),
            started: Instant::now(),
        });
        gauge!(UP).set(1.0);
        link.connect().await;
        Ok(link)
    }

    /// The connection, if there is one and the breaker lets this caller try. Otherwise one may be under way.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<Held> {
        if !self.breaker.may_try(self.now()) {
            return None;
        }
        let slot = self.slot.read();
        if let Some(connection) = &slot.connection {
            return Some(Held {
                connection: connection.clone(),
                number: slot.number,
            });
        }
        drop(slot);
        self.connect_in_background();
        None
    }

    /// Redis answered.
    pub(crate) fn answered(&self) {
        if self.breaker.succeeded() == Some(Change::Closed) {
            gauge!(UP).set(1.0);
            tracing::info!("Redis is back: request limits are shared between nodes again");
        }
    }

    /// Redis did not answer in time. Now and then that happens; when it goes on, the connection is given up.
    pub(crate) fn timed_out(&self, held: &Held) {
        if self.breaker.failed(self.now()) == Some(Change::Opened) {
            tell_it_is_away("no answer in time");
        }
        if self.breaker.is_open() {
            self.lose(held);
        }
    }

    /// The connection broke, or Redis refused the command (loading, read-only after a fail-over).
    pub(crate) fn broke(&self, held: &Held, why: &::redis::RedisError) {
        self.lose(held);
        if self.breaker.failed(self.now()) == Some(Change::Opened) {
            tell_it_is_away(why.category());
        }
    }

    /// Whether decisions come from Redis now.
    pub(crate) fn is_up(&self) -> bool {
        !self.breaker.is_open() && self.slot.read().connection.is_some()
    }

    fn lose(&self, held: &Held) {
        let mut slot = self.slot.write();
        if slot.number == held.number {
            slot.connection = None;
        }
    }

    fn connect_in_background(self: &Arc<Self>) {
        if self.connecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let attempt = Attempt(Arc::clone(self));
        tokio::spawn(async move { attempt.0.connect().await });
    }

    async fn connect(&self) {
        match self.pool.get().await {
            Ok(pooled) => {
                let mut slot = self.slot.write();
                slot.connection = Some(Connection::take(pooled));
                slot.number += 1;
            }
            Err(_) => {
                if self.breaker.open_at(self.now()) == Some(Change::Opened) {
                    tell_it_is_away("it cannot be connected to");
                }
            }
        }
    }

    fn now(&self) -> Micros {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// One try to connect, which ends even when the runtime that it runs on does.
struct Attempt(Arc<Link>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.connecting.store(false, Ordering::Release);
    }
}

fn tell_it_is_away(why: &str) {
    gauge!(UP).set(0.0);
    tracing::warn!(
        why,
        "Redis is away or slow: this node limits requests by itself, to its share of each limit"
    );
}
