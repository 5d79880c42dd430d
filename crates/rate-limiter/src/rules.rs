//! The rule: the generic cell rate algorithm (ITU-T I.371) over whole microseconds. Pure.
//!
//! The state of a key is one number, the *theoretical arrival time* (TAT): the instant at which its whole burst is
//! available again. Each unit moves it by one emission interval; a request is refused when that would move it
//! further ahead than the burst reaches. A TAT in the past is the same as none, so state may be dropped once it
//! lies there. `gcra.lua` is the same rule for Redis: change both together.

/// Microseconds since any fixed instant, the same for all calls on one state.
pub type Micros = u64;

const MINUTE_US: u64 = 60_000_000;

/// A rate with its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    interval_us: u64,
    burst: u32,
}

/// Whether a request may go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed {
        /// How many more may follow at once.
        remaining: u32,
    },
    /// It may not, and was not counted.
    Refused {
        /// After how many milliseconds it may, if nothing else comes between.
        retry_after_ms: u64,
    },
}

impl Decision {
    /// Whether the request may go ahead.
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// What is answered to a limit of nothing at all: no, and not before a minute has passed.
    pub(crate) const NEVER: Self = Self::Refused {
        retry_after_ms: MINUTE_US / 1_000,
    };
}

impl Quota {
    /// So many per minute, all of which may come at once; `None` for 0, which allows nothing.
    ///
    /// The interval is rounded up, so that no more than the rate gets through.
    pub fn per_minute(limit: u32) -> Option<Self> {
        (limit > 0).then(|| Self {
            interval_us: MINUTE_US.div_ceil(u64::from(limit)),
            burst: limit,
        })
    }

    /// The time between two units at the steady rate.
    pub const fn interval_us(self) -> u64 {
        self.interval_us
    }

    /// How many units may come at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// How far ahead of now the TAT may be: the time in which a spent burst comes back.
    pub const fn window_us(self) -> u64 {
        self.interval_us.saturating_mul(self.burst as u64)
    }
}

