//! The price book in memory: what held, holds and will hold over a span of time.

use std::{collections::HashMap, sync::Arc};

use domain::{
    OfferId, PoolId,
    clock::UnixMs,
    pricing::{Multiplier, PriceEntry},
};
use sea_orm::ConnectionTrait;
use serde::de::DeserializeOwned;

use super::{BookRows, BookSpan, PriceKind, Timeline, VersionPoint, override_subject};
use crate::{CatalogError, entities::price_item};

/// What an offer costs, apart from the customer's tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The list price.
    pub entry: Arc<PriceEntry>,
    /// The pool's multiplier, or the one for the model in it.
    pub pool: Multiplier,
    /// The promotion's, 1 without one.
    pub promotion: Multiplier,
    /// What the operator pays relative to list price.
    pub cost: Multiplier,
}

/// Part of the price book.
#[derive(Debug, Default)]
pub(crate) struct PriceBook {
    pub(super) versions: Vec<VersionPoint>,
    pub(super) entries: HashMap<OfferId, Timeline<Arc<PriceEntry>>>,
    pub(super) pools: HashMap<PoolId, Timeline<Multiplier>>,
    /// By `pool id|model id`.
    pub(super) overrides: HashMap<String, Timeline<Option<Multiplier>>>,
    pub(super) tiers: HashMap<String, Timeline<Multiplier>>,
    pub(super) promotions: HashMap<PoolId, Timeline<Option<Multiplier>>>,
    pub(super) costs: HashMap<PoolId, Timeline<Multiplier>>,
}

impl PriceBook {
    /// Reads a part of the book.
    pub async fn load(connection: &impl ConnectionTrait, span: BookSpan) -> Result<Self, CatalogError> {
        Self::of_rows(&BookRows::load(connection, span).await?)
    }

    /// Puts rows together.
    pub fn of_rows(rows: &BookRows) -> Result<Self, CatalogError> {
        let steps: HashMap<i64, usize> = rows.versions.iter().map(|point| point.version).zip(0..).collect();
        let mut items = Vec::with_capacity(rows.items.len());
        for item in &rows.items {
            items.push((*steps.get(&item.version).ok_or_else(|| damaged(item))?, item));
        }
        items.sort_unstable_by_key(|(step, _)| *step);
        let mut book = Self {
            versions: rows.versions.clone(),
            ..Self::default()
        };
        for (step, item) in items {
            book.add(step, item)?;
        }
        Ok(book)
    }

    fn add(&mut self, step: usize, item: &price_item::Model) -> Result<(), CatalogError> {
        match PriceKind::from_stored(&item.kind).ok_or_else(|| damaged(item))? {
            PriceKind::OfferPrice => {
                let offer = item.subject.parse().map_err(|_| damaged(item))?;
                self.entries
                    .entry(offer)
                    .or_default()
                    .push_change(step, Arc::new(read(item)?));
            }
            PriceKind::PoolMultiplier => {
                let pool = item.subject.parse().map_err(|_| damaged(item))?;
                self.pools.entry(pool).or_default().push_change(step, read(item)?);
            }
            PriceKind::ModelMultiplier => {
                self.overrides
                    .entry(item.subject.clone())
                    .or_default()
                    .push_change(step, read(item)?);
            }
            PriceKind::TierMultiplier => {
                self.tiers
                    .entry(item.subject.clone())
                    .or_default()
                    .push_change(step, read(item)?);
            }
            PriceKind::PromotionMultiplier => {
                let pool = item.subject.parse().map_err(|_| damaged(item))?;
                self.promotions.entry(pool).or_default().push_change(step, read(item)?);
            }
            PriceKind::CostMultiplier => {
                let pool = item.subject.parse().map_err(|_| damaged(item))?;
                self.costs.entry(pool).or_default().push_change(step, read(item)?);
            }
        }
        Ok(())
    }

    /// The versions of the part, in the order in which they take effect.
    pub fn versions(&self) -> &[VersionPoint] {
        &self.versions
    }

    /// The step in force at an instant; `None` before the first.
    pub fn step_at(&self, instant: UnixMs) -> Option<usize> {
        step_at(&self.versions, instant)
    }

    /// The multipliers of a customer tier.
    pub fn tier(&self, name: &str) -> Option<&Timeline<Multiplier>> {
        self.tiers.get(name)
    }

    /// The multipliers of customer tiers, taken out of the book.
    pub fn take_tiers(&mut self) -> HashMap<String, Timeline<Multiplier>> {
        std::mem::take(&mut self.tiers)
    }

    /// What an offer costs from step to step; `None` while it has no price.
    pub fn terms_of(&self, offer: OfferId, pool: PoolId, model: &str) -> Timeline<Option<Terms>> {
        let entries = self.entries.get(&offer);
        let pools = self.pools.get(&pool);
        let overrides = self.overrides.get(&override_subject(pool, model));
        let promotions = self.promotions.get(&pool);
        let costs = self.costs.get(&pool);
        let mut steps: Vec<usize> = Vec::new();
        steps.extend(entries.into_iter().flat_map(Timeline::steps));
        steps.extend(pools.into_iter().flat_map(Timeline::steps));
        steps.extend(overrides.into_iter().flat_map(Timeline::steps));
        steps.extend(promotions.into_iter().flat_map(Timeline::steps));
        steps.extend(costs.into_iter().flat_map(Timeline::steps));
        steps.sort_unstable();
        steps.dedup();

        let mut terms = Timeline::default();
        for step in steps {
            let own = overrides.and_then(|timeline| *timeline.at(step)?);
            let factor = own.or_else(|| pools?.at(step).copied());
            let promotion = promotions.and_then(|timeline| *timeline.at(step)?);
            let cost = costs.and_then(|timeline| timeline.at(step).copied());
            let entry = entries.and_then(|timeline| timeline.at(step));
            let value = entry.zip(factor).map(|(entry, pool)| Terms {
                entry: Arc::clone(entry),
                pool,
                promotion: promotion.unwrap_or(Multiplier::ONE),
                cost: cost.unwrap_or(Multiplier::ONE),
            });
            terms.push_change(step, value);
        }
        terms
    }
}

/// The last version in effect at an instant, by its place. Of several with the same instant that is the newest.
pub(crate) fn step_at(versions: &[VersionPoint], instant: UnixMs) -> Option<usize> {
    versions
        .partition_point(|point| point.effective_at <= instant)
        .checked_sub(1)
}

fn read<T: DeserializeOwned>(item: &price_item::Model) -> Result<T, CatalogError> {
    serde_json::from_str(&item.value_json).map_err(|_| damaged(item))
}

fn damaged(item: &price_item::Model) -> CatalogError {
    CatalogError::damaged(format!(
        "price book version {}, {} of {}",
        item.version, item.kind, item.subject
    ))
}
