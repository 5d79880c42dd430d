//! Offers: models served by pools. Their prices are in the price book.

use std::{collections::HashMap, sync::Arc};

use domain::{OfferId, PoolId, clock::UnixMs, pricing::PriceEntry, request::Dialect, served_names::ServedNames};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use store::{
    Tx,
    audit::{self, Actor},
};

use crate::{
    CatalogError, change,
    entities::offer,
    model::get_model,
    offer_defaults, offer_names,
    page::page_length,
    pool::get_pool,
    price_book::{self, NoticePeriod, PriceChange, PriceKind},
    provider::get_provider,
    sales,
    seed::{seed_names, seed_offers},
    wording,
};

/// The largest priority and weight.
const MOST: u32 = 1_000_000;

/// An offer as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferView {
    /// The offer.
    pub id: OfferId,
    /// The model's id.
    pub model: String,
    /// The pool that serves it.
    pub pool: PoolId,
    /// The provider's name for the model.
    pub upstream_model_id: String,
    /// The wire format that is spoken.
    pub format: Dialect,
    /// How the provider's usage object is read.
    pub usage_profile: String,
    /// Offers with a lower number are tried first.
    pub priority: u32,
    /// The share of requests among offers of the same priority; 0 means only when no other is left.
    pub weight: u32,
    /// Whether it is for sale.
    pub enabled: bool,
    /// The names that the upstream may report, as the operator listed them; empty for the default.
    pub served_names: Vec<String>,
    /// When it was added.
    pub created_at: UnixMs,
    /// The list price published last. It may take effect later.
    pub price: Option<Arc<PriceEntry>>,
    /// The version of the price book that set it.
    pub price_version: Option<i64>,
}

/// An offer to add. It starts enabled; its price is in effect at once. What is left out comes from the seed's template
/// for the model at the pool's provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOffer {
    /// The model's id.
    pub model: String,
    /// The pool that will serve it.
    pub pool: PoolId,
    /// The provider's name for the model.
    #[serde(default)]
    pub upstream_model_id: Option<String>,
    /// The wire format to speak, one of the provider's.
    #[serde(default)]
    pub format: Option<Dialect>,
    /// How the provider's usage object is read.
    #[serde(default)]
    pub usage_profile: Option<String>,
    /// Offers with a lower number are tried first.
    #[serde(default)]
    pub priority: u32,
    /// The share of requests among offers of the same priority.
    #[serde(default = "one")]
    pub weight: u32,
    /// The list price.
    #[serde(default)]
    pub price: Option<Arc<PriceEntry>>,
    /// The slug of the provider whose template counts, where it is not the pool's own.
    #[serde(default)]
    pub template: Option<String>,
    /// The names that the upstream may report; empty for the default.
    #[serde(default)]
    pub served_names: Vec<String>,
}

const fn one() -> u32 {
    1
}

impl NewOffer {
    /// A model in a pool, with everything else from the seed's template.
    pub fn of(model: impl Into<String>, pool: PoolId) -> Self {
        Self {
            model: model.into(),
            pool,
            upstream_model_id: None,
            format: None,
            usage_profile: None,
            priority: 0,
            weight: 1,
            price: None,
            template: None,
            served_names: Vec::new(),
        }
    }
}

/// What to change of an offer; what is `None` stays. Its price changes through the price book.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateOffer {
    /// The provider's name for the model.
    pub upstream_model_id: Option<String>,
    /// Offers with a lower number are tried first.
    pub priority: Option<u32>,
    /// The share of requests among offers of the same priority.
    pub weight: Option<u32>,
    /// Whether it is for sale.
    pub enabled: Option<bool>,
    /// The names that the upstream may report; an empty list for the default.
    pub served_names: Option<Vec<String>>,
}

/// Which offers to list. The default is all.
#[derive(Debug, Clone, Default)]
pub struct OfferFilter {
    /// Only those of a model.
    pub model: Option<String>,
    /// Only those of a pool.
    pub pool: Option<PoolId>,
}

impl OfferView {
    pub(crate) fn from_row(row: offer::Model) -> Result<Self, CatalogError> {
        let id = OfferId::from_uuid(row.id);
        let damaged = || CatalogError::damaged(format!("offer {id}"));
        let formats = [Dialect::OpenaiChat, Dialect::AnthropicMessages];
        Ok(Self {
            id,
            pool: PoolId::from_uuid(row.pool_id),
            format: formats
                .into_iter()
                .find(|f| f.as_str() == row.format)
                .ok_or_else(damaged)?,
            priority: u32::try_from(row.priority).map_err(|_| damaged())?,
            weight: u32::try_from(row.weight).map_err(|_| damaged())?,
            model: row.model_id,
            upstream_model_id: row.upstream_model_id,
            usage_profile: row.usage_profile,
            enabled: row.enabled,
            served_names: serde_json::from_str(&row.served_names).map_err(|_| damaged())?,
            created_at: UnixMs(row.created_at_ms),
            price: None,
            price_version: None,
        })
    }

