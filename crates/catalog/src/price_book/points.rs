//! PURE: what customers pay for an offer, from instant to instant.

use std::sync::Arc;

use domain::{
    clock::UnixMs,
    pricing::{Multiplier, Multipliers, PriceEntry},
};

use super::{Terms, Timeline, VersionPoint};

/// A price of an offer and the version that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PricePoint {
    /// The version and its instants.
    pub version: VersionPoint,
    /// The list price.
    pub entry: Arc<PriceEntry>,
    /// The factors on it.
    pub multipliers: Multipliers,
}

/// The prices of an offer in the order in which they take effect. What changes no customer's price (what the operator
/// pays), and what held for no time at all, is left out.
pub(crate) fn price_points(
    versions: &[VersionPoint],
    terms: &Timeline<Option<Terms>>,
    tier: Option<&Timeline<Multiplier>>,
) -> Vec<PricePoint> {
    let mut steps: Vec<usize> = terms
        .steps()
        .chain(tier.into_iter().flat_map(Timeline::steps))
        .collect();
    steps.sort_unstable();
    steps.dedup();
    let mut points: Vec<PricePoint> = Vec::new();
    for step in steps {
        let (Some(version), Some(Some(terms))) = (versions.get(step), terms.at(step)) else {
            continue;
        };
        let point = PricePoint {
            version: *version,
            entry: Arc::clone(&terms.entry),
            multipliers: terms.multipliers(tier.and_then(|tier| tier.at(step)).copied()),
        };
        if points
            .last()
            .is_some_and(|last| last.version.effective_at == version.effective_at)
        {
            points.pop();
        }
        if points.last().is_none_or(|last| !last.costs_the_same(&point)) {
            points.push(point);
        }
    }
    points
}

/// The place of the price in force at an instant; `None` before the first.
pub(crate) fn place_at(points: &[PricePoint], instant: UnixMs) -> Option<usize> {
    points
        .partition_point(|point| point.version.effective_at <= instant)
        .checked_sub(1)
}

impl PricePoint {
    fn costs_the_same(&self, other: &Self) -> bool {
        self.entry == other.entry && self.multipliers == other.multipliers
    }
}

impl Terms {
    /// The factors, with a tier's: a tier without one has 1.
    pub fn multipliers(&self, tier: Option<Multiplier>) -> Multipliers {
        Multipliers {
            pool: self.pool,
            tier: tier.unwrap_or(Multiplier::ONE),
            promotion: self.promotion,
        }
    }
}
