//! PURE: how long a credential rests after a provider has refused it.

use domain::clock::UnixMs;

/// The first rest after a 401 or 403, in milliseconds. It doubles with each repetition.
const UNAUTHORIZED_FIRST_MS: i64 = 5 * 60_000;
/// The longest rest after a 401 or 403.
const UNAUTHORIZED_LONGEST_MS: i64 = 60 * 60_000;
/// The first rest after a 429 without `retry-after`. It doubles with each repetition.
const RATE_LIMITED_FIRST_MS: i64 = 5_000;
/// The longest rest after a 429 without `retry-after`.
const RATE_LIMITED_LONGEST_MS: i64 = 60_000;
/// A longer `retry-after` is not believed.
const RETRY_AFTER_LONGEST_MS: i64 = 60 * 60_000;

/// What a provider held against a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 401 or 403: the key does not work.
    Unauthorized,
    /// 429: too much was asked of the account.
    RateLimited {
        /// What the provider's `retry-after` says, in milliseconds.
        retry_after_ms: Option<i64>,
    },
}

/// What is remembered of a credential that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Until when it is not used.
    pub until: UnixMs,
    /// 401s and 403s since the last success.
    pub unauthorized: u32,
    /// 429s since the last success.
    pub rate_limited: u32,
}

impl Outage {
    /// What follows from a fault. Requests that were under way together fail together: a fault that arrives during a
    /// rest belongs to the one that began it and does not count again, but may prolong it.
    pub(super) fn after(previous: Option<Self>, fault: Fault, now: UnixMs) -> Self {
        let mut outage = previous.unwrap_or(Self {
            until: now,
            unauthorized: 0,
            rate_limited: 0,
        });
        let is_resting = previous.is_some_and(|outage| outage.is_resting(now));
        let (count, first_ms, longest_ms) = match fault {
            Fault::Unauthorized => (&mut outage.unauthorized, UNAUTHORIZED_FIRST_MS, UNAUTHORIZED_LONGEST_MS),
            Fault::RateLimited { .. } => (&mut outage.rate_limited, RATE_LIMITED_FIRST_MS, RATE_LIMITED_LONGEST_MS),
        };
        if *count == 0 || !is_resting {
            *count = count.saturating_add(1);
        } else if !matches!(
            fault,
            Fault::RateLimited {
                retry_after_ms: Some(_)
            }
        ) {
            return outage;
        }
        let rest_ms = match fault {
            Fault::RateLimited {
                retry_after_ms: Some(asked),
            } => asked.clamp(0, RETRY_AFTER_LONGEST_MS),
            _ => doubled(first_ms, *count, longest_ms),
        };
        outage.until = outage.until.max(now.plus_ms(rest_ms));
        outage
    }

    /// Whether the credential is not used at an instant.
    pub fn is_resting(&self, now: UnixMs) -> bool {
        now < self.until
    }
}

/// `first`, doubled for each time after the first, at most `longest`.
fn doubled(first_ms: i64, times: u32, longest_ms: i64) -> i64 {
    let factor = 1_i64 << times.saturating_sub(1).min(20);
    first_ms.saturating_mul(factor).min(longest_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITED: Fault = Fault::RateLimited { retry_after_ms: None };

    /// The lengths of rests when a fault comes back as soon as each is over.
    fn rests(fault: Fault, times: usize) -> Vec<i64> {
        let (mut now, mut outage, mut lengths) = (UnixMs(1_000_000), None, Vec::new());
        for _ in 0..times {
            let next = Outage::after(outage, fault, now);
            lengths.push((next.until.0 - now.0) / 1_000);
            now = next.until;
            outage = Some(next);
        }
        lengths
    }

    #[test]
    fn rests_grow_and_are_bounded() {
        assert_eq!(rests(Fault::Unauthorized, 6), [300, 600, 1200, 2400, 3600, 3600]);
        assert_eq!(rests(LIMITED, 6), [5, 10, 20, 40, 60, 60]);
        assert_eq!(rests(LIMITED, 200).last(), Some(&60));
        let told = |ms| Fault::RateLimited {
            retry_after_ms: Some(ms),
        };
        assert_eq!(rests(told(7_000), 3), [7, 7, 7]);
        assert_eq!(rests(told(i64::MAX), 1), [3600]);
        assert_eq!(rests(told(-5), 1), [0]);
    }

    #[test]
    fn faults_of_one_incident_count_once() {
        let now = UnixMs(0);
        let first = Outage::after(None, Fault::Unauthorized, now);
        let second = Outage::after(Some(first), Fault::Unauthorized, now.plus_ms(50));
        assert_eq!(second, first);
        let told = Outage::after(
            Some(first),
            Fault::RateLimited {
                retry_after_ms: Some(1_000),
            },
            now.plus_ms(60),
        );
        assert_eq!(told.until, first.until, "a shorter rest does not end a longer one");
        let limited = Outage::after(None, LIMITED, now);
        let longer = Outage::after(
            Some(limited),
            Fault::RateLimited {
                retry_after_ms: Some(30_000),
            },
            now,
        );
        assert_eq!(longer.until, now.plus_ms(30_000));
        assert_eq!(longer.rate_limited, 1);
    }

    #[test]
    fn a_worse_fault_during_a_rest_prolongs_it() {
        let limited = Outage::after(None, LIMITED, UnixMs(0));
        let refused = Outage::after(Some(limited), Fault::Unauthorized, UnixMs(10));
        assert_eq!(refused.until, UnixMs(10 + UNAUTHORIZED_FIRST_MS));
        assert_eq!((refused.unauthorized, refused.rate_limited), (1, 1));
    }
}