    /// The names that count: the operator's list, or the default.
    ///
    /// # Errors
    /// Only when the compiled-in seed is unreadable.
    pub fn names_in_force(&self) -> Result<ServedNames, CatalogError> {
        let seed = seed_names(&self.model)?;
        Ok(offer_names::served_names(
            &self.served_names,
            &self.upstream_model_id,
            &self.model,
            &seed,
        ))
    }

    fn to_row(&self) -> Result<offer::Model, CatalogError> {
        let served_names = serde_json::to_string(&self.served_names);
        Ok(offer::Model {
            served_names: served_names.map_err(|_| CatalogError::damaged(format!("offer {}", self.id)))?,
            id: self.id.as_uuid(),
            model_id: self.model.clone(),
            pool_id: self.pool.as_uuid(),
            upstream_model_id: self.upstream_model_id.clone(),
            format: self.format.as_str().to_owned(),
            usage_profile: self.usage_profile.clone(),
            priority: i64::from(self.priority),
            weight: i64::from(self.weight),
            enabled: self.enabled,
            created_at_ms: self.created_at.0,
        })
    }
}

/// Adds an offer and publishes its price.
///
/// # Errors
/// As [`create_offers`].
pub async fn create_offer(tx: &Tx, actor: &Actor, new: NewOffer) -> Result<OfferView, CatalogError> {
    let mut views = create_offers(tx, actor, vec![new]).await?;
    views.pop().ok_or_else(|| CatalogError::damaged("new offer"))
}

/// Adds offers and publishes their prices in one version of the price book.
///
/// # Errors
/// [`CatalogError::NotFound`] for a model or pool, [`CatalogError::Taken`] when the pool serves the model under that
/// upstream id already, [`CatalogError::Invalid`] when something was left out that no template knows,
/// [`CatalogError::Pricing`] when the price does not cover what the model needs.
pub async fn create_offers(tx: &Tx, actor: &Actor, new: Vec<NewOffer>) -> Result<Vec<OfferView>, CatalogError> {
    change::take_turn(tx).await?;
    let mut views = Vec::with_capacity(new.len());
    let mut prices = Vec::with_capacity(new.len());
    for new in new {
        let (view, price) = insert(tx, new).await?;
        prices.push(PriceChange::OfferPrice {
            offer: view.id,
            price: Arc::clone(&price),
        });
        views.push(OfferView {
            price: Some(price),
            ..view
        });
    }
    if views.is_empty() {
        return Ok(views);
    }
    let published = price_book::publish(tx, actor, "new offer", None, prices, NoticePeriod::NONE).await?;
    for view in &mut views {
        view.price_version = Some(published.version);
        change::record(tx, actor, "offer.create", &view.id.to_string(), None, Some(&*view)).await?;
    }
    sales::note_first_sales(tx).await?;
    Ok(views)
}

