//! The price book in memory: what held, holds and will hold over a span of time.

use std::{collections::HashMap, sync::Arc};

use domain::{
    OfferId, PoolId,
    clock::UnixMs,
    pricing::{Multiplier, PriceEntry},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, sea_query::Expr};
use serde::de::DeserializeOwned;

use super::{PriceKind, Timeline, override_subject};
use crate::{
    CatalogError,
    entities::{price_item, price_version},
};

/// A version and its instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionPoint {
    /// The version's number.
    pub version: i64,
    /// From when it holds.
    pub effective_at: UnixMs,
}

/// Which part of the book to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BookSpan {
    /// What holds at one instant.
    At(UnixMs),
    /// What holds from an instant on, announced changes included.
    From(UnixMs),
}

/// What an offer costs, apart from the customer's tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The list price.
    pub entry: Arc<PriceEntry>,
    /// The pool's multiplier, or the one for the model in it.
    pub pool: Multiplier,
    /// The promotion's, 1 without one.
    pub promotion: Multiplier,
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
}

impl PriceBook {
    /// Reads a part of the book.
    pub async fn load(connection: &impl ConnectionTrait, span: BookSpan) -> Result<Self, CatalogError> {
        let (BookSpan::At(start) | BookSpan::From(start)) = span;
        let in_force = price_version::Entity::find()
            .filter(price_version::Column::EffectiveAtMs.lte(start.0))
            .order_by_desc(price_version::Column::Version)
            .one(connection)
            .await?;
        let first = in_force.as_ref().map_or(0, |row| row.version);
        let mut versions: Vec<_> = in_force.into_iter().collect();
        let mut wanted = newest_up_to(first);
        if matches!(span, BookSpan::From(_)) {
            let later = price_version::Entity::find()
                .filter(price_version::Column::Version.gt(first))
                .order_by_asc(price_version::Column::Version);
            versions.extend(later.all(connection).await?);
            wanted = wanted.or(price_item::Column::Version.gt(first));
        }
        let mut book = Self::default();
        book.versions.extend(versions.iter().map(|row| VersionPoint {
            version: row.version,
            effective_at: UnixMs(row.effective_at_ms),
        }));
        let items = price_item::Entity::find()
            .filter(wanted)
            .order_by_asc(price_item::Column::Version)
            .all(connection)
            .await?;
        for item in &items {
            book.add(item)?;
        }
        Ok(book)
    }

    fn add(&mut self, item: &price_item::Model) -> Result<(), CatalogError> {
        let version = item.version;
        match PriceKind::from_stored(&item.kind).ok_or_else(|| damaged(item))? {
            PriceKind::OfferPrice => {
                let offer = item.subject.parse().map_err(|_| damaged(item))?;
                self.entries
                    .entry(offer)
                    .or_default()
                    .push_change(version, Arc::new(read(item)?));
            }
            PriceKind::PoolMultiplier => {
                let pool = item.subject.parse().map_err(|_| damaged(item))?;
                self.pools.entry(pool).or_default().push_change(version, read(item)?);
            }
            PriceKind::ModelMultiplier => {
                self.overrides
                    .entry(item.subject.clone())
                    .or_default()
                    .push_change(version, read(item)?);
            }
            PriceKind::TierMultiplier => {
                self.tiers
                    .entry(item.subject.clone())
                    .or_default()
                    .push_change(version, read(item)?);
            }
            PriceKind::PromotionMultiplier => {
                let pool = item.subject.parse().map_err(|_| damaged(item))?;
                self.promotions
                    .entry(pool)
                    .or_default()
                    .push_change(version, read(item)?);
            }
        }
        Ok(())
    }

    /// The versions of the part, rising, with instants that never fall.
    pub fn versions(&self) -> &[VersionPoint] {
        &self.versions
    }

    /// The multipliers of customer tiers, taken out of the book.
    pub fn take_tiers(&mut self) -> HashMap<String, Timeline<Multiplier>> {
        std::mem::take(&mut self.tiers)
    }

    /// What an offer costs from version to version; `None` while it is not for sale.
    pub fn terms_of(&self, offer: OfferId, pool: PoolId, model: &str) -> Timeline<Option<Terms>> {
        let entries = self.entries.get(&offer);
        let pools = self.pools.get(&pool);
        let overrides = self.overrides.get(&override_subject(pool, model));
        let promotions = self.promotions.get(&pool);
        let mut versions: Vec<i64> = Vec::new();
        versions.extend(entries.into_iter().flat_map(Timeline::versions));
        versions.extend(pools.into_iter().flat_map(Timeline::versions));
        versions.extend(overrides.into_iter().flat_map(Timeline::versions));
        versions.extend(promotions.into_iter().flat_map(Timeline::versions));
        versions.sort_unstable();
        versions.dedup();

        let mut terms = Timeline::default();
        for version in versions {
            let own = overrides.and_then(|timeline| *timeline.at(version)?);
            let factor = own.or_else(|| pools?.at(version).copied());
            let promotion = promotions.and_then(|timeline| *timeline.at(version)?);
            let entry = entries.and_then(|timeline| timeline.at(version));
            let value = entry.zip(factor).map(|(entry, pool)| Terms {
                entry: Arc::clone(entry),
                pool,
                promotion: promotion.unwrap_or(Multiplier::ONE),
            });
            terms.push_change(version, value);
        }
        terms
    }
}

/// For each subject the newest line up to a version.
fn newest_up_to(version: i64) -> Expr {
    Expr::cust(format!(
        "price_item.version = (SELECT MAX(older.version) FROM price_item AS older WHERE older.kind = price_item.kind \
         AND older.subject = price_item.subject AND older.version <= {version})"
    ))
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
