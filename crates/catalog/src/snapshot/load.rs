//! Making a snapshot from the database, in one consistent read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use domain::{CredentialId, PoolId, ProviderId, clock::UnixMs};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use store::{Database, changes, changes::Topic, keyring::ServerKey, sealed};

use super::{CredentialEntry, ModelEntry, OfferEntry, PoolEntry, ProviderEntry, Snapshot};
use crate::{
    CatalogError,
    base_url::origin_of,
    credential::{CredentialView, sealing_place},
    entities::{credential, model, model_alias, offer, pool, provider},
    model::ModelView,
    offer::OfferView,
    price_book::{BookSpan, PriceBook},
    provider::ProviderView,
    reading,
};

/// How far back a snapshot knows prices, in milliseconds. Requests freeze theirs at admission, so this only has to
/// cover the time between reading a clock and looking at the snapshot.
const PAST_MS: i64 = 10 * 60_000;

/// Reads the whole catalog.
pub(crate) async fn load(database: &Database, key: &ServerKey) -> Result<Snapshot, CatalogError> {
    // read before the data: a change in between makes the data newer than clock and notice say, never older
    let now = database.now().await?;
    let versions = changes::read_versions(database.readers(), database.backend()).await?;
    let reading = reading::begin(database).await?;
    let snapshot = read(&reading, key, now).await;
    reading.rollback().await?;
    let mut snapshot = snapshot?;
    snapshot.change_version = versions.of(Topic::Catalog);
    Ok(snapshot)
}

async fn read(connection: &impl ConnectionTrait, key: &ServerKey, now: UnixMs) -> Result<Snapshot, CatalogError> {
    let providers = read_providers(connection).await?;
    let mut pools = read_pools(connection, &providers, key).await?;
    pools.retain(|_, pool| !pool.credentials.is_empty());
    let mut book = PriceBook::load(connection, BookSpan::From(now.plus_ms(-PAST_MS))).await?;
    let mut offers = read_offers(connection, &pools, &book).await?;
    let models = read_models(connection, &mut offers).await?;

    let mut names = HashMap::new();
    for (place, model) in models.iter().enumerate() {
        names.insert(model.id.to_string(), place);
        for alias in &model.aliases {
            names.insert(alias.to_ascii_lowercase(), place);
        }
    }
    Ok(Snapshot {
        change_version: 0,
        read_at_ms: now.0,
        models,
        names,
        pools: pools.into_values().collect(),
        versions: book.versions().to_vec(),
        tiers: book.take_tiers(),
    })
}

async fn read_providers(
    connection: &impl ConnectionTrait,
) -> Result<HashMap<ProviderId, Arc<ProviderEntry>>, CatalogError> {
    let rows = provider::Entity::find()
        .filter(provider::Column::Enabled.eq(true))
        .all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let view = ProviderView::from_row(row)?;
            let entry = ProviderEntry {
                id: view.id,
                slug: view.slug,
                name: view.name,
                formats: view.formats,
                base_url: view.base_url,
                allow_private_address: view.allow_private_address,
            };
            Ok((view.id, Arc::new(entry)))
        })
        .collect()
}

async fn read_pools(
    connection: &impl ConnectionTrait,
    providers: &HashMap<ProviderId, Arc<ProviderEntry>>,
    key: &ServerKey,
) -> Result<BTreeMap<PoolId, Arc<PoolEntry>>, CatalogError> {
    let mut credentials: HashMap<PoolId, Vec<credential::Model>> = HashMap::new();
    let rows = credential::Entity::find()
        .filter(credential::Column::Enabled.eq(true))
        .order_by_asc(credential::Column::Id)
        .all(connection)
        .await?;
    for row in rows {
        credentials.entry(PoolId::from_uuid(row.pool_id)).or_default().push(row);
    }
    let rows = pool::Entity::find()
        .filter(pool::Column::Enabled.eq(true))
        .all(connection)
        .await?;
    let mut pools = BTreeMap::new();
    for row in rows {
        let id = PoolId::from_uuid(row.id);
        let Some(provider) = providers.get(&ProviderId::from_uuid(row.provider_id)) else {
            continue;
        };
        let origin = origin_of(&provider.base_url);
        let own = credentials.remove(&id).unwrap_or_default();
        let entry = PoolEntry {
            id,
            name: row.name,
            provider: Arc::clone(provider),
            credentials: own.iter().filter_map(|row| open(row, &origin, key)).collect(),
        };
        pools.insert(id, Arc::new(entry));
    }
    Ok(pools)
}

