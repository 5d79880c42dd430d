//! PURE: how long an upstream was kept waiting by a client that reads slowly. Nothing is read from the upstream meanwhile, and
//! it may give up for that, which is no failure of it.

use std::time::{Duration, Instant};

/// A client reads slowly when the upstream has had to wait for it for this part of the longest stall, all waits together.
const PARTS_OF_A_STALL: u32 = 10;

/// The waits so far.
#[derive(Debug)]
pub struct Patience {
    since: Instant,
    waited: Duration,
    most: Duration,
}

impl Patience {
    /// None yet. `stall` is the longest time in which a client may read nothing.
    pub fn new(stall: Duration, now: Instant) -> Self {
        Self {
            since: now,
            waited: Duration::ZERO,
            most: stall / PARTS_OF_A_STALL,
        }
    }

    /// The client has something to read: the upstream waits.
    pub const fn client_has_some(&mut self, now: Instant) {
        self.since = now;
    }

    /// The client asks for more, or somebody does in its place.
    pub fn more_is_wanted(&mut self, now: Instant) {
        self.waited += now.saturating_duration_since(self.since);
    }

    /// Whether the client is to blame if the upstream has given up.
    pub fn is_at_its_end(&self) -> bool {
        self.waited >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_waits_are_a_long_one_and_the_upstreams_own_time_is_none() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(Duration::from_secs(60), start);
        for second in 0..5 {
            patience.more_is_wanted(at(100 * second + 1));
            assert!(!patience.is_at_its_end());
            // the upstream takes long
            patience.client_has_some(at(100 * second + 100));
        }
        patience.more_is_wanted(at(501));
        assert!(patience.is_at_its_end());
    }
}
