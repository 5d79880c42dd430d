//! How many requests may be on their second or later attempt: a share of those in flight, so that an upstream's
//! outage does not multiply the load on its neighbours.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Retries that are always allowed at once.
const MIN_CONCURRENT: usize = 3;
/// One retry for so many requests in flight (20 %).
const REQUESTS_PER_RETRY: usize = 5;

/// Counts retries under way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RetryBudget {
    retrying: Arc<AtomicUsize>,
}

/// Permission for one retry, until dropped.
#[derive(Debug)]
pub struct RetryPermit {
    retrying: Arc<AtomicUsize>,
}

impl RetryBudget {
    /// Permission to try again, given how many requests are in flight.
    pub fn take(&self, in_flight: usize) -> Option<RetryPermit> {
        let allowed = MIN_CONCURRENT.max(in_flight / REQUESTS_PER_RETRY);
        let took = self.retrying.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now < allowed).then_some(now + 1)
        });
        took.is_ok().then(|| RetryPermit {
            retrying: Arc::clone(&self.retrying),
        })
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.retrying.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_three_or_a_fifth() {
        let budget = RetryBudget::default();
        let first: Vec<_> = (0..3).map(|_| budget.take(0).unwrap()).collect();
        assert!(budget.take(0).is_none());
        assert!(budget.take(20).is_some());
        drop(first);
        assert!(budget.take(0).is_some());
    }
}
