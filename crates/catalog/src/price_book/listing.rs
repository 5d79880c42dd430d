//! The price list for everybody: per model and offer the list price, the multipliers and what they come to.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use domain::{
    OfferId, PoolId,
    clock::UnixMs,
    pricing::{Multiplier, Multipliers, PriceEntry, PriceLine, price_lines},
    request::Dialect,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::{Serialize, Serializer};
use store::Database;

use super::{
    BookRows, BookSpan, PriceBook, VersionPoint,
    points::{PricePoint, place_at, price_points},
};
use crate::{
    CatalogError, alias,
    entities::{model, offer, offer_first_sale, pool, provider},
    offer::OfferView,
    reading,
};

/// The prices of one instant.
#[derive(Debug, Serialize)]
pub struct PriceListing {
    /// Always `price_list`.
    pub object: &'static str,
    /// Always `USD`.
    pub currency: &'static str,
    /// The instant that was asked about; absent for the present.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_instant")]
    pub at: Option<UnixMs>,
    /// The version of the price book in force; 0 before the first.
    pub version: i64,
    /// Since when it is.
    #[serde(serialize_with = "optional_instant")]
    pub effective_at: Option<UnixMs>,
    /// When it was published.
    #[serde(serialize_with = "optional_instant")]
    pub published_at: Option<UnixMs>,
    /// The customer tier whose prices these are.
    pub tier: Option<ListedTier>,
    /// When the next version takes effect, as far as is known.
    #[serde(skip)]
    pub next_change_at: Option<UnixMs>,
    /// In the order of their ids.
    pub models: Vec<ListedModel>,
}

/// A customer tier.
#[derive(Debug, Clone, Serialize)]
pub struct ListedTier {
    /// Its name.
    pub name: String,
    /// Its factor at the instant of the list.
    pub multiplier: Multiplier,
}

/// A model and who sells it.
#[derive(Debug, Serialize)]
pub struct ListedModel {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// One per pool.
    pub offers: Vec<ListedOffer>,
}

/// A model in a pool.
#[derive(Debug, Serialize)]
pub struct ListedOffer {
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
    /// The names that the provider may report as its model, each also with a date behind it; under any other name an answer
    /// is free. Only in the present list: they are not kept for the past.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub served_names: Vec<String>,
    /// What it costs at the instant of the list; `null` while it has no price yet.
    pub price: Option<ListedPrice>,
    /// What it will cost, as announced.
    pub scheduled: Vec<ListedPrice>,
}

/// A price with the version that brought it.
#[derive(Debug, Clone, Serialize)]
pub struct ListedPrice {
    /// The version's number.
    pub version: i64,
    /// From when the price holds.
    #[serde(serialize_with = "instant")]
    pub effective_at: UnixMs,
    /// When it was published.
    #[serde(serialize_with = "instant")]
    pub published_at: UnixMs,
    /// The list price in full, from which charges are computed.
    pub list_price: Arc<PriceEntry>,
    /// The factors on it.
    pub multipliers: Multipliers,
    /// Their product, exact.
    pub multiplier: String,
    /// The same as a flat list: every price, with its condition, and what it comes to.
    pub prices: Vec<PriceLine>,
}

impl ListedPrice {
    /// As customers see a price.
    pub(crate) fn of(point: &PricePoint) -> Self {
        Self {
            version: point.version.version,
            effective_at: point.version.effective_at,
            published_at: point.version.published_at,
            list_price: Arc::clone(&point.entry),
            multipliers: point.multipliers,
            multiplier: point.multipliers.product(),
            prices: price_lines(&point.entry, &point.multipliers),
        }
    }
}

/// What an offer is called, apart from its prices.
pub(crate) struct OfferNames<'a> {
    /// The offer.
    pub offer: OfferId,
    /// The provider's short name.
    pub provider: &'a str,
    /// The pool's name.
    pub pool: &'a str,
    /// The wire format.
    pub dialect: Dialect,
    /// Whether it can be bought at present.
    pub for_sale: bool,
    /// The names that its provider may report, where they are as of the list.
    pub served_names: &'a [String],
}

