//! Virtual keys, as operators see and change them. Never call this on behalf of a tenant.

use domain::{KeyId, TenantId};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Set,
};
use store::{Tx, audit::Actor, changes::Topic, keyring::ServerKey};

use crate::{
    AccountsError, KeySettings, KeyUpdate, PlainKey, VirtualKey,
    entities::{tenant, virtual_key},
    trail::Write,
    virtual_key::write_settings,
};

/// Creates a key for a tenant. The plain key is in the answer and nowhere else: it cannot be shown again.
///
/// # Errors
/// [`AccountsError::NotFound`] for an unknown tenant, [`AccountsError::Invalid`]; what the database says.
pub async fn create(
    tx: &Tx,
    actor: &Actor,
    pepper: &ServerKey,
    tenant: TenantId,
    settings: KeySettings,
) -> Result<(VirtualKey, PlainKey), AccountsError> {
    let settings = settings.validated()?;
    if tenant::Entity::find_by_id(tenant.as_uuid())
        .one(tx.connection())
        .await?
        .is_none()
    {
        return Err(AccountsError::NotFound("tenant"));
    }
    let plain = PlainKey::generate();
    let key = VirtualKey {
        id: KeyId::generate(),
        tenant,
        name: settings.name.clone(),
        last4: plain.last4().to_owned(),
        enabled: true,
        revoked_at: None,
        expires_at: settings.expires_at,
        allowed_models: settings.limits.allowed_models.clone(),
        requests_per_minute: settings.limits.requests_per_minute,
        budget: settings.limits.budget,
        created_at: tx.now().await?,
    };
    let mut row = virtual_key::ActiveModel {
        id: Set(key.id.as_uuid()),
        tenant_id: Set(tenant.as_uuid()),
        hash: Set(plain.hash(pepper).to_hex()),
        pepper_id: Set(pepper.id().to_owned()),
        last4: Set(key.last4.clone()),
        enabled: Set(true),
        revoked_at_ms: Set(None),
        created_at_ms: Set(key.created_at.0),
        ..Default::default()
    };
    write_settings(&mut row, &settings);
    virtual_key::Entity::insert(row)
        .exec_without_returning(tx.connection())
        .await?;
    leave_trail(tx, actor, "key.create", None, &key).await?;
    Ok((key, plain))
}

/// One key.
///
/// # Errors
/// [`AccountsError::NotFound`]; what the database says.
pub async fn get(connection: &impl ConnectionTrait, id: KeyId) -> Result<VirtualKey, AccountsError> {
    let row = virtual_key::Entity::find_by_id(id.as_uuid())
        .one(connection)
        .await?
        .ok_or(AccountsError::NotFound("key"))?;
    Ok(VirtualKey::try_from(row)?)
}

/// A page of keys, newest first, of one tenant when given, older than `before` when given.
///
/// # Errors
/// What the database says.
pub async fn list(
    connection: &impl ConnectionTrait,
    tenant: Option<TenantId>,
    before: Option<KeyId>,
    limit: u64,
) -> Result<Vec<VirtualKey>, AccountsError> {
    let mut query = virtual_key::Entity::find()
        .order_by_desc(virtual_key::Column::Id)
        .limit(limit);
    if let Some(tenant) = tenant {
        query = query.filter(virtual_key::Column::TenantId.eq(tenant.as_uuid()));
    }
    if let Some(before) = before {
        query = query.filter(virtual_key::Column::Id.lt(before.as_uuid()));
    }
    let rows = query.all(connection).await?;
    Ok(rows.into_iter().map(VirtualKey::try_from).collect::<Result<_, _>>()?)
}

/// Changes what the update names.
///
/// # Errors
/// [`AccountsError::NotFound`], [`AccountsError::Invalid`], [`AccountsError::Revoked`]; what the database says.
pub async fn update(tx: &Tx, actor: &Actor, id: KeyId, update: KeyUpdate) -> Result<VirtualKey, AccountsError> {
    let (row, before) = lock(tx, id).await?;
    if before.revoked_at.is_some() {
        return Err(AccountsError::Revoked);
    }
    let enabled = update.enabled.unwrap_or(before.enabled);
    let settings = update.applied_to(before.settings()).validated()?;
    let mut row = row.into_active_model();
    write_settings(&mut row, &settings);
    row.enabled = Set(enabled);
    let after = VirtualKey::try_from(row.update(tx.connection()).await?)?;
    if after != before {
        leave_trail(tx, actor, "key.update", Some(&before), &after).await?;
    }
    Ok(after)
}

/// Switches a key off; [`update`] can switch it on again.
///
/// # Errors
/// [`AccountsError::NotFound`], [`AccountsError::Revoked`]; what the database says.
pub async fn disable(tx: &Tx, actor: &Actor, id: KeyId) -> Result<VirtualKey, AccountsError> {
    update(
        tx,
        actor,
        id,
        KeyUpdate {
            enabled: Some(false),
            ..KeyUpdate::default()
        },
    )
    .await
}

/// Takes a key back for good. Doing it again changes nothing.
///
/// # Errors
/// [`AccountsError::NotFound`]; what the database says.
pub async fn revoke(tx: &Tx, actor: &Actor, id: KeyId) -> Result<VirtualKey, AccountsError> {
    let (row, before) = lock(tx, id).await?;
    if before.revoked_at.is_some() {
        return Ok(before);
    }
    let mut row = row.into_active_model();
    row.revoked_at_ms = Set(Some(tx.now().await?.0));
    let after = VirtualKey::try_from(row.update(tx.connection()).await?)?;
    leave_trail(tx, actor, "key.revoke", Some(&before), &after).await?;
    Ok(after)
}

/// Reads a row and keeps it, so that of two updates at once neither undoes the other.
async fn lock(tx: &Tx, id: KeyId) -> Result<(virtual_key::Model, VirtualKey), AccountsError> {
    let row = virtual_key::Entity::find_by_id(id.as_uuid())
        .lock_exclusive()
        .one(tx.connection())
        .await?
        .ok_or(AccountsError::NotFound("key"))?;
    let record = VirtualKey::try_from(row.clone())?;
    Ok((row, record))
}

async fn leave_trail(
    tx: &Tx,
    actor: &Actor,
    action: &str,
    before: Option<&VirtualKey>,
    after: &VirtualKey,
) -> Result<(), AccountsError> {
    let write = Write {
        topic: Topic::Keys,
        action,
        subject: after.id.to_string(),
        before,
        after,
    };
    Ok(write.leave_trail(tx, actor).await?)
}
