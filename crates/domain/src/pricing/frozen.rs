//! A price as it stood when a request was admitted. Nothing that happens later changes it.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::{
    entry::PriceEntry,
    multiplier::{Multiplier, Multipliers},
};
use crate::clock::UnixMs;

/// How close to a price change an admission must be for both prices to count, in milliseconds: clocks of customer,
/// relay and database do not agree better than that.
pub const PRICE_CHANGE_TOLERANCE_MS: i64 = 1_000;

/// The prices among which a request was admitted: one, or two around a price change. It is quoted at the dearest and
/// charged at the cheapest.
pub type Candidates = SmallVec<[FrozenPrice; 2]>;

/// One offer's price entry and factors, frozen at admission.
#[derive(Debug, Clone)]
pub struct FrozenPrice {
    /// The version of the price book.
    pub version: i64,
    /// The offer's prices.
    pub entry: Arc<PriceEntry>,
    /// The factors on them.
    pub multipliers: Multipliers,
    /// What the operator pays relative to list price; no customer sees it.
    pub cost: Multiplier,
    /// The instant that chooses among announced changes.
    pub admitted_at: UnixMs,
}

impl FrozenPrice {
    /// The candidates within one version: two when an announced change is within a second of the admission. The first
    /// is the one in force.
    pub fn candidates_at(
        version: i64,
        entry: Arc<PriceEntry>,
        multipliers: Multipliers,
        cost: Multiplier,
        admitted_at: UnixMs,
    ) -> Candidates {
        let near = entry
            .scheduled()
            .iter()
            .map(|change| change.effective_from.starts_at())
            .find(|boundary| (boundary.0.saturating_sub(admitted_at.0)).saturating_abs() <= PRICE_CHANGE_TOLERANCE_MS);
        let in_force = Self {
            version,
            entry,
            multipliers,
            cost,
            admitted_at,
        };
        let Some(boundary) = near else {
            return smallvec![in_force];
        };
        let other_side = if admitted_at < boundary {
            boundary
        } else {
            boundary.plus_ms(-1)
        };
        let other = Self {
            admitted_at: other_side,
            ..in_force.clone()
        };
        smallvec![in_force, other]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_within_a_second_makes_two_candidates() {
        let entry = r#"{"price":{"input":"1"},"scheduled":[{"effective_from":"2027-01-01","price":{"input":"2"}}]}"#;
        let entry: Arc<PriceEntry> = Arc::new(serde_json::from_str(entry).unwrap());
        let change = UnixMs::from_rfc3339("2027-01-01T00:00:00Z").unwrap();
        let instants = |offset_ms: i64| -> Vec<i64> {
            FrozenPrice::candidates_at(
                1,
                Arc::clone(&entry),
                Multipliers::ONE,
                Multiplier::ONE,
                change.plus_ms(offset_ms),
            )
            .iter()
            .map(|candidate| candidate.admitted_at.0 - change.0)
            .collect()
        };
        assert_eq!(instants(-1_001), [-1_001]);
        assert_eq!(instants(-1_000), [-1_000, 0]);
        assert_eq!(instants(-1), [-1, 0]);
        assert_eq!(instants(0), [0, -1]);
        assert_eq!(instants(1_000), [1_000, -1]);
        assert_eq!(instants(1_001), [1_001]);
        let far = FrozenPrice::candidates_at(1, entry, Multipliers::ONE, Multiplier::ONE, UnixMs(i64::MIN));
        assert_eq!(far.len(), 1);
    }
}
