//! A small circuit breaker: after a few failures in a row nobody waits any more, except for one try now and then.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::rules::Micros;

const FAILURES_TO_OPEN: u32 = 3;
const RETRY_EVERY_US: Micros = 1_000_000;

/// What a failure or success did to the breaker, for whoever tells people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It opened: work goes on without the other side.
    Opened,
    /// It closed: the other side is back.
    Closed,
}

/// Closed at first. Racing calls may count a failure more or less; that costs a try, never correctness.
#[derive(Default)]
pub(crate) struct Breaker {
    failures: AtomicU32,
    open: AtomicBool,
    next_try: AtomicU64,
}

impl Breaker {
    /// Whether to try now. While open, one caller per second may.
    pub(crate) fn may_try(&self, now: Micros) -> bool {
        if !self.open.load(Ordering::Acquire) {
            return true;
        }
        let due = self.next_try.load(Ordering::Acquire);
        let next = now.saturating_add(RETRY_EVERY_US);
        now >= due
            && self
                .next_try
                .compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn succeeded(&self) -> Option<Change> {
        // the plain loads keep the ordinary case free of writes to shared memory
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        (self.open.load(Ordering::Relaxed) && self.open.swap(false, Ordering::AcqRel)).then_some(Change::Closed)
    }

    pub(crate) fn failed(&self, now: Micros) -> Option<Change> {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        if failures < FAILURES_TO_OPEN {
            return None;
        }
        self.open_at(now)
    }

    /// Opens at once, whatever the count.
    pub(crate) fn open_at(&self, now: Micros) -> Option<Change> {
        if self.open.load(Ordering::Acquire) {
            return None;
        }
        self.next_try
            .store(now.saturating_add(RETRY_EVERY_US), Ordering::Release);
        (!self.open.swap(true, Ordering::AcqRel)).then_some(Change::Opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_three_failures_tries_once_a_second_and_closes_on_success() {
        let breaker = Breaker::default();
        assert_eq!((breaker.failed(0), breaker.failed(0)), (None, None));
        assert!(breaker.may_try(0));
        assert_eq!(breaker.failed(0), Some(Change::Opened));
        assert!(!breaker.may_try(999_999));
        assert!(breaker.may_try(1_000_000));
        assert!(!breaker.may_try(1_000_000), "one try only");
        assert_eq!(breaker.failed(1_000_000), None, "told once");
        assert!(breaker.may_try(2_000_000));
        assert_eq!(breaker.succeeded(), Some(Change::Closed));
        assert!(breaker.may_try(2_000_000) && breaker.may_try(2_000_000));
        assert_eq!(breaker.succeeded(), None);
    }

    #[test]
    fn failures_must_follow_each_other() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            assert_eq!((breaker.failed(0), breaker.failed(0)), (None, None));
            assert_eq!(breaker.succeeded(), None);
        }
        assert!(breaker.may_try(0));
    }

    #[test]
    fn can_be_opened_at_once() {
        let breaker = Breaker::default();
        assert_eq!(breaker.open_at(5), Some(Change::Opened));
        assert!(!breaker.may_try(5));
        assert_eq!(breaker.open_at(5), None);
    }
}
