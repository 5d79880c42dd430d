//! Every price that a model ever had or will have, cancelled ones included.

use std::collections::{BTreeMap, HashMap};

use domain::{OfferId, clock::UnixMs, pricing::Multiplier, request::Dialect};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde::Serialize;
use store::Database;

use super::{
    BookRows, ListedPrice, PriceBook, PriceKind, Timeline, VersionPoint,
    listing::{KnownOffer, find, known_tier, optional_instant, public_offers},
    override_subject,
    points::{PricePoint, price_points},
    rows::{cancellations_of, point_of},
};
use crate::{
    CatalogError,
    entities::{price_item, price_version},
    reading,
};

/// The most prices of an offer that a history shows: the latest.
const MOST_PRICES: usize = 500;
/// The most cancelled versions that a history shows: the latest.
const MOST_CANCELLED: usize = 50;

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
    /// Whether older ones are left out.
    pub truncated: bool,
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

/// Every price of a model by its id or an alias, for customers without a tier or of one. Of offers that are or once were for
/// sale.
///
/// # Errors
/// [`CatalogError::NotFound`] for an unknown model or tier.
pub async fn model_price_history(
    database: &Database,
    model: &str,
    tier: Option<&str>,
    now: UnixMs,
) -> Result<ModelPriceHistory, CatalogError> {
    let reading = reading::begin(database).await?;
    let material = read_material(&reading, model, tier).await;
    reading.rollback().await?;
    let material = material?;
    reading::compute(move || write_history(material, now)).await
}

/// What a history is made of.
struct Material {
    model: String,
    tier: Option<String>,
    offers: Vec<KnownOffer>,
    rows: BookRows,
    cancelled: Vec<Cancelled>,
    truncated: bool,
}

async fn read_material(
    connection: &impl ConnectionTrait,
    model: &str,
    tier: Option<&str>,
) -> Result<Material, CatalogError> {
    let model = find(connection, model).await?;
    if let Some(tier) = tier {
        known_tier(connection, tier).await?;
    }
    let offers = public_offers(connection, Some(&model)).await?;
    let subjects = subjects_of(&offers, tier);
    let (rows, cancelled) = BookRows::load_subjects(connection, &subjects).await?;
    let (cancelled, truncated) = cancelled_versions(connection, cancelled).await?;
    Ok(Material {
        model,
        tier: tier.map(str::to_owned),
        offers,
        rows,
        cancelled,
        truncated,
    })
}

fn write_history(material: Material, now: UnixMs) -> Result<ModelPriceHistory, CatalogError> {
    let Material {
        model,
        tier,
        offers,
        rows,
        cancelled,
        truncated,
    } = material;
    let book = PriceBook::of_rows(&rows)?;
    let mut imagined = Vec::with_capacity(cancelled.len());
    for version in &cancelled {
        imagined.push((version, PriceBook::of_rows(&rows.up_to(version.point, &version.items))?));
    }
    let tier = tier.as_deref();
    let mut history = ModelPriceHistory {
        object: "price_history",
        currency: "USD",
        model,
        tier: tier.map(str::to_owned),
        truncated,
        offers: Vec::new(),
    };
    for known in offers {
        let mut prices = held(&points_of(&book, &known, tier), now);
        for (version, book) in &imagined {
            prices.extend(would_have_held(book, version, &known, tier));
        }
        prices.sort_by_key(|price| (price.price.effective_at, price.price.version));
        if let Some(too_many) = prices.len().checked_sub(MOST_PRICES).filter(|count| *count > 0) {
            prices.drain(..too_many);
            history.truncated = true;
        }
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

/// The newest of them, and whether there were more.
async fn cancelled_versions(
    connection: &impl ConnectionTrait,
    said: Vec<price_item::Model>,
) -> Result<(Vec<Cancelled>, bool), CatalogError> {
    let mut items: BTreeMap<i64, Vec<price_item::Model>> = BTreeMap::new();
    for item in said {
        items.entry(item.version).or_default().push(item);
    }
    let newest: Vec<i64> = items.keys().rev().take(MOST_CANCELLED).copied().collect();
    let truncated = newest.len() < items.len();
    let cancellations = cancellations_of(connection, &newest).await?;
    let mut cancelled_at: HashMap<i64, i64> = cancellations
        .into_iter()
        .map(|row| (row.version, row.cancelled_at_ms))
        .collect();
    let versions = price_version::Entity::find()
        .filter(price_version::Column::Version.is_in(newest))
        .all(connection)
        .await?;
    let mut found = Vec::new();
    for version in versions {
        let cancelled_at = cancelled_at.remove(&version.version);
        found.push(Cancelled {
            point: point_of(&version),
            cancelled_at: UnixMs(
                cancelled_at.ok_or_else(|| CatalogError::damaged(format!("price version {}", version.version)))?,
            ),
            items: items.remove(&version.version).unwrap_or_default(),
        });
    }
    Ok((found, truncated))
}

/// The price that a cancelled version would have brought for an offer, if it would have changed it.
fn would_have_held(
    book: &PriceBook,
    cancelled: &Cancelled,
    known: &KnownOffer,
    tier: Option<&str>,
) -> Option<HistoryPrice> {
    let points = points_of(book, known, tier);
    let point = points
        .iter()
        .find(|point| point.version.version == cancelled.point.version);
    point.map(|point| HistoryPrice {
        state: "cancelled",
        until: None,
        cancelled_at: Some(cancelled.cancelled_at),
        price: ListedPrice::of(point),
    })
}
