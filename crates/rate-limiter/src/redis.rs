//! The limiter whose state all nodes share: one atomic script in Redis, and this process when Redis does not answer.

use std::{sync::Arc, time::Duration};

use ::redis::Script;
use domain::{KeyId, secret::SecretText};
use metrics::counter;

use crate::{
    InProcessLimiter, RateLimiterError,
    link::Link,
    rules::{Decision, Quota},
};

/// How long a request waits for Redis unless told otherwise, in milliseconds.
const DEFAULT_TIMEOUT_MS: u64 = 10;

/// Where Redis is, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. Holds a password: never log it.
    pub url: SecretText,
    /// How many nodes share the limits, at least 1. Without Redis each allows its share.
    pub nodes: u32,
    /// How long a request waits for the answer, in milliseconds, at least 1.
    pub timeout_ms: u64,
}

impl RedisSettings {
    /// One node, 10 ms.
    pub const fn new(url: SecretText) -> Self {
        Self {
            url,
            nodes: 1,
            timeout_ms: DEFAULT_TIMEOUT_MS,
        }
    }
}

/// Limits by state in Redis.
pub struct RedisLimiter {
    link: Arc<Link>,
    script: Script,
    timeout: Duration,
    nodes: u32,
    fallback: InProcessLimiter,
}

impl RedisLimiter {
    /// Connects, for a second at most. That Redis is away is no error: the limiter works without it until it is back.
    ///
    /// # Errors
    /// [`RateLimiterError`] when the settings cannot work.
    pub async fn open(settings: &RedisSettings) -> Result<Self, RateLimiterError> {
        if settings.nodes == 0 || settings.timeout_ms == 0 {
            return Err(RateLimiterError::Settings(
                "the number of nodes and the Redis timeout must be at least 1",
            ));
        }
        let timeout = Duration::from_millis(settings.timeout_ms);
        Ok(Self {
            link: Link::open(&settings.url, timeout).await?,
            script: Script::new(include_str!("gcra.lua")),
            timeout,
            nodes: settings.nodes,
            fallback: InProcessLimiter::new(),
        })
    }

    /// Whether decisions come from Redis now, as far as the last ones told.
    pub fn is_shared(&self) -> bool {
        self.link.is_up()
    }

    /// Counts one request of a key against its limit per minute; a limit of 0 refuses everything.
    pub async fn check(&self, key: KeyId, requests_per_minute: u32) -> Decision {
        let Some(quota) = Quota::per_minute(requests_per_minute) else {
            return Decision::NEVER;
        };
        if let Some(decision) = self.ask(key, quota).await {
            return decision;
        }
        counter!("truerelay_rate_limiter_fallback_total").increment(1);
        // every node its share, and each at least one request
        self.fallback.check(key, (requests_per_minute / self.nodes).max(1))
    }

    /// What Redis says; `None` when it says nothing in time.
    async fn ask(&self, key: KeyId, quota: Quota) -> Option<Decision> {
        let mut held = self.link.hold()?;
        let mut call = self.script.prepare_invoke();
        // the braces make all state of one key live on one node of a cluster
        call.key(format!("truerelay:rpm:{{{key}}}"))
            .arg(quota.interval_us())
            .arg(quota.burst())
            .arg(1_u32);
        let answer = tokio::time::timeout(self.timeout, call.invoke_async::<(i64, i64)>(&mut held.connection)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.link.answered();
                Some(read_answer(answer))
            }
            Ok(Err(error)) if error.is_timeout() => {
                self.link.timed_out(&held);
                None
            }
            Ok(Err(error)) => {
                self.link.broke(&held, &error);
                None
            }
            Err(_) => {
                self.link.timed_out(&held);
                None
            }
        }
    }
}

fn read_answer((allowed, number): (i64, i64)) -> Decision {
    let number = u64::try_from(number).unwrap_or(0);
    if allowed == 1 {
        return Decision::Allowed {
            remaining: u32::try_from(number).unwrap_or(u32::MAX),
        };
    }
    Decision::Refused {
        retry_after_ms: number.div_ceil(1_000),
    }
}