/// An offer with its price at an instant and those after it; `None` when it has and will have none.
pub(crate) fn listed_offer(names: &OfferNames<'_>, points: &[PricePoint], at: UnixMs) -> Option<ListedOffer> {
    let place = place_at(points, at);
    let later = place.map_or(0, |place| place + 1);
    let listed = ListedOffer {
        offer: names.offer,
        provider: names.provider.to_owned(),
        pool: names.pool.to_owned(),
        dialect: names.dialect,
        for_sale: names.for_sale,
        served_names: names.served_names.to_vec(),
        price: place.and_then(|place| points.get(place)).map(ListedPrice::of),
        scheduled: points.iter().skip(later).map(ListedPrice::of).collect(),
    };
    (listed.price.is_some() || !listed.scheduled.is_empty()).then_some(listed)
}

/// A model with its offers; `None` without any.
pub(crate) fn listed_model(id: &str, name: &str, offers: Vec<ListedOffer>) -> Option<ListedModel> {
    (!offers.is_empty()).then(|| ListedModel {
        id: id.to_owned(),
        name: name.to_owned(),
        offers,
    })
}

/// The head of a list.
pub(crate) fn head(at: Option<UnixMs>, point: Option<VersionPoint>, tier: Option<ListedTier>) -> PriceListing {
    PriceListing {
        object: "price_list",
        currency: "USD",
        at,
        version: point.map_or(0, |point| point.version),
        effective_at: point.map(|point| point.effective_at),
        published_at: point.map(|point| point.published_at),
        tier,
        next_change_at: None,
        models: Vec::new(),
    }
}

/// The prices at any instant, past, present or announced, of everything that had one then and is or once was for
/// sale; of one model, when given.
///
/// # Errors
/// [`CatalogError::NotFound`] for an unknown model or tier.
pub async fn listing_at(
    database: &Database,
    at: UnixMs,
    model: Option<&str>,
    tier: Option<&str>,
) -> Result<PriceListing, CatalogError> {
    let reading = reading::begin(database).await?;
    let material = read_material(&reading, at, model, tier).await;
    reading.rollback().await?;
    let material = material?;
    reading::compute(move || list(material, at)).await
}

/// What a list is made of.
struct Material {
    rows: BookRows,
    offers: Vec<KnownOffer>,
    names: BTreeMap<String, String>,
    tier: Option<String>,
}

async fn read_material(
    connection: &impl ConnectionTrait,
    at: UnixMs,
    model: Option<&str>,
    tier: Option<&str>,
) -> Result<Material, CatalogError> {
    let model = match model {
        None => None,
        Some(name) => Some(find(connection, name).await?),
    };
    if let Some(tier) = tier {
        known_tier(connection, tier).await?;
    }
    Ok(Material {
        rows: BookRows::load(connection, BookSpan::At(at)).await?,
        offers: public_offers(connection, model.as_deref()).await?,
        names: model_names(connection).await?,
        tier: tier.map(str::to_owned),
    })
}

fn list(material: Material, at: UnixMs) -> Result<PriceListing, CatalogError> {
    let Material {
        rows,
        offers,
        names,
        tier,
    } = material;
    let book = PriceBook::of_rows(&rows)?;
    let step = book.step_at(at);
    let timeline = tier.as_deref().and_then(|name| book.tier(name));
    let listed_tier = tier.as_deref().map(|name| ListedTier {
        name: name.to_owned(),
        multiplier: tier_factor(&book, name, step),
    });
    let mut listing = head(
        Some(at),
        step.and_then(|step| book.versions().get(step)).copied(),
        listed_tier,
    );
    let mut models: BTreeMap<String, Vec<ListedOffer>> = BTreeMap::new();
    for known in offers {
        let terms = book.terms_of(known.view.id, known.view.pool, &known.view.model);
        let points = price_points(book.versions(), &terms, timeline);
        if let Some(offer) = listed_offer(&known.names(), &points, at) {
            models.entry(known.view.model).or_default().push(offer);
        }
    }
    for (id, offers) in models {
        let name = names.get(&id).map_or(id.as_str(), String::as_str);
        listing.models.extend(listed_model(&id, name, offers));
    }
    Ok(listing)
}

fn tier_factor(book: &PriceBook, name: &str, step: Option<usize>) -> Multiplier {
    let timeline = book.tier(name);
    step.and_then(|step| timeline?.at(step).copied())
        .unwrap_or(Multiplier::ONE)
}