async fn insert(tx: &Tx, new: NewOffer) -> Result<(OfferView, Arc<PriceEntry>), CatalogError> {
    let model = get_model(tx.connection(), &new.model).await?;
    let pool = get_pool(tx.connection(), new.pool).await?;
    let provider = get_provider(tx.connection(), pool.provider).await?;
    let completed = offer_defaults::complete(&new, &provider.slug, &provider.formats, &seed_offers(&model.id)?)?;
    wording::check_model_name("upstream_model_id", &completed.upstream_model_id)?;
    check_share("priority", new.priority)?;
    check_share("weight", new.weight)?;
    offer_names::check_names(&new.served_names)?;
    let view = OfferView {
        id: OfferId::generate(),
        model: model.id,
        pool: pool.id,
        upstream_model_id: completed.upstream_model_id,
        format: completed.format,
        usage_profile: completed.usage_profile,
        priority: new.priority,
        weight: new.weight,
        enabled: true,
        served_names: new.served_names,
        created_at: tx.now().await?,
        price: None,
        price_version: None,
    };
    refuse_double(tx, &view).await?;
    offer::Entity::insert(view.to_row()?.into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    Ok((view, completed.price))
}

/// One offer.
///
/// # Errors
/// [`CatalogError::NotFound`].
pub async fn get_offer(connection: &impl ConnectionTrait, id: OfferId) -> Result<OfferView, CatalogError> {
    let row = offer::Entity::find_by_id(id.as_uuid()).one(connection).await?;
    let row = row.ok_or_else(|| CatalogError::not_found("offer", id))?;
    let mut views = with_prices(connection, vec![row]).await?;
    views.pop().ok_or_else(|| CatalogError::not_found("offer", id))
}

/// Offers in the order of their ids, from the one after `after` on.
///
/// # Errors
/// What the database says.
pub async fn list_offers(
    connection: &impl ConnectionTrait,
    filter: &OfferFilter,
    after: Option<OfferId>,
    limit: u64,
) -> Result<Vec<OfferView>, CatalogError> {
    let mut query = offer::Entity::find()
        .order_by_asc(offer::Column::Id)
        .limit(page_length(limit));
    if let Some(model) = &filter.model {
        query = query.filter(offer::Column::ModelId.eq(model.as_str()));
    }
    if let Some(pool) = filter.pool {
        query = query.filter(offer::Column::PoolId.eq(pool.as_uuid()));
    }
    if let Some(after) = after {
        query = query.filter(offer::Column::Id.gt(after.as_uuid()));
    }
    with_prices(connection, query.all(connection).await?).await
}

/// Changes an offer.
///
/// # Errors
/// [`CatalogError::NotFound`], [`CatalogError::Invalid`], [`CatalogError::Taken`].
pub async fn update_offer(tx: &Tx, actor: &Actor, id: OfferId, update: UpdateOffer) -> Result<OfferView, CatalogError> {
    change::take_turn(tx).await?;
    let before = get_offer(tx.connection(), id).await?;
    let mut after = before.clone();
    if let Some(upstream) = update.upstream_model_id {
        wording::check_model_name("upstream_model_id", &upstream)?;
        after.upstream_model_id = upstream;
        refuse_double(tx, &after).await?;
    }
    if let Some(priority) = update.priority {
        check_share("priority", priority)?;
        after.priority = priority;
    }
    if let Some(weight) = update.weight {
        check_share("weight", weight)?;
        after.weight = weight;
    }
    after.enabled = update.enabled.unwrap_or(after.enabled);
    if let Some(names) = update.served_names {
        offer_names::check_names(&names)?;
        after.served_names = names;
    }
    after
        .to_row()?
        .into_active_model()
        .reset_all()
        .update(tx.connection())
        .await?;
    sales::note_first_sales(tx).await?;
    change::record(tx, actor, "offer.update", &id.to_string(), Some(&before), Some(&after)).await?;
    Ok(after)
}

/// When somebody last put the offer up for sale again, since an instant: the audit log says so.
///
/// # Errors
/// What the database says.
pub async fn put_back_at(tx: &Tx, id: OfferId, since: UnixMs) -> Result<Option<UnixMs>, CatalogError> {
    let changes = audit::since(tx, "offer.update", &id.to_string(), since).await?;
    let is_enabled = |view: &Option<serde_json::Value>| {
        let enabled = view.as_ref().and_then(|view| view.get("enabled"));
        enabled.and_then(serde_json::Value::as_bool) == Some(true)
    };
    let put_back = changes
        .iter()
        .rev()
        .find(|change| is_enabled(&change.after) && !is_enabled(&change.before));
    Ok(put_back.map(|change| change.at))
}

/// The same model, pool, upstream id and format twice would only double its weight.
async fn refuse_double(tx: &Tx, view: &OfferView) -> Result<(), CatalogError> {
    let double = offer::Entity::find()
        .filter(offer::Column::ModelId.eq(view.model.as_str()))
        .filter(offer::Column::PoolId.eq(view.pool.as_uuid()))
        .filter(offer::Column::UpstreamModelId.eq(view.upstream_model_id.as_str()))
        .filter(offer::Column::Format.eq(view.format.as_str()))
        .filter(offer::Column::Id.ne(view.id.as_uuid()))
        .one(tx.connection())
        .await?;
    match double {
        Some(row) => Err(CatalogError::Taken(format!(
            "the pool offers `{}` as `{}` already: {}",
            view.model,
            view.upstream_model_id,
            OfferId::from_uuid(row.id)
        ))),
        None => Ok(()),
    }
}

fn check_share(field: &'static str, number: u32) -> Result<(), CatalogError> {
    if number <= MOST {
        return Ok(());
    }
    Err(CatalogError::invalid(field, "write a number from 0 to 1,000,000"))
}

async fn with_prices(
    connection: &impl ConnectionTrait,
    rows: Vec<offer::Model>,
) -> Result<Vec<OfferView>, CatalogError> {
    let mut views = rows
        .into_iter()
        .map(OfferView::from_row)
        .collect::<Result<Vec<_>, _>>()?;
    let subjects = views.iter().map(|view| view.id.to_string()).collect();
    let newest: HashMap<_, _> = price_book::newest_items(connection, PriceKind::OfferPrice, subjects).await?;
    for view in &mut views {
        if let Some(item) = newest.get(&view.id.to_string()) {
            view.price = Some(Arc::new(item.read()?));
            view.price_version = Some(item.version);
        }
    }
    Ok(views)
}
