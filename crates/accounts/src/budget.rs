//! The spending limit of a key or a tenant: how much, and when it starts again. Pure; the ledger enforces it.

use domain::{Amount, clock::UnixMs};
use serde::{Deserialize, Serialize};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// 1970-01-01 was a Thursday, three days after a Monday.
const DAYS_FROM_MONDAY_TO_EPOCH: i64 = 3;

/// How much a key, or a tenant with all its keys, may spend within each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The most that is spent and held within one period.
    pub limit: Amount,
    /// When the count starts again.
    pub period: BudgetPeriod,
}

/// When the count of a budget starts again, always in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPeriod {
    /// At midnight.
    Day,
    /// At midnight before Monday (ISO 8601 week).
    Week,
    /// At midnight before the first of the month.
    Month,
    /// Never.
    Total,
}

impl Budget {
    /// From the two columns that hold it; `None` when they do not fit each other.
    pub(crate) fn from_columns(limit: Option<i64>, period: Option<&str>) -> Option<Option<Self>> {
        match (limit, period) {
            (None, None) => Some(None),
            (Some(limit), Some(name)) => {
                let period = BudgetPeriod::ALL.into_iter().find(|period| period.as_str() == name)?;
                Some(Some(Self {
                    limit: Amount::from_nanos(limit),
                    period,
                }))
            }
            _ => None,
        }
    }
}

impl BudgetPeriod {
    /// Every period.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    /// The stable name, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

/// The instant at which the period that contains `now` began; the epoch for [`BudgetPeriod::Total`].
pub fn period_start(period: BudgetPeriod, now: UnixMs) -> UnixMs {
    let day = now.0.div_euclid(DAY_MS);
    let first_day = match period {
        BudgetPeriod::Day => day,
        BudgetPeriod::Week => day - (day + DAYS_FROM_MONDAY_TO_EPOCH).rem_euclid(7),
        BudgetPeriod::Month => day - (i64::from(now.to_utc().day()) - 1),
        BudgetPeriod::Total => 0,
    };
    UnixMs(first_day.saturating_mul(DAY_MS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::from_rfc3339(text).unwrap()
    }

    #[test]
    fn begins_where_the_calendar_says() {
        let cases = [
            (BudgetPeriod::Day, "2026-11-21T11:54:33.5Z", "2026-11-21T00:00:00Z"),
            (BudgetPeriod::Day, "2026-11-21T00:00:00Z", "2026-11-21T00:00:00Z"),
            // a Saturday, a Monday, the Sunday before it, and a week over the new year
            (BudgetPeriod::Week, "2026-11-21T11:54:33Z", "2026-11-16T00:00:00Z"),
            (BudgetPeriod::Week, "2026-11-16T00:00:00Z", "2026-11-16T00:00:00Z"),
            (BudgetPeriod::Week, "2026-11-15T23:59:59.999Z", "2026-11-09T00:00:00Z"),
            (BudgetPeriod::Week, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z"),
            (BudgetPeriod::Month, "2028-02-29T23:59:59.999Z", "2028-02-01T00:00:00Z"),
            (BudgetPeriod::Month, "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (BudgetPeriod::Total, "2026-11-21T11:54:33Z", "1970-01-01T00:00:00Z"),
        ];
        for (period, now, start) in cases {
            assert_eq!(period_start(period, at(now)).to_rfc3339(), start, "{period:?} of {now}");
        }
    }

    proptest! {
        #[test]
        fn a_period_contains_its_moment_and_is_no_longer_than_its_name(now in 0_i64..4_102_444_800_000) {
            let now = UnixMs(now);
            for (period, longest_days) in [(BudgetPeriod::Day, 1), (BudgetPeriod::Week, 7), (BudgetPeriod::Month, 31)] {
                let start = period_start(period, now);
                prop_assert!(start <= now && now.0 - start.0 < longest_days * DAY_MS);
                prop_assert_eq!(period_start(period, start), start);
            }
        }
    }
}