/// Opens one credential for the provider's present origin. One that does not open is left out, so that it does not
/// take the others with it.
fn open(row: &credential::Model, origin: &str, key: &ServerKey) -> Option<Arc<CredentialEntry>> {
    let id = CredentialId::from_uuid(row.id);
    let opened = CredentialView::from_row(row)
        .and_then(|view| Ok((view, sealed::open(key, &sealing_place(id, origin), &row.sealed_secret)?)));
    match opened {
        Ok((view, secret)) => {
            let CredentialView { pool, name, basis, .. } = view;
            Some(Arc::new(CredentialEntry {
                id,
                pool,
                name,
                basis,
                secret,
            }))
        }
        Err(error) => {
            tracing::error!(credential = %id, %origin, %error, "a credential cannot be used: rotate or disable it");
            None
        }
    }
}

type OffersByModel = HashMap<String, Vec<OfferEntry>>;

async fn read_offers(
    connection: &impl ConnectionTrait,
    pools: &BTreeMap<PoolId, Arc<PoolEntry>>,
    book: &PriceBook,
) -> Result<OffersByModel, CatalogError> {
    let rows = offer::Entity::find()
        .filter(offer::Column::Enabled.eq(true))
        .order_by_asc(offer::Column::Priority)
        .order_by_asc(offer::Column::Id)
        .all(connection)
        .await?;
    let mut offers = OffersByModel::new();
    for row in rows {
        let view = OfferView::from_row(row)?;
        let Some(pool) = pools.get(&view.pool) else { continue };
        if !pool.provider.formats.contains(&view.format) {
            continue;
        }
        let entry = OfferEntry {
            served_names: view.names_in_force()?,
            id: view.id,
            model: view.model.as_str().into(),
            provider: Arc::clone(&pool.provider),
            pool: Arc::clone(pool),
            upstream_model_id: view.upstream_model_id,
            format: view.format,
            usage_profile: view.usage_profile,
            priority: view.priority,
            weight: view.weight,
            terms: book.terms_of(view.id, view.pool, &view.model),
        };
        offers.entry(view.model).or_default().push(entry);
    }
    Ok(offers)
}

async fn read_models(
    connection: &impl ConnectionTrait,
    offers: &mut OffersByModel,
) -> Result<Vec<Arc<ModelEntry>>, CatalogError> {
    let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
    let rows = model_alias::Entity::find()
        .order_by_asc(model_alias::Column::Alias)
        .all(connection)
        .await?;
    for row in rows {
        aliases.entry(row.model_id).or_default().push(row.spelling);
    }
    let rows = model::Entity::find()
        .filter(model::Column::Enabled.eq(true))
        .order_by_asc(model::Column::Id)
        .all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let own_aliases = aliases.remove(&row.id).unwrap_or_default();
            let view = ModelView::from_row(row, own_aliases)?;
            let own_offers = offers.remove(&view.id).unwrap_or_default();
            Ok(Arc::new(ModelEntry {
                id: view.id.as_str().into(),
                name: view.name,
                vendor: view.vendor,
                kind: view.kind,
                aliases: view.aliases,
                context_window: view.context_window,
                max_output_tokens: view.max_output_tokens,
                details: view.details,
                created_at: view.created_at,
                offers: own_offers.into_iter().map(Arc::new).collect(),
            }))
        })
        .collect()
}
