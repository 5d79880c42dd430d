//! Virtual keys, as their own tenant sees them. Nobody else's key can be asked for.

use domain::{KeyId, scope::TenantScope};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::{AccountsError, VirtualKey, entities::virtual_key, operator_keys};

/// One key of the tenant.
///
/// # Errors
/// [`AccountsError::NotFound`], for another tenant's key as well; what the database says.
pub async fn get(
    connection: &impl ConnectionTrait,
    scope: TenantScope,
    id: KeyId,
) -> Result<VirtualKey, AccountsError> {
    let row = virtual_key::Entity::find_by_id(id.as_uuid())
        .filter(virtual_key::Column::TenantId.eq(scope.tenant().as_uuid()))
        .one(connection)
        .await?
        .ok_or(AccountsError::NotFound("key"))?;
    Ok(VirtualKey::try_from(row)?)
}

/// A page of the tenant's keys, newest first, older than `before` when given.
///
/// # Errors
/// What the database says.
pub async fn list(
    connection: &impl ConnectionTrait,
    scope: TenantScope,
    before: Option<KeyId>,
    limit: u64,
) -> Result<Vec<VirtualKey>, AccountsError> {
    operator_keys::list(connection, Some(scope.tenant()), before, limit).await
}
