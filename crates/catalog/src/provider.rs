//! Providers: who runs models, where, and in which wire formats.

use domain::{ProviderId, clock::UnixMs, request::Dialect};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use store::{Tx, audit::Actor};
use url::Url;

use crate::{
    CatalogError,
    base_url::{origin_of, parse_base_url},
    change,
    entities::{credential, pool, provider},
    page::page_length,
    sales, wording,
};

/// A provider as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderView {
    /// The provider.
    pub id: ProviderId,
    /// Its short name; chooses the seed's price templates and never changes.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// The wire formats that it answers.
    pub formats: Vec<Dialect>,
    /// Where it is, without a slash at the end.
    pub base_url: Url,
    /// Whether its address may be private, and plain http used.
    pub allow_private_address: bool,
    /// Whether anything of it is for sale.
    pub enabled: bool,
    /// When it was added.
    pub created_at: UnixMs,
}

/// A provider to add. It starts enabled.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProvider {
    /// 1 to 63 of `a-z`, `0-9`, `-`, `_`; unique.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// At least one wire format.
    pub formats: Vec<Dialect>,
    /// An absolute https URL (http where private addresses are allowed) without user, query and fragment.
    pub base_url: String,
    /// Whether its address may be private, and plain http used.
    #[serde(default)]
    pub allow_private_address: bool,
}

/// What to change of a provider; what is `None` stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateProvider {
    /// Its name for people.
    pub name: Option<String>,
    /// The wire formats that it answers.
    pub formats: Option<Vec<Dialect>>,
    /// Where it is. Another origin is refused while it has enabled credentials.
    pub base_url: Option<String>,
    /// Whether its address may be private, and plain http used.
    pub allow_private_address: Option<bool>,
    /// Whether anything of it is for sale.
    pub enabled: Option<bool>,
}

impl ProviderView {
    pub(crate) fn from_row(row: provider::Model) -> Result<Self, CatalogError> {
        let damaged = |_| CatalogError::damaged(format!("provider {}", row.slug));
        Ok(Self {
            formats: serde_json::from_str(&row.formats).map_err(damaged)?,
            base_url: Url::parse(&row.base_url).map_err(|_| CatalogError::damaged(format!("provider {}", row.slug)))?,
            id: ProviderId::from_uuid(row.id),
            slug: row.slug,
            name: row.name,
            allow_private_address: row.allow_private_address,
            enabled: row.enabled,
            created_at: UnixMs(row.created_at_ms),
        })
    }

    fn to_row(&self) -> Result<provider::Model, CatalogError> {
        Ok(provider::Model {
            id: self.id.as_uuid(),
            slug: self.slug.clone(),
            name: self.name.clone(),
            formats: formats_text(&self.formats)?,
            base_url: self.base_url.to_string(),
            allow_private_address: self.allow_private_address,
            enabled: self.enabled,
            created_at_ms: self.created_at.0,
        })
    }
}

