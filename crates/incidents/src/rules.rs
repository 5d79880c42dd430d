//! PURE: when an incident opens, when it is over, and when an offer goes out of sale.

use std::time::Duration;

use domain::Amount;

/// The rules' numbers. Operators set them (`[incidents]`).
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// About other models.
    pub substitution: SubstitutionRule,
    /// About upstreams that fail.
    pub outage: OutageRule,
    /// By how much a bill may differ from the books, in hundredths of a percent of the bill.
    pub drift_basis_points: u32,
    /// The longest time that a request takes: rows of what was admitted so long ago may still come.
    pub longest_request: Duration,
}

/// When an offer goes out of sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubstitutionRule {
    /// After so many answers of another model; 0 for never.
    pub mismatches: u32,
    /// Within so long.
    pub window: Duration,
}

impl SubstitutionRule {
    /// Whether an offer goes out of sale after so many answers of another model in the window.
    pub fn takes_out(&self, mismatches: u64) -> bool {
        self.mismatches > 0 && mismatches >= u64::from(self.mismatches)
    }
}

/// When a provider counts as failing, and when no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutageRule {
    /// From so many failures in a hundred attempts on.
    pub percent: u32,
    /// Below so many it has recovered.
    pub recovered_percent: u32,
    /// Of at least so many attempts.
    pub attempts: u32,
    /// Within so long.
    pub window: Duration,
}

/// The attempts at one provider in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All that have ended.
    pub attempts: u64,
    /// Those that the upstream failed.
    pub failed: u64,
}

/// What the outage rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageStep {
    /// It begins.
    Opens,
    /// It goes on.
    Lasts,
    /// It is over.
    Ends,
    /// There is none.
    Nothing,
}

impl OutageRule {
    /// Decides. Silence ends an outage too: a provider that nobody asks any more fails nobody.
    ///
    /// Shares are of the least number of attempts at least: one that fails in a quiet hour neither opens an outage nor keeps
    /// one open.
    pub fn judge(&self, is_open: bool, counts: Counts) -> OutageStep {
        let is_enough = |percent: u32| self.is_share(percent, counts.failed, counts.attempts);
        match is_open {
            false if counts.attempts >= u64::from(self.attempts) && is_enough(self.percent) => OutageStep::Opens,
            false => OutageStep::Nothing,
            true if is_enough(self.recovered_percent) => OutageStep::Lasts,
            true => OutageStep::Ends,
        }
    }

    /// Whether it makes a difference how many attempts there were beside so many failures.
    pub fn must_count(&self, is_open: bool, failed: u64) -> bool {
        let percent = if is_open { self.recovered_percent } else { self.percent };
        self.is_share(percent, failed, 0)
    }

    fn is_share(&self, percent: u32, failed: u64, attempts: u64) -> bool {
        let attempts = attempts.max(u64::from(self.attempts));
        failed > 0 && u128::from(failed) * 100 >= u128::from(percent) * u128::from(attempts)
    }

    /// How many attempts there may be, with so many failures, before it makes no difference how many more there are.
    pub fn enough(&self, failed: u64) -> u64 {
        let lowest = u64::from(self.recovered_percent.min(self.percent).max(1));
        (failed.saturating_mul(100) / lowest)
            .saturating_add(1)
            .max(u64::from(self.attempts))
    }
}

