//! Credentials: accounts with providers that the operator is entitled to use. Secrets go in and are sealed; they
//! come out in a snapshot only, in memory.
//!
//! A secret is bound to the origin that its provider had when it was given: the origin is stored beside it and sealed
//! with it, so that no later change of a base URL, by whatever way, sends the key to another host.

use domain::{CredentialId, PoolId, clock::UnixMs, secret::SecretText};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde::{Deserialize, Serialize};
use store::{Tx, audit::Actor, keyring::ServerKey, sealed};

use crate::{
    CatalogError,
    base_url::origin_of,
    change,
    entities::{credential, pool},
    page::page_length,
    provider::get_provider,
    wording,
};

/// The longest secret, in bytes. Cloud service accounts are the longest that exist.
const LONGEST_SECRET: usize = 8_192;
/// Of shorter secrets not even the end is shown.
const SHORTEST_SHOWN: usize = 12;

/// On what ground the operator may use an account, so that the supply chain can be audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The operator's own API contract with the provider.
    OwnContract,
    /// A cloud marketplace subscription.
    CloudMarketplace,
    /// An agreement with a reseller.
    ResellerAgreement,
    /// No real account: the simulated provider.
    Simulated,
}

impl Basis {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OwnContract => "own_contract",
            Self::CloudMarketplace => "cloud_marketplace",
            Self::ResellerAgreement => "reseller_agreement",
            Self::Simulated => "simulated",
        }
    }

    fn from_stored(text: &str) -> Option<Self> {
        [
            Self::OwnContract,
            Self::CloudMarketplace,
            Self::ResellerAgreement,
            Self::Simulated,
        ]
        .into_iter()
        .find(|basis| basis.as_str() == text)
    }
}

/// A credential as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CredentialView {
    /// The credential.
    pub id: CredentialId,
    /// The pool that it serves.
    pub pool: PoolId,
    /// Its name for people.
    pub name: String,
    /// The secret's last four characters; empty when the secret is short.
    pub last4: String,
    /// Scheme, host and port that the secret may be sent to.
    pub origin: String,
    /// On what ground it may be used.
    pub basis: Basis,
    /// Whether it is used.
    pub enabled: bool,
    /// When it was added.
    pub created_at: UnixMs,
}

/// A credential to add. It starts enabled.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCredential {
    /// The pool that it will serve.
    pub pool: PoolId,
    /// Its name for people.
    pub name: String,
    /// The API key: visible ASCII.
    pub secret: SecretText,
    /// On what ground it may be used.
    pub basis: Basis,
}

/// What to change of a credential; what is `None` stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateCredential {
    /// Its name for people.
    pub name: Option<String>,
    /// On what ground it may be used.
    pub basis: Option<Basis>,
    /// Whether it is used.
    pub enabled: Option<bool>,
}

/// What a secret is sealed for.
pub(crate) fn sealing_place(id: CredentialId, origin: &str) -> String {
    format!("credential:{id}@{origin}")
}

impl CredentialView {
    pub(crate) fn from_row(row: &credential::Model) -> Result<Self, CatalogError> {
        let id = CredentialId::from_uuid(row.id);
        Ok(Self {
            id,
            pool: PoolId::from_uuid(row.pool_id),
            name: row.name.clone(),
            last4: row.last4.clone(),
            origin: row.origin.clone(),
            basis: Basis::from_stored(&row.basis).ok_or_else(|| CatalogError::damaged(format!("credential {id}")))?,
            enabled: row.enabled,
            created_at: UnixMs(row.created_at_ms),
        })
    }
}

