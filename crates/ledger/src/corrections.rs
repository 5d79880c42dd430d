//! PURE: corrections of charges that were made: which credit a charge was paid with, and which part of it goes back.
//!
//! A batch debits all of a tenant's charges in one transaction, lot by lot. So its charges are laid against those lots, end to
//! end in the order of their requests' ids, the lots in the order of spending: that is what each request was paid with. A
//! correction gives back the last of it first, which is what would have been left had the charge been lower (ADR 14).

use std::time::Duration;

use domain::{Amount, LotId, clock::UnixMs};
use serde::{Deserialize, Serialize};

use crate::{chart::LotKind, rules::spending_rank};

/// Credit that goes back lives at least so long.
const LEAST_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Why something goes back after the charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionKind {
    /// The provider's later count is lower: the difference.
    TrueUp,
    /// The operator takes the charge back, in part or in full.
    Refund,
    /// Credit to make up for the request, whatever was charged: the charge stands.
    Goodwill,
}

/// The kinds of their transactions, for statements; an index knows them by this text.
pub(crate) const TRANSACTION_KINDS: &str = "('true_up', 'request_refund', 'request_goodwill')";

impl CorrectionKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::TrueUp, Self::Refund, Self::Goodwill];

    /// The kind of its transaction, as stored.
    pub const fn transaction_kind(self) -> &'static str {
        match self {
            Self::TrueUp => "true_up",
            Self::Refund => "request_refund",
            Self::Goodwill => "request_goodwill",
        }
    }

    pub(crate) fn parse(transaction_kind: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.transaction_kind() == transaction_kind)
    }

    /// Whether it lowers the charge. Goodwill is credit beside it.
    pub const fn lowers_charge(self) -> bool {
        !matches!(self, Self::Goodwill)
    }

    /// What it is, in a sentence for the customer.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::TrueUp => {
                "The provider's later count was lower than what had been charged; the difference was given back."
            }
            Self::Refund => {
                "The charge was taken back, in part or in full; the credit that had paid it was given back."
            }
            Self::Goodwill => "Credit was given to make up for this request; its charge stands.",
        }
    }
}

/// A part of some credit: how much of which lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The lot.
    pub lot: LotId,
    /// Paid or promotional.
    pub kind: LotKind,
    /// When the lot expires, if it does.
    pub expires_at: Option<UnixMs>,
    /// How much of it.
    pub amount: Amount,
}

impl Part {
    /// The order in which lots are spent.
    pub(crate) fn spending_rank(&self) -> (bool, i64, LotId) {
        spending_rank(self.kind, self.expires_at, self.lot)
    }
}

/// What lies between two places of some credit, the end first. `None` if the credit ends before.
pub(crate) fn between(credit: &[Part], from: Amount, to: Amount) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut begin = Amount::ZERO;
    for part in credit {
        let end = begin.checked_add(part.amount)?;
        let amount = end.min(to).less(begin.max(from));
        if !amount.is_zero() {
            parts.push(Part { amount, ..*part });
        }
        begin = end;
    }
    parts.reverse();
    (to <= begin).then_some(parts)
}

/// Where credit goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Into the lot that it came from.
    ItsLot,
    /// Into a new lot of the same kind, that expires at this instant.
    NewLot(UnixMs),
}