/// Whether a bill differs from the books by more than a share of it, in hundredths of a percent (`billing_drift` in
/// docs/incidents.md; 1 % by default).
pub fn drifts(billed: Amount, booked: Amount, basis_points: u32) -> bool {
    let (billed, booked) = (i128::from(billed.nanos()), i128::from(booked.nanos()));
    (billed - booked).abs() * 10_000 > i128::from(basis_points) * billed.abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: OutageRule = OutageRule {
        percent: 50,
        recovered_percent: 10,
        attempts: 20,
        window: Duration::from_secs(300),
    };

    fn counts(failed: u64, attempts: u64) -> Counts {
        Counts { attempts, failed }
    }

    #[test]
    fn an_outage_opens_with_half_of_twenty_and_ends_below_a_tenth() {
        assert_eq!(RULE.judge(false, counts(19, 19)), OutageStep::Nothing);
        assert_eq!(RULE.judge(false, counts(10, 20)), OutageStep::Opens);
        assert_eq!(RULE.judge(false, counts(9, 20)), OutageStep::Nothing);
        assert_eq!(RULE.judge(true, counts(2, 20)), OutageStep::Lasts);
        assert_eq!(RULE.judge(true, counts(1, 20)), OutageStep::Ends);
        // few failures are no outage that lasts, however few were asked
        assert_eq!(RULE.judge(true, counts(1, 1)), OutageStep::Ends);
        assert_eq!(RULE.judge(true, counts(2, 2)), OutageStep::Lasts);
        assert_eq!(RULE.judge(true, Counts::default()), OutageStep::Ends);
        assert_eq!(RULE.judge(false, Counts::default()), OutageStep::Nothing);
    }

    #[test]
    fn a_hundredth_may_differ_and_no_more() {
        let usd = Amount::from_usd;
        assert!(!drifts(usd(100), usd(99), 100));
        assert!(!drifts(usd(100), usd(101), 100));
        assert!(drifts(usd(100), Amount::from_nanos(98_999_999_999), 100));
        assert!(drifts(Amount::ZERO, Amount::from_nanos(1), 100));
        assert!(!drifts(Amount::ZERO, Amount::ZERO, 0));
    }

    proptest! {
        #[test]
        fn more_failures_never_end_an_outage_nor_keep_one_from_opening(
            attempts in 0..500_u64, failed in 0..500_u64, more in 0..100_u64,
        ) {
            let failed = failed.min(attempts);
            let worse = counts((failed + more).min(attempts), attempts);
            let better = counts(failed, attempts);
            if RULE.judge(false, better) == OutageStep::Opens {
                prop_assert_eq!(RULE.judge(false, worse), OutageStep::Opens);
            }
            if RULE.judge(true, better) == OutageStep::Lasts {
                prop_assert_eq!(RULE.judge(true, worse), OutageStep::Lasts);
            }
            // what has just opened does not end by the same numbers
            if RULE.judge(false, better) == OutageStep::Opens {
                prop_assert_eq!(RULE.judge(true, better), OutageStep::Lasts);
            }
        }

        #[test]
        fn counting_further_than_enough_changes_nothing(failed in 0..300_u64, beyond in 0..10_000_u64, open: bool) {
            let enough = RULE.enough(failed);
            prop_assert_eq!(RULE.judge(open, counts(failed, enough)), RULE.judge(open, counts(failed, enough + beyond)));
        }

        #[test]
        fn what_need_not_be_counted_makes_no_difference(failed in 0..300_u64, beyond in 0..10_000_u64, open: bool) {
            let alone = RULE.judge(open, counts(failed, failed));
            prop_assert!(RULE.must_count(open, failed) || RULE.judge(open, counts(failed, failed + beyond)) == alone);
            prop_assert_eq!(RULE.must_count(open, failed), failed >= if open { 2 } else { 10 });
        }

        #[test]
        fn drift_is_the_same_in_both_directions(billed in 0..i64::MAX / 4, by in 0..i64::MAX / 4, points in 0..10_000_u32) {
            let amount = Amount::from_nanos;
            let above = drifts(amount(billed), amount(billed + by), points);
            prop_assert_eq!(above, drifts(amount(billed), amount(billed - by), points));
            prop_assert!(!drifts(amount(billed), amount(billed), points));
        }

        #[test]
        fn an_offer_goes_out_at_its_number_and_not_before(number in 0..50_u32, seen in 0..60_u64) {
            let rule = SubstitutionRule { mismatches: number, window: Duration::from_secs(1) };
            prop_assert_eq!(rule.takes_out(seen), number > 0 && seen >= u64::from(number));
        }
    }
}
