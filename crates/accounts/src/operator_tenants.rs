//! Tenants, as operators see and change them. Never call this on behalf of a tenant.

use domain::TenantId;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Set,
};
use store::{Tx, audit::Actor, changes::Topic};

use crate::{
    AccountsError, NewTenant, Tenant, TenantUpdate,
    entities::tenant,
    settings::{DEFAULT_TIER, valid_budget, valid_name, valid_tier},
    trail::Write,
};

/// Creates a tenant, switched on.
///
/// # Errors
/// [`AccountsError::Invalid`] for a name, tier or budget out of bounds; what the database says.
pub async fn create(tx: &Tx, actor: &Actor, new: NewTenant) -> Result<Tenant, AccountsError> {
    let tenant = Tenant {
        id: TenantId::generate(),
        name: valid_name(&new.name)?,
        tier: valid_tier(new.tier.as_deref().unwrap_or(DEFAULT_TIER))?,
        enabled: true,
        budget: valid_budget(new.budget)?,
        created_at: tx.now().await?,
    };
    let row = tenant::ActiveModel {
        id: Set(tenant.id.as_uuid()),
        name: Set(tenant.name.clone()),
        tier: Set(tenant.tier.clone()),
        enabled: Set(true),
        budget_limit: Set(tenant.budget.map(|budget| budget.limit.nanos())),
        budget_period: Set(tenant.budget.map(|budget| budget.period.as_str().to_owned())),
        created_at_ms: Set(tenant.created_at.0),
    };
    tenant::Entity::insert(row)
        .exec_without_returning(tx.connection())
        .await?;
    leave_trail(tx, actor, "tenant.create", None, &tenant).await?;
    Ok(tenant)
}

/// One tenant.
///
/// # Errors
/// [`AccountsError::NotFound`]; what the database says.
pub async fn get(connection: &impl ConnectionTrait, id: TenantId) -> Result<Tenant, AccountsError> {
    let row = tenant::Entity::find_by_id(id.as_uuid()).one(connection).await?;
    Ok(row.ok_or(AccountsError::NotFound("tenant"))?.try_into()?)
}

/// A page of tenants, newest first, older than `before` when given.
///
/// # Errors
/// What the database says.
pub async fn list(
    connection: &impl ConnectionTrait,
    before: Option<TenantId>,
    limit: u64,
) -> Result<Vec<Tenant>, AccountsError> {
    let mut query = tenant::Entity::find().order_by_desc(tenant::Column::Id).limit(limit);
    if let Some(before) = before {
        query = query.filter(tenant::Column::Id.lt(before.as_uuid()));
    }
    let rows = query.all(connection).await?;
    Ok(rows.into_iter().map(Tenant::try_from).collect::<Result<_, _>>()?)
}

/// Changes what the update names.
///
/// # Errors
/// [`AccountsError::NotFound`], [`AccountsError::Invalid`]; what the database says.
pub async fn update(tx: &Tx, actor: &Actor, id: TenantId, update: TenantUpdate) -> Result<Tenant, AccountsError> {
    // locked, so that of two updates at once neither undoes the other
    let row = tenant::Entity::find_by_id(id.as_uuid())
        .lock_exclusive()
        .one(tx.connection())
        .await?
        .ok_or(AccountsError::NotFound("tenant"))?;
    let before = Tenant::try_from(row.clone())?;
    let mut after = before.clone();
    if let Some(name) = update.name {
        after.name = valid_name(&name)?;
    }
    if let Some(tier) = update.tier {
        after.tier = valid_tier(&tier)?;
    }
    after.enabled = update.enabled.unwrap_or(after.enabled);
    if let Some(budget) = update.budget {
        after.budget = valid_budget(budget)?;
    }
    if after == before {
        return Ok(after);
    }
    let mut row = row.into_active_model();
    row.name = Set(after.name.clone());
    row.tier = Set(after.tier.clone());
    row.enabled = Set(after.enabled);
    row.budget_limit = Set(after.budget.map(|budget| budget.limit.nanos()));
    row.budget_period = Set(after.budget.map(|budget| budget.period.as_str().to_owned()));
    row.update(tx.connection()).await?;
    leave_trail(tx, actor, "tenant.update", Some(&before), &after).await?;
    Ok(after)
}

async fn leave_trail(
    tx: &Tx,
    actor: &Actor,
    action: &str,
    before: Option<&Tenant>,
    after: &Tenant,
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