/// A tier is known once it was named in the price book, whenever that holds.
pub(super) async fn known_tier(connection: &impl ConnectionTrait, name: &str) -> Result<(), CatalogError> {
    use crate::entities::price_item;
    let named = price_item::Entity::find()
        .filter(price_item::Column::Kind.eq(super::PriceKind::TierMultiplier.as_str()))
        .filter(price_item::Column::Subject.eq(name))
        .one(connection)
        .await?;
    named.map(|_| ()).ok_or_else(|| CatalogError::not_found("tier", name))
}

/// The id of a model by its id or an alias.
pub(super) async fn find(connection: &impl ConnectionTrait, name: &str) -> Result<String, CatalogError> {
    let found = alias::find_model(connection, name).await?;
    found
        .map(|view| view.id)
        .ok_or_else(|| CatalogError::not_found("model", name))
}

async fn model_names(connection: &impl ConnectionTrait) -> Result<BTreeMap<String, String>, CatalogError> {
    let rows = model::Entity::find().all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

/// An offer with the names of what it belongs to.
pub(super) struct KnownOffer {
    pub view: OfferView,
    provider: String,
    pool: String,
    for_sale: bool,
    /// Whether it can be bought, or could once.
    was_for_sale: bool,
}

impl KnownOffer {
    pub fn names(&self) -> OfferNames<'_> {
        OfferNames {
            offer: self.view.id,
            provider: &self.provider,
            pool: &self.pool,
            dialect: self.view.format,
            for_sale: self.for_sale,
            served_names: &[],
        }
    }

    /// The names for people who publish prices.
    pub fn label(&self) -> String {
        format!("{} in pool {}", self.view.model, self.pool)
    }
}

/// The offers whose prices everybody may see: those that are or once were for sale. Of one model, when given, which has
/// one.
pub(super) async fn public_offers(
    connection: &impl ConnectionTrait,
    model: Option<&str>,
) -> Result<Vec<KnownOffer>, CatalogError> {
    let mut offers = known_offers(connection, model).await?;
    offers.retain(|known| known.was_for_sale);
    match model.filter(|_| offers.is_empty()) {
        // as if it did not exist: it may be prepared for a launch
        Some(model) => Err(CatalogError::not_found("model", model)),
        None => Ok(offers),
    }
}

/// Every offer, disabled ones too: they had prices once. Of one model, when given.
pub(super) async fn known_offers(
    connection: &impl ConnectionTrait,
    model: Option<&str>,
) -> Result<Vec<KnownOffer>, CatalogError> {
    let mut wanted = offer::Entity::find()
        .order_by_asc(offer::Column::Priority)
        .order_by_asc(offer::Column::Id);
    if let Some(model) = model {
        wanted = wanted.filter(offer::Column::ModelId.eq(model));
    }
    let pools: BTreeMap<PoolId, pool::Model> = pool::Entity::find()
        .all(connection)
        .await?
        .into_iter()
        .map(|row| (PoolId::from_uuid(row.id), row))
        .collect();
    let providers = provider::Entity::find().all(connection).await?;
    let providers: BTreeMap<_, _> = providers.into_iter().map(|row| (row.id, row)).collect();
    let models = model::Entity::find()
        .filter(model::Column::Enabled.eq(true))
        .all(connection)
        .await?;
    let models: std::collections::BTreeSet<String> = models.into_iter().map(|row| row.id).collect();
    let sold = offer_first_sale::Entity::find().all(connection).await?;
    let sold: HashSet<_> = sold.into_iter().map(|row| row.offer_id).collect();
    let mut known = Vec::new();
    for row in wanted.all(connection).await? {
        let enabled = row.enabled && models.contains(&row.model_id);
        let view = OfferView::from_row(row)?;
        let pool = pools.get(&view.pool);
        let provider = pool.and_then(|pool| providers.get(&pool.provider_id));
        let (Some(pool), Some(provider)) = (pool, provider) else {
            return Err(CatalogError::damaged(format!("offer {}", view.id)));
        };
        known.push(KnownOffer {
            provider: provider.slug.clone(),
            pool: pool.name.clone(),
            for_sale: enabled && pool.enabled && provider.enabled,
            was_for_sale: sold.contains(&view.id.as_uuid()),
            view,
        });
    }
    Ok(known)
}

// serde gives these references
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(super) fn instant<S: Serializer>(instant: &UnixMs, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&instant.to_rfc3339())
}

pub(super) fn optional_instant<S: Serializer>(instant: &Option<UnixMs>, serializer: S) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => serializer.serialize_str(&instant.to_rfc3339()),
        None => serializer.serialize_none(),
    }
}
