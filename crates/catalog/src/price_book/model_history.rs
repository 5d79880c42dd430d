//! Every price that a model ever had or will have, cancelled ones included.

use std::collections::BTreeMap;

use domain::{OfferId, clock::UnixMs, pricing::Multiplier, request::Dialect};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde::Serialize;

use super::{
    BookRows, ListedPrice, PriceBook, PriceKind, Timeline, VersionPoint,
    listing::{KnownOffer, find, known_offers, known_tier, optional_instant},
    override_subject,
    points::{PricePoint, price_points},
    rows::{cancellations_of, point_of, subject_items},
};
use crate::{
    CatalogError,
    entities::{price_item, price_version},
};

/// The prices of a model through time.
#[derive(Debug, Serialize)]
pub struct ModelPriceHistory {
    /// Always `price_history`.
    pub object: &'static str,
    /// Always `USD`.
    pub currency: &'static str,
    /// The model's id.
    pub model: String,
    /// The customer tier whose prices these are.
    pub tier: Option<String>,
    /// Those of each pool.
    pub offers: Vec<HistoryOffer>,
}

/// The prices of a model in one pool.
#[derive(Debug, Serialize)]
pub struct HistoryOffer {
    /// The offer's id.
    pub offer: OfferId,
    /// The provider's short name.
    pub provider: String,
    /// The pool's name.
    pub pool: String,
    /// The wire format.
    pub dialect: Dialect,
    /// Whether it can be bought at present.
    pub for_sale: bool,
    /// In the order in which they took or take effect.
    pub prices: Vec<HistoryPrice>,
}

/// One price and how long it held.
#[derive(Debug, Serialize)]
pub struct HistoryPrice {
    /// `past`, `current`, `scheduled` or `cancelled`.
    pub state: &'static str,
    /// Until when it holds; `null` without an end, and when cancelled.
    #[serde(serialize_with = "optional_instant")]
    pub until: Option<UnixMs>,
    /// When it was cancelled, before it took effect.
    #[serde(serialize_with = "optional_instant")]
    pub cancelled_at: Option<UnixMs>,
    /// The price.
    #[serde(flatten)]
    pub price: ListedPrice,
}

/// Every price of a model by its id or an alias, for customers without a tier or of one.
///
/// # Errors
/// [`CatalogError::NotFound`] for an unknown model or tier.
pub async fn model_price_history(
    connection: &impl ConnectionTrait,
    model: &str,
    tier: Option<&str>,
    now: UnixMs,
) -> Result<ModelPriceHistory, CatalogError> {
    let model = find(connection, model).await?;
    if let Some(tier) = tier {
        known_tier(connection, tier).await?;
    }
    let offers = known_offers(connection, Some(&model)).await?;
    let subjects = subjects_of(&offers, tier);
    let rows = BookRows::load_subjects(connection, &subjects).await?;
    let book = PriceBook::of_rows(&rows)?;
    let cancelled = cancelled_versions(connection, &subjects).await?;
    let mut history = ModelPriceHistory {
        object: "price_history",
        currency: "USD",
        model,
        tier: tier.map(str::to_owned),
        offers: Vec::new(),
    };
    for known in offers {
        let mut prices = held(&points_of(&book, &known, tier), now);
        for version in &cancelled {
            prices.extend(would_have_held(&rows, version, &known, tier)?);
        }
        prices.sort_by_key(|price| (price.price.effective_at, price.price.version));
        if !prices.is_empty() {
            let names = known.names();
            history.offers.push(HistoryOffer {
                offer: names.offer,
                provider: names.provider.to_owned(),
                pool: names.pool.to_owned(),
                dialect: names.dialect,
                for_sale: names.for_sale,
                prices,
            });
        }
    }
    Ok(history)
}

fn subjects_of(offers: &[KnownOffer], tier: Option<&str>) -> Vec<(PriceKind, String)> {
    let mut subjects: Vec<_> = tier
        .map(|tier| (PriceKind::TierMultiplier, tier.to_owned()))
        .into_iter()
        .collect();
    for KnownOffer { view, .. } in offers {
        subjects.push((PriceKind::OfferPrice, view.id.to_string()));
        subjects.push((PriceKind::PoolMultiplier, view.pool.to_string()));
        subjects.push((PriceKind::PromotionMultiplier, view.pool.to_string()));
        subjects.push((PriceKind::ModelMultiplier, override_subject(view.pool, &view.model)));
    }
    subjects.sort();
    subjects.dedup();
    subjects
}

fn points_of(book: &PriceBook, known: &KnownOffer, tier: Option<&str>) -> Vec<PricePoint> {
    let terms = book.terms_of(known.view.id, known.view.pool, &known.view.model);
    let tier: Option<&Timeline<Multiplier>> = tier.and_then(|tier| book.tier(tier));
    price_points(book.versions(), &terms, tier)
}

fn held(points: &[PricePoint], now: UnixMs) -> Vec<HistoryPrice> {
    let ends = points.iter().skip(1).map(|next| Some(next.version.effective_at));
    let ends = ends.chain(std::iter::once(None));
    let shown = points.iter().zip(ends).map(|(point, until)| HistoryPrice {
        state: match until {
            _ if point.version.effective_at > now => "scheduled",
            Some(until) if until <= now => "past",
            _ => "current",
        },
        until,
        cancelled_at: None,
        price: ListedPrice::of(point),
    });
    shown.collect()
}

/// A cancelled version with what it said about the subjects.
struct Cancelled {
    point: VersionPoint,
    cancelled_at: UnixMs,
    items: Vec<price_item::Model>,
}

async fn cancelled_versions(
    connection: &impl ConnectionTrait,
    subjects: &[(PriceKind, String)],
) -> Result<Vec<Cancelled>, CatalogError> {
    let mut items: BTreeMap<i64, Vec<price_item::Model>> = BTreeMap::new();
    for item in subject_items(connection, subjects).await? {
        items.entry(item.version).or_default().push(item);
    }
    let versions: Vec<i64> = items.keys().copied().collect();
    let mut found = Vec::new();
    for row in cancellations_of(connection, &versions).await? {
        let version = price_version::Entity::find()
            .filter(price_version::Column::Version.eq(row.version))
            .one(connection)
            .await?;
        let version = version.ok_or_else(|| CatalogError::damaged(format!("price version {}", row.version)))?;
        found.push(Cancelled {
            point: point_of(&version),
            cancelled_at: UnixMs(row.cancelled_at_ms),
            items: items.remove(&row.version).unwrap_or_default(),
        });
    }
    Ok(found)
}

/// The price that a cancelled version would have brought for an offer, if it would have changed it.
fn would_have_held(
    rows: &BookRows,
    cancelled: &Cancelled,
    known: &KnownOffer,
    tier: Option<&str>,
) -> Result<Option<HistoryPrice>, CatalogError> {
    let book = PriceBook::of_rows(&rows.with(cancelled.point, cancelled.items.iter().cloned()))?;
    let points = points_of(&book, known, tier);
    let point = points
        .iter()
        .find(|point| point.version.version == cancelled.point.version);
    Ok(point.map(|point| HistoryPrice {
        state: "cancelled",
        until: None,
        cancelled_at: Some(cancelled.cancelled_at),
        price: ListedPrice::of(point),
    }))
}
