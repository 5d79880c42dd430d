//! Pools: sets of credentials of one provider, sold at one multiplier, which the price book holds.

use domain::{PoolId, ProviderId, clock::UnixMs, pricing::Multiplier};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use store::{Tx, audit::Actor};

use crate::{
    CatalogError, change,
    entities::pool,
    page::page_length,
    price_book::{self, NoticePeriod, PriceChange, PriceKind},
    provider::get_provider,
    sales, wording,
};

/// A pool as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolView {
    /// The pool.
    pub id: PoolId,
    /// Whose credentials it holds.
    pub provider: ProviderId,
    /// Its name; unique.
    pub name: String,
    /// The multiplier published last. It may take effect later.
    pub multiplier: Option<Multiplier>,
    /// Whether anything of it is for sale.
    pub enabled: bool,
    /// When it was added.
    pub created_at: UnixMs,
}

/// A pool to add. It starts enabled, with its multiplier in effect at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// Whose credentials it will hold.
    pub provider: ProviderId,
    /// Its name; unique.
    pub name: String,
    /// What customers pay relative to list price; the list price itself when left out.
    #[serde(default)]
    pub multiplier: Multiplier,
}

/// What to change of a pool; what is `None` stays. Its multiplier changes through the price book.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdatePool {
    /// Its name; unique.
    pub name: Option<String>,
    /// Whether anything of it is for sale.
    pub enabled: Option<bool>,
}

impl PoolView {
    fn from_row(row: pool::Model, multiplier: Option<Multiplier>) -> Self {
        Self {
            id: PoolId::from_uuid(row.id),
            provider: ProviderId::from_uuid(row.provider_id),
            name: row.name,
            multiplier,
            enabled: row.enabled,
            created_at: UnixMs(row.created_at_ms),
        }
    }

    fn to_row(&self) -> pool::Model {
        pool::Model {
            id: self.id.as_uuid(),
            provider_id: self.provider.as_uuid(),
            name: self.name.clone(),
            enabled: self.enabled,
            created_at_ms: self.created_at.0,
        }
    }
}

/// Adds a pool and publishes its multiplier.
///
/// # Errors
/// [`CatalogError::NotFound`] for the provider, [`CatalogError::Invalid`], [`CatalogError::Taken`] for the name.
pub async fn create_pool(tx: &Tx, actor: &Actor, new: NewPool) -> Result<PoolView, CatalogError> {
    wording::check_name("name", &new.name)?;
    change::take_turn(tx).await?;
    get_provider(tx.connection(), new.provider).await?;
    refuse_taken_name(tx, &new.name).await?;
    let view = PoolView {
        id: PoolId::generate(),
        provider: new.provider,
        name: new.name,
        multiplier: Some(new.multiplier),
        enabled: true,
        created_at: tx.now().await?,
    };
    pool::Entity::insert(view.to_row().into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    let first = PriceChange::PoolMultiplier {
        pool: view.id,
        multiplier: new.multiplier,
    };
    price_book::publish(tx, actor, "new pool", None, vec![first], NoticePeriod::NONE).await?;
    change::record(tx, actor, "pool.create", &view.id.to_string(), None, Some(&view)).await?;
    Ok(view)
}

/// One pool.
///
/// # Errors
/// [`CatalogError::NotFound`].
pub async fn get_pool(connection: &impl ConnectionTrait, id: PoolId) -> Result<PoolView, CatalogError> {
    let row = pool::Entity::find_by_id(id.as_uuid()).one(connection).await?;
    let row = row.ok_or_else(|| CatalogError::not_found("pool", id))?;
    let mut views = with_multipliers(connection, vec![row]).await?;
    views.pop().ok_or_else(|| CatalogError::not_found("pool", id))
}

/// Pools in the order of their ids, from the one after `after` on.
///
/// # Errors
/// What the database says.
pub async fn list_pools(
    connection: &impl ConnectionTrait,
    after: Option<PoolId>,
    limit: u64,
) -> Result<Vec<PoolView>, CatalogError> {
    let mut query = pool::Entity::find()
        .order_by_asc(pool::Column::Id)
        .limit(page_length(limit));
    if let Some(after) = after {
        query = query.filter(pool::Column::Id.gt(after.as_uuid()));
    }
    with_multipliers(connection, query.all(connection).await?).await
}

/// Changes a pool.
///
/// # Errors
/// [`CatalogError::NotFound`], [`CatalogError::Invalid`], [`CatalogError::Taken`].
pub async fn update_pool(tx: &Tx, actor: &Actor, id: PoolId, update: UpdatePool) -> Result<PoolView, CatalogError> {
    change::take_turn(tx).await?;
    let before = get_pool(tx.connection(), id).await?;
    let mut after = before.clone();
    if let Some(name) = update.name {
        wording::check_name("name", &name)?;
        if name != before.name {
            refuse_taken_name(tx, &name).await?;
        }
        after.name = name;
    }
    if let Some(enabled) = update.enabled {
        after.enabled = enabled;
    }
    after
        .to_row()
        .into_active_model()
        .reset_all()
        .update(tx.connection())
        .await?;
    sales::note_first_sales(tx).await?;
    change::record(tx, actor, "pool.update", &id.to_string(), Some(&before), Some(&after)).await?;
    Ok(after)
}

async fn refuse_taken_name(tx: &Tx, name: &str) -> Result<(), CatalogError> {
    let taken = pool::Entity::find()
        .filter(pool::Column::Name.eq(name))
        .one(tx.connection())
        .await?;
    if taken.is_some() {
        return Err(CatalogError::Taken(format!("a pool `{name}` exists already")));
    }
    Ok(())
}

async fn with_multipliers(
    connection: &impl ConnectionTrait,
    rows: Vec<pool::Model>,
) -> Result<Vec<PoolView>, CatalogError> {
    let subjects = rows.iter().map(|row| PoolId::from_uuid(row.id).to_string()).collect();
    let newest = price_book::newest_items(connection, PriceKind::PoolMultiplier, subjects).await?;
    rows.into_iter()
        .map(|row| {
            let subject = PoolId::from_uuid(row.id).to_string();
            let multiplier = newest.get(&subject).map(|item| item.read::<Multiplier>()).transpose()?;
            Ok(PoolView::from_row(row, multiplier))
        })
        .collect()
}