/// Credit goes back into its lot if this lives for a week yet. Else a new lot lives from now on for as long as the old one
/// had to live when the charge was made, and at least for a week: the charge must not have cost the customer that time.
pub(crate) fn home(expires_at: Option<UnixMs>, charged_at: UnixMs, now: UnixMs) -> Home {
    let least = i64::try_from(LEAST_LIFE.as_millis()).unwrap_or(i64::MAX);
    match expires_at {
        None => Home::ItsLot,
        Some(expiry) if expiry.0.saturating_sub(now.0) >= least => Home::ItsLot,
        Some(expiry) => {
            let life = expiry.0.saturating_sub(charged_at.0).max(least);
            Home::NewLot(UnixMs(now.0.saturating_add(life)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(kind: LotKind, amount: i64) -> Part {
        Part {
            lot: LotId::generate(),
            kind,
            expires_at: None,
            amount: Amount::from_nanos(amount),
        }
    }

    fn sum(parts: &[Part]) -> i64 {
        parts.iter().map(|part| part.amount.nanos()).sum()
    }

    #[test]
    fn statements_know_every_kind() {
        let kinds = CorrectionKind::ALL.map(|kind| format!("'{}'", kind.transaction_kind()));
        assert_eq!(TRANSACTION_KINDS, format!("({})", kinds.join(", ")));
        for kind in CorrectionKind::ALL {
            assert_eq!(CorrectionKind::parse(kind.transaction_kind()), Some(kind));
        }
    }

    #[test]
    fn the_paid_part_of_a_charge_goes_back_first() {
        let mut credit = [part(LotKind::Paid, 70), part(LotKind::Promo, 30)];
        credit.sort_by_key(Part::spending_rank);
        let amounts = |from, to| {
            let parts = between(&credit, Amount::from_nanos(from), Amount::from_nanos(to));
            parts.map(|parts| {
                parts
                    .iter()
                    .map(|part| (part.kind, part.amount.nanos()))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(amounts(60, 100), Some(vec![(LotKind::Paid, 40)]));
        assert_eq!(amounts(10, 50), Some(vec![(LotKind::Paid, 20), (LotKind::Promo, 20)]));
        assert_eq!(amounts(0, 30), Some(vec![(LotKind::Promo, 30)]));
        assert_eq!(amounts(0, 101), None);
    }

    #[test]
    fn credit_that_goes_back_has_time_to_be_spent() {
        const DAY: i64 = 24 * 3_600_000;
        let at = |days: i64| UnixMs(days * DAY);
        let home = |expires: Option<i64>, charged: i64, now: i64| home(expires.map(at), at(charged), at(now));
        assert_eq!(home(None, 0, 400), Home::ItsLot);
        assert_eq!(home(Some(30), 10, 23), Home::ItsLot);
        assert_eq!(home(Some(30), 10, 24), Home::NewLot(at(24 + 20)));
        assert_eq!(home(Some(30), 10, 90), Home::NewLot(at(90 + 20)));
        assert_eq!(
            home(Some(30), 29, 90),
            Home::NewLot(at(90 + 7)),
            "it had a day left, and gets a week"
        );
        // a request may end after the time of the credit that it was held with
        assert_eq!(home(Some(30), 31, 90), Home::NewLot(at(90 + 7)));
    }

    proptest! {
        /// However charges of one transaction are corrected, no lot gets back more than it gave, and each exactly that
        /// when all of them are.
        #[test]
        fn lots_get_back_what_they_gave(
            lots in prop::collection::vec((any::<bool>(), 1_i64..1_000), 1..6),
            cuts in prop::collection::vec(0_i64..1_000, 0..6),
            steps in prop::collection::vec((0_usize..7, 1_i64..400), 0..40),
        ) {
            let mut credit: Vec<Part> = lots
                .iter()
                .map(|(paid, amount)| part(if *paid { LotKind::Paid } else { LotKind::Promo }, *amount))
                .collect();
            credit.sort_by_key(Part::spending_rank);
            let total = sum(&credit);
            let mut ends: Vec<i64> = cuts.iter().map(|cut| cut * total / 1_000).collect();
            ends.push(total);
            ends.sort_unstable();
            let starts: Vec<i64> = std::iter::once(0).chain(ends.iter().copied()).collect();
            let mut given_back = vec![0_i64; ends.len()];
            let mut of_lots = vec![0_i64; credit.len()];
            let everything = (0..ends.len()).map(|charge| (charge, i64::MAX));
            for (charge, amount) in steps.into_iter().chain(everything) {
                let charge = charge % ends.len();
                let to = ends[charge] - given_back[charge];
                let from = starts[charge].max(to.saturating_sub(amount));
                let parts = between(&credit, Amount::from_nanos(from), Amount::from_nanos(to)).unwrap();
                prop_assert_eq!(sum(&parts), to - from);
                // the paid part first
                prop_assert!(parts.is_sorted_by_key(|part| part.kind));
                given_back[charge] += to - from;
                for back in parts {
                    let which = credit.iter().position(|part| part.lot == back.lot).unwrap();
                    of_lots[which] += back.amount.nanos();
                    prop_assert!(of_lots[which] <= credit[which].amount.nanos());
                }
            }
            let gave: Vec<i64> = credit.iter().map(|part| part.amount.nanos()).collect();
            prop_assert_eq!(of_lots, gave);
        }
    }
}
