//! What can be wrong with a limiter's settings. Nothing else of a limiter fails.

/// The settings cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RateLimiterError {
    /// The address is not one of Redis: correct it. The address may hold a password, so it is not repeated.
    #[error(
        "the Redis address cannot be used: write `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS"
    )]
    Address,
    /// A number is out of bounds: correct it.
    #[error("{0}")]
    Settings(&'static str),
}