/// Decides on `cost` units at once and answers with the TAT to keep: the moved one, or, when refused, the old one.
///
/// `tat` is 0 for a key without state. A TAT further ahead than the window, left by a larger quota or by a clock
/// that was set back, counts as the end of the window.
pub fn decide(quota: Quota, tat: Micros, now: Micros, cost: u32) -> (Micros, Decision) {
    let end_of_window = now.saturating_add(quota.window_us());
    let start = tat.clamp(now, end_of_window);
    let moved = start.saturating_add(quota.interval_us.saturating_mul(u64::from(cost)));
    if moved > end_of_window {
        let retry_after_ms = (moved - end_of_window).div_ceil(1_000);
        return (start, Decision::Refused { retry_after_ms });
    }
    let remaining = (end_of_window - moved) / quota.interval_us;
    (
        moved,
        Decision::Allowed {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        },
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same promise in other words, and naively: tokens in a bucket that is full at first, counted in
    /// microseconds of credit and topped up for every microsecond that passes.
    struct Bucket {
        credit_us: u64,
        at: Micros,
    }

    impl Bucket {
        fn take(&mut self, quota: Quota, now: Micros) -> bool {
            self.credit_us = (self.credit_us + (now - self.at)).min(quota.window_us());
            self.at = now;
            let enough = self.credit_us >= quota.interval_us();
            if enough {
                self.credit_us -= quota.interval_us();
            }
            enough
        }
    }

    fn arrivals() -> impl Strategy<Value = Vec<u64>> {
        // bursts, trickles and pauses
        let gap = prop_oneof![
            Just(0_u64),
            1..1_000_u64,
            1_000..2_000_000_u64,
            2_000_000..90_000_000_u64
        ];
        prop::collection::vec(gap, 1..300)
    }

    proptest! {
        #[test]
        fn agrees_with_a_bucket(limit in 1..200_u32, gaps in arrivals(), start in 1..1_u64 << 50) {
            let quota = Quota::per_minute(limit).unwrap();
            let mut bucket = Bucket { credit_us: quota.window_us(), at: start };
            let (mut tat, mut now) = (0, start);
            for gap in gaps {
                now += gap;
                let (kept, decision) = decide(quota, tat, now, 1);
                tat = kept;
                prop_assert_eq!(decision.is_allowed(), bucket.take(quota, now));
                if let Decision::Allowed { remaining } = decision {
                    prop_assert_eq!(u64::from(remaining), bucket.credit_us / quota.interval_us());
                }
            }
        }

        /// In any stretch of time no more get through than the burst and what the rate brings meanwhile.
        #[test]
        fn no_window_holds_more_than_it_may(limit in 1..200_u32, gaps in arrivals()) {
            let quota = Quota::per_minute(limit).unwrap();
            let (mut tat, mut now, mut passed) = (0, 1_u64, Vec::new());
            for gap in gaps {
                now += gap;
                let (kept, decision) = decide(quota, tat, now, 1);
                tat = kept;
                if decision.is_allowed() {
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (count, to) in passed[first..].iter().enumerate() {
                    let most = u64::from(limit) + (to - from) / quota.interval_us();
                    prop_assert!((count as u64) < most);
                }
            }
        }

        #[test]
        fn a_refusal_says_exactly_when_to_come_back(limit in 1..5_000_u32, now in 1..1_u64 << 50, cost in 1..20_u32) {
            let quota = Quota::per_minute(limit).unwrap();
            let cost = cost.min(limit);
            let mut tat = 0;
            let wait_ms = loop {
                match decide(quota, tat, now, cost) {
                    (kept, Decision::Allowed { .. }) => tat = kept,
                    (kept, Decision::Refused { retry_after_ms }) => {
                        prop_assert_eq!(kept, tat);
                        break retry_after_ms;
                    }
                }
            };
            prop_assert!(wait_ms > 0);
            prop_assert!(decide(quota, tat, now + wait_ms * 1_000, cost).1.is_allowed());
            prop_assert!(!decide(quota, tat, now + (wait_ms - 1) * 1_000, cost).1.is_allowed());
        }

        #[test]
        fn nothing_overflows(limit: u32, tat: u64, now: u64, cost: u32) {
            if let Some(quota) = Quota::per_minute(limit) {
                let (kept, _) = decide(quota, tat, now, cost);
                prop_assert!(kept >= now);
            }
        }
    }

    #[test]
    fn the_whole_limit_may_come_at_once_and_then_one_per_interval() {
        let quota = Quota::per_minute(3).unwrap();
        let mut tat = 0;
        let mut at = |now: Micros| {
            let (kept, decision) = decide(quota, tat, now, 1);
            tat = kept;
            decision
        };
        let now = 1_000_000_000;
        assert_eq!(at(now), Decision::Allowed { remaining: 2 });
        assert_eq!(at(now), Decision::Allowed { remaining: 1 });
        assert_eq!(at(now), Decision::Allowed { remaining: 0 });
        assert_eq!(at(now), Decision::Refused { retry_after_ms: 20_000 });
        assert_eq!(at(now + 19_999_999), Decision::Refused { retry_after_ms: 1 });
        assert_eq!(at(now + 20_000_000), Decision::Allowed { remaining: 0 });
        assert_eq!(at(now + 200_000_000), Decision::Allowed { remaining: 2 });
    }

    #[test]
    fn a_clock_set_back_costs_one_window_at_most() {
        let quota = Quota::per_minute(10).unwrap();
        let (kept, decision) = decide(quota, u64::MAX, 1_000, 1);
        assert_eq!(decision, Decision::Refused { retry_after_ms: 6_000 });
        assert_eq!(kept, 1_000 + quota.window_us());
    }

    #[test]
    fn nothing_per_minute_has_no_quota() {
        assert_eq!(Quota::per_minute(0), None);
    }
}