/// Adds a credential to a pool and seals its secret for the provider's present origin.
///
/// # Errors
/// [`CatalogError::NotFound`] for the pool, [`CatalogError::Invalid`].
pub async fn create_credential(
    tx: &Tx,
    actor: &Actor,
    key: &ServerKey,
    new: NewCredential,
) -> Result<CredentialView, CatalogError> {
    wording::check_name("name", &new.name)?;
    check_secret(&new.secret)?;
    change::take_turn(tx).await?;
    let id = CredentialId::generate();
    let origin = origin_of_pool(tx, new.pool).await?;
    let row = credential::Model {
        id: id.as_uuid(),
        pool_id: new.pool.as_uuid(),
        name: new.name,
        sealed_secret: sealed::seal(key, &sealing_place(id, &origin), &new.secret)?,
        last4: last4(&new.secret),
        origin,
        basis: new.basis.as_str().to_owned(),
        enabled: true,
        created_at_ms: tx.now().await?.0,
    };
    let view = CredentialView::from_row(&row)?;
    credential::Entity::insert(row.into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    change::record(tx, actor, "credential.create", &id.to_string(), None, Some(&view)).await?;
    Ok(view)
}

/// One credential.
///
/// # Errors
/// [`CatalogError::NotFound`].
pub async fn get_credential(
    connection: &impl ConnectionTrait,
    id: CredentialId,
) -> Result<CredentialView, CatalogError> {
    CredentialView::from_row(&find_row(connection, id).await?)
}

/// Credentials, of one pool or of all, in the order of their ids, from the one after `after` on.
///
/// # Errors
/// What the database says.
pub async fn list_credentials(
    connection: &impl ConnectionTrait,
    pool: Option<PoolId>,
    after: Option<CredentialId>,
    limit: u64,
) -> Result<Vec<CredentialView>, CatalogError> {
    let mut query = credential::Entity::find()
        .order_by_asc(credential::Column::Id)
        .limit(page_length(limit));
    if let Some(pool) = pool {
        query = query.filter(credential::Column::PoolId.eq(pool.as_uuid()));
    }
    if let Some(after) = after {
        query = query.filter(credential::Column::Id.gt(after.as_uuid()));
    }
    query
        .all(connection)
        .await?
        .iter()
        .map(CredentialView::from_row)
        .collect()
}

/// Changes a credential, but not its secret.
///
/// # Errors
/// [`CatalogError::NotFound`]; [`CatalogError::Invalid`]; [`CatalogError::Refused`] when it is to be enabled and its
/// provider has moved to another origin since the secret was given.
pub async fn update_credential(
    tx: &Tx,
    actor: &Actor,
    id: CredentialId,
    update: UpdateCredential,
) -> Result<CredentialView, CatalogError> {
    change::take_turn(tx).await?;
    let mut row = find_row(tx.connection(), id).await?;
    let before = CredentialView::from_row(&row)?;
    if let Some(name) = update.name {
        wording::check_name("name", &name)?;
        row.name = name;
    }
    if let Some(basis) = update.basis {
        row.basis = basis.as_str().to_owned();
    }
    if let Some(enabled) = update.enabled {
        if enabled && row.origin != origin_of_pool(tx, before.pool).await? {
            return Err(CatalogError::Refused(format!(
                "the secret was given for {} and the provider has moved since: rotate the credential to enable it",
                row.origin
            )));
        }
        row.enabled = enabled;
    }
    save(tx, actor, "credential.update", before, row).await
}

/// Replaces a credential's secret, sealed for the provider's present origin. Whether it is enabled stays.
///
/// # Errors
/// [`CatalogError::NotFound`], [`CatalogError::Invalid`].
pub async fn rotate_credential(
    tx: &Tx,
    actor: &Actor,
    key: &ServerKey,
    id: CredentialId,
    secret: &SecretText,
) -> Result<CredentialView, CatalogError> {
    check_secret(secret)?;
    change::take_turn(tx).await?;
    let mut row = find_row(tx.connection(), id).await?;
    let before = CredentialView::from_row(&row)?;
    row.origin = origin_of_pool(tx, before.pool).await?;
    row.sealed_secret = sealed::seal(key, &sealing_place(id, &row.origin), secret)?;
    row.last4 = last4(secret);
    save(tx, actor, "credential.rotate", before, row).await
}

/// Removes a credential and its sealed secret.
///
/// # Errors
/// [`CatalogError::NotFound`].
pub async fn remove_credential(tx: &Tx, actor: &Actor, id: CredentialId) -> Result<(), CatalogError> {
    change::take_turn(tx).await?;
    let row = find_row(tx.connection(), id).await?;
    let before = CredentialView::from_row(&row)?;
    row.delete(tx.connection()).await?;
    change::record(tx, actor, "credential.remove", &id.to_string(), Some(&before), None).await
}

async fn save(
    tx: &Tx,
    actor: &Actor,
    action: &str,
    before: CredentialView,
    row: credential::Model,
) -> Result<CredentialView, CatalogError> {
    let after = CredentialView::from_row(&row)?;
    row.into_active_model().reset_all().update(tx.connection()).await?;
    change::record(tx, actor, action, &after.id.to_string(), Some(&before), Some(&after)).await?;
    Ok(after)
}

async fn find_row(connection: &impl ConnectionTrait, id: CredentialId) -> Result<credential::Model, CatalogError> {
    let row = credential::Entity::find_by_id(id.as_uuid()).one(connection).await?;
    row.ok_or_else(|| CatalogError::not_found("credential", id))
}

async fn origin_of_pool(tx: &Tx, id: PoolId) -> Result<String, CatalogError> {
    let row = pool::Entity::find_by_id(id.as_uuid()).one(tx.connection()).await?;
    let row = row.ok_or_else(|| CatalogError::not_found("pool", id))?;
    let provider = get_provider(tx.connection(), domain::ProviderId::from_uuid(row.provider_id)).await?;
    Ok(origin_of(&provider.base_url))
}

/// Keys travel in headers: anything but visible ASCII could start a header of its own.
fn check_secret(secret: &SecretText) -> Result<(), CatalogError> {
    let text = secret.expose();
    if !text.is_empty() && text.len() <= LONGEST_SECRET && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(CatalogError::invalid(
        "secret",
        "give 1 to 8192 visible ASCII characters, without spaces and line breaks",
    ))
}

fn last4(secret: &SecretText) -> String {
    let text = secret.expose();
    if text.len() < SHORTEST_SHOWN {
        return String::new();
    }
    // visible ASCII by the check above, so bytes are characters
    text.get(text.len() - 4..).unwrap_or_default().to_owned()
}