/// Adds a provider.
///
/// # Errors
/// [`CatalogError::Invalid`] for a field that does not fit, [`CatalogError::Taken`] when the slug exists.
pub async fn create_provider(tx: &Tx, actor: &Actor, new: NewProvider) -> Result<ProviderView, CatalogError> {
    wording::check_slug("slug", &new.slug)?;
    wording::check_name("name", &new.name)?;
    let base_url = parse_base_url(&new.base_url, new.allow_private_address)?;
    let formats = distinct_formats(new.formats)?;
    change::take_turn(tx).await?;
    let taken = provider::Entity::find().filter(provider::Column::Slug.eq(new.slug.as_str()));
    if taken.one(tx.connection()).await?.is_some() {
        return Err(CatalogError::Taken(format!("a provider `{}` exists already", new.slug)));
    }
    let view = ProviderView {
        id: ProviderId::generate(),
        slug: new.slug,
        name: new.name,
        formats,
        base_url,
        allow_private_address: new.allow_private_address,
        enabled: true,
        created_at: tx.now().await?,
    };
    provider::Entity::insert(view.to_row()?.into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    change::record(tx, actor, "provider.create", &view.id.to_string(), None, Some(&view)).await?;
    Ok(view)
}

/// One provider.
///
/// # Errors
/// [`CatalogError::NotFound`].
pub async fn get_provider(connection: &impl ConnectionTrait, id: ProviderId) -> Result<ProviderView, CatalogError> {
    let row = provider::Entity::find_by_id(id.as_uuid()).one(connection).await?;
    ProviderView::from_row(row.ok_or_else(|| CatalogError::not_found("provider", id))?)
}

/// One provider by its slug, if there is one.
///
/// # Errors
/// What the database says.
pub async fn get_provider_by_slug(
    connection: &impl ConnectionTrait,
    slug: &str,
) -> Result<Option<ProviderView>, CatalogError> {
    let row = provider::Entity::find()
        .filter(provider::Column::Slug.eq(slug))
        .one(connection)
        .await?;
    row.map(ProviderView::from_row).transpose()
}

/// Providers in the order of their ids, from the one after `after` on.
///
/// # Errors
/// What the database says.
pub async fn list_providers(
    connection: &impl ConnectionTrait,
    after: Option<ProviderId>,
    limit: u64,
) -> Result<Vec<ProviderView>, CatalogError> {
    let mut query = provider::Entity::find()
        .order_by_asc(provider::Column::Id)
        .limit(page_length(limit));
    if let Some(after) = after {
        query = query.filter(provider::Column::Id.gt(after.as_uuid()));
    }
    query
        .all(connection)
        .await?
        .into_iter()
        .map(ProviderView::from_row)
        .collect()
}

/// Changes a provider.
///
/// # Errors
/// [`CatalogError::NotFound`]; [`CatalogError::Invalid`]; [`CatalogError::Refused`] when the URL's origin would change
/// under enabled credentials.
pub async fn update_provider(
    tx: &Tx,
    actor: &Actor,
    id: ProviderId,
    update: UpdateProvider,
) -> Result<ProviderView, CatalogError> {
    change::take_turn(tx).await?;
    let before = get_provider(tx.connection(), id).await?;
    let mut after = before.clone();
    if let Some(name) = update.name {
        wording::check_name("name", &name)?;
        after.name = name;
    }
    if let Some(formats) = update.formats {
        after.formats = distinct_formats(formats)?;
    }
    if let Some(allow) = update.allow_private_address {
        after.allow_private_address = allow;
    }
    let base_url = update.base_url.unwrap_or_else(|| before.base_url.to_string());
    after.base_url = parse_base_url(&base_url, after.allow_private_address)?;
    if let Some(enabled) = update.enabled {
        after.enabled = enabled;
    }
    if origin_of(&before.base_url) != origin_of(&after.base_url) && has_enabled_credentials(tx, id).await? {
        return Err(CatalogError::Refused(
            "the provider has enabled credentials, which belong to its present host: disable or remove them before \
             `base_url` names another"
                .to_owned(),
        ));
    }
    after
        .to_row()?
        .into_active_model()
        .reset_all()
        .update(tx.connection())
        .await?;
    sales::note_first_sales(tx).await?;
    change::record(
        tx,
        actor,
        "provider.update",
        &id.to_string(),
        Some(&before),
        Some(&after),
    )
    .await?;
    Ok(after)
}

async fn has_enabled_credentials(tx: &Tx, id: ProviderId) -> Result<bool, CatalogError> {
    let pools: Vec<_> = pool::Entity::find()
        .filter(pool::Column::ProviderId.eq(id.as_uuid()))
        .all(tx.connection())
        .await?
        .into_iter()
        .map(|pool| pool.id)
        .collect();
    let enabled = credential::Entity::find()
        .filter(credential::Column::PoolId.is_in(pools))
        .filter(credential::Column::Enabled.eq(true));
    Ok(enabled.one(tx.connection()).await?.is_some())
}

fn distinct_formats(formats: Vec<Dialect>) -> Result<Vec<Dialect>, CatalogError> {
    let mut distinct = Vec::with_capacity(formats.len());
    for format in formats {
        if !distinct.contains(&format) {
            distinct.push(format);
        }
    }
    if distinct.is_empty() {
        return Err(CatalogError::invalid("formats", "name at least one wire format"));
    }
    Ok(distinct)
}

fn formats_text(formats: &[Dialect]) -> Result<String, CatalogError> {
    serde_json::to_string(formats).map_err(|_| CatalogError::damaged("formats of a provider"))
}
