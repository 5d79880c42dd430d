//! The catalog as requests see it: one immutable view, made whole and swapped whole.
//!
//! Holds only what is for sale. Nothing here touches the database, and a lookup allocates nothing.

mod entries;
mod listing;
mod load;

use std::{collections::HashMap, sync::Arc};

use domain::{
    clock::UnixMs,
    pricing::{Candidates, FrozenPrice, Multiplier, PRICE_CHANGE_TOLERANCE_MS},
};
use smallvec::SmallVec;

pub use entries::{CredentialEntry, ModelEntry, OfferEntry, PoolEntry, ProviderEntry};
pub(crate) use load::load;

use crate::{
    price_book::{Timeline, VersionPoint, step_at},
    wording,
};

/// A version counts on a node only if the node has looked for changes this long before its instant or later, in
/// milliseconds. Publications and cancellations are refused earlier than that, so that none can be missed.
pub const CONFIRM_MS: i64 = 6_000;

/// How long before a version's instant what is said about it must be about to be committed, in milliseconds:
/// [`CONFIRM_MS`], and three seconds for the commit itself and for clocks that differ.
pub(crate) const COMMIT_LEAD_MS: i64 = CONFIRM_MS + 3_000;

/// Everything for sale, with its prices from a few minutes ago on, announced changes included.
#[derive(Debug, Default)]
pub struct Snapshot {
    change_version: i64,
    /// The database's clock before anything was read.
    read_at_ms: i64,
    /// In the order of their ids.
    models: Vec<Arc<ModelEntry>>,
    /// Ids and aliases in lower case.
    names: HashMap<String, usize>,
    pools: Vec<Arc<PoolEntry>>,
    versions: Vec<VersionPoint>,
    tiers: HashMap<String, Timeline<Multiplier>>,
}

/// Where an offer's terms and the tier's factor stand in their timelines at one step.
type Places = (usize, Option<usize>);

impl Snapshot {
    /// The model that a name stands for, as its id or an alias, whatever its case. It may have no offer at present.
    pub fn model(&self, name: &str) -> Option<&Arc<ModelEntry>> {
        self.models.get(*self.names.get(wording::folded(name).as_ref())?)
    }

    /// Every enabled model in the order of ids, those without an offer included.
    pub fn models(&self) -> impl Iterator<Item = &Arc<ModelEntry>> {
        self.models.iter()
    }

    /// The enabled pools with their usable credentials.
    pub fn pools(&self) -> &[Arc<PoolEntry>] {
        &self.pools
    }

    /// When it was read, by the database's clock.
    pub const fn read_at(&self) -> UnixMs {
        UnixMs(self.read_at_ms)
    }

    /// The change notice up to which this view is current.
    pub const fn change_version(&self) -> i64 {
        self.change_version
    }

    /// The version of the price book in force at an instant; 0 before the first.
    pub fn version_at(&self, instant: UnixMs) -> i64 {
        self.place_at(instant)
            .and_then(|place| self.versions.get(place))
            .map_or(0, |point| point.version)
    }

    /// The prices of an offer for a customer tier, frozen for a request that is admitted now. The first is the one in
    /// force; others follow when a change of this price is at most a second away, on either side. Empty while the
    /// offer has no price, which means that it is not for sale.
    pub fn frozen_prices(&self, offer: &OfferEntry, tier: &str, admitted_at: UnixMs) -> Candidates {
        let mut candidates = Candidates::new();
        let Some(current) = self.place_at(admitted_at) else {
            return candidates;
        };
        let tier = self.tiers.get(tier);
        let mut seen: SmallVec<[Places; 2]> = SmallVec::new();
        for place in std::iter::once(current).chain(self.neighbours(current, admitted_at)) {
            let Some(version) = self.versions.get(place).map(|point| point.version) else {
                continue;
            };
            let places = offer
                .terms
                .place_at(place)
                .map(|terms| (terms, tier.and_then(|tier| tier.place_at(place))));
            let Some((places, frozen)) =
                places.and_then(|places| Some((places, freeze(offer, tier, places, version, admitted_at)?)))
            else {
                if place == current {
                    return candidates;
                }
                continue;
            };
            if !seen.contains(&places) {
                seen.push(places);
                candidates.extend(frozen);
            }
        }
        candidates
    }

    /// The price of an offer for a customer tier in force at an instant, as lists show it. `None` while the offer is
    /// not for sale.
    pub fn price_in_force(&self, offer: &OfferEntry, tier: &str, instant: UnixMs) -> Option<FrozenPrice> {
        self.frozen_prices(offer, tier, instant).into_iter().next()
    }

    /// The last version in effect. Of several with the same instant that is the newest.
    fn place_at(&self, instant: UnixMs) -> Option<usize> {
        step_at(&self.versions, instant)
    }

    /// Versions that were or will be in force at most a second from an instant, without the present one.
    fn neighbours(&self, current: usize, instant: UnixMs) -> impl Iterator<Item = usize> {
        let effective_at = |place: usize| self.versions.get(place).map(|point| point.effective_at);
        let is_near = move |at: UnixMs| at.0.saturating_sub(instant.0).saturating_abs() <= PRICE_CHANGE_TOLERANCE_MS;
        // an earlier version was in force until its successor's instant
        let earlier = (0..current)
            .rev()
            .take_while(move |place| effective_at(place + 1).is_some_and(is_near));
        let later =
            (current + 1..self.versions.len()).take_while(move |place| effective_at(*place).is_some_and(is_near));
        // one whose successor has the same instant was in force for no time at all
        earlier
            .chain(later)
            .filter(move |place| effective_at(*place) != effective_at(place + 1))
    }
}

/// Since when a view must be known to hold every change before a request that is admitted now may be priced by it. What
/// was published or cancelled later can concern only versions that do not count yet, whether this node has heard of them
/// or not.
pub(crate) const fn must_be_confirmed_since(admitted_at: UnixMs) -> UnixMs {
    // a version counts from a moment before its instant on
    admitted_at.plus_ms(PRICE_CHANGE_TOLERANCE_MS - CONFIRM_MS)
}

fn freeze(
    offer: &OfferEntry,
    tier: Option<&Timeline<Multiplier>>,
    (terms, tier_place): Places,
    version: i64,
    admitted_at: UnixMs,
) -> Option<Candidates> {
    let terms = offer.terms.value(terms)?.as_ref()?;
    let factor = tier.zip(tier_place).and_then(|(tier, place)| tier.value(place));
    Some(FrozenPrice::candidates_at(
        version,
        Arc::clone(&terms.entry),
        terms.multipliers(factor.copied()),
        terms.cost,
        admitted_at,
    ))
}
