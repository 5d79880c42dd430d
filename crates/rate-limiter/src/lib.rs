//! How fast a key may send: the rule, and the two places where its state is kept.
//!
//! [`rules`] decides and is pure; [`InProcessLimiter`] keeps the state in this process, [`RedisLimiter`] shares it
//! between nodes and falls back to this process when Redis is slow or away. A limiter never fails a request: it
//! answers with a [`Decision`] whatever happens. Knows nothing of money.

mod breaker;
mod error;
mod in_process;
mod link;
mod redis;
pub mod rules;

use domain::KeyId;

pub use self::redis::{RedisLimiter, RedisSettings};
pub use error::RateLimiterError;
pub use in_process::InProcessLimiter;
pub use rules::Decision;

/// The limiter of this node.
pub enum RateLimiter {
    /// State in this process: right for one node.
    InProcess(InProcessLimiter),
    /// State in Redis: shared by all nodes.
    Redis(RedisLimiter),
}

impl RateLimiter {
    /// A limiter with its state in this process.
    pub fn in_process() -> Self {
        Self::InProcess(InProcessLimiter::new())
    }

    /// A limiter that shares its state through Redis. Works without Redis until it can be reached.
    ///
    /// # Errors
    /// [`RateLimiterError`] when the settings cannot work.
    pub async fn redis(settings: &RedisSettings) -> Result<Self, RateLimiterError> {
        RedisLimiter::open(settings).await.map(Self::Redis)
    }

    /// Counts one request of a key against its limit per minute, and says whether it may go ahead. Not to be called
    /// for a key without a limit; a limit of 0 refuses everything.
    pub async fn check(&self, key: KeyId, requests_per_minute: u32) -> Decision {
        match self {
            Self::InProcess(limiter) => limiter.check(key, requests_per_minute),
            Self::Redis(limiter) => limiter.check(key, requests_per_minute).await,
        }
    }
}
