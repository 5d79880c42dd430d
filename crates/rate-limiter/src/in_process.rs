//! The state of the limiter in this process: one number per key, dropped once it says nothing any more.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use dashmap::{DashMap, Entry};
use domain::KeyId;

use crate::rules::{Decision, Micros, Quota, decide};

/// How often entries that say nothing any more are dropped.
const SWEEP_EVERY_US: Micros = 60_000_000;

/// Limits by state in this process. Its memory is bounded by the keys that were used in the last two minutes.
pub struct InProcessLimiter {
    started: Instant,
    tats: DashMap<KeyId, Micros>,
    next_sweep: AtomicU64,
}

impl Default for InProcessLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl InProcessLimiter {
    /// No key has been used yet.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            tats: DashMap::new(),
            next_sweep: AtomicU64::new(SWEEP_EVERY_US),
        }
    }

    /// Counts one request of a key against its limit per minute; a limit of 0 refuses everything.
    pub fn check(&self, key: KeyId, requests_per_minute: u32) -> Decision {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.check_at(key, requests_per_minute, now)
    }

    fn check_at(&self, key: KeyId, requests_per_minute: u32, now: Micros) -> Decision {
        let Some(quota) = Quota::per_minute(requests_per_minute) else {
            return Decision::NEVER;
        };
        self.sweep_if_due(now);
        match self.tats.entry(key) {
            Entry::Occupied(mut entry) => {
                let (tat, decision) = decide(quota, *entry.get(), now, 1);
                entry.insert(tat);
                decision
            }
            Entry::Vacant(entry) => {
                let (tat, decision) = decide(quota, 0, now, 1);
                entry.insert(tat);
                decision
            }
        }
    }

    fn sweep_if_due(&self, now: Micros) {
        let due = self.next_sweep.load(Ordering::Relaxed);
        if now < due {
            return;
        }
        let next = now.saturating_add(SWEEP_EVERY_US);
        // of those who find it due at once, one sweeps
        if self
            .next_sweep
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            self.tats.retain(|_, tat| *tat > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn keys_do_not_share_their_limit() {
        let limiter = InProcessLimiter::new();
        let (a, b) = (KeyId::generate(), KeyId::generate());
        assert_eq!(limiter.check_at(a, 1, 5), Decision::Allowed { remaining: 0 });
        assert_eq!(limiter.check_at(a, 1, 5), Decision::Refused { retry_after_ms: 60_000 });
        assert_eq!(limiter.check_at(b, 1, 5), Decision::Allowed { remaining: 0 });
        assert_eq!(
            limiter.check_at(a, 1, 5 + 60_000_000),
            Decision::Allowed { remaining: 0 }
        );
        assert_eq!(limiter.check_at(a, 0, 5 + 600_000_000), Decision::NEVER);
    }

    #[test]
    fn idle_keys_are_dropped_and_busy_ones_are_not() {
        let limiter = InProcessLimiter::new();
        let busy = KeyId::generate();
        for _ in 0..1_000 {
            limiter.check_at(KeyId::generate(), 60, 0);
        }
        for _ in 0..60 {
            assert!(limiter.check_at(busy, 60, 30_000_000).is_allowed());
        }
        assert_eq!(limiter.tats.len(), 1_001);
        limiter.check_at(KeyId::generate(), 60, SWEEP_EVERY_US);
        assert_eq!(limiter.tats.len(), 2);
        assert_eq!(
            limiter.check_at(busy, 60, SWEEP_EVERY_US),
            Decision::Allowed { remaining: 29 }
        );
    }

    #[test]
    fn threads_together_get_no_more_than_the_limit() {
        let limiter = Arc::new(InProcessLimiter::new());
        let key = KeyId::generate();
        let allowed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    let limiter = Arc::clone(&limiter);
                    scope.spawn(move || (0..100).filter(|_| limiter.check_at(key, 100, 1).is_allowed()).count())
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(allowed, 100);
    }
}
