//! Virtual keys of tenants. The plain key is in the answer that creates it and nowhere else.

use accounts::{KeyLimits, KeySettings, KeyUpdate, VirtualKey, operator_keys, operator_tenants};
use actix_web::{get, patch, post, web::Json};
use domain::{KeyId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::Created,
    budgets::{Budget, BudgetInput, BudgetStates, Scope},
    error::Answer,
    input::{Body, Params, PathId},
    page::{Page, PageParams},
    wire::{Instant, nullable},
};

/// A virtual key, without its secret.
#[derive(Serialize, ToSchema)]
struct Key {
    #[schema(value_type = String, example = "key_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: KeyId,
    #[schema(value_type = String)]
    tenant: TenantId,
    name: String,
    /// The last four characters of the secret.
    last4: String,
    enabled: bool,
    #[schema(required)]
    revoked_at: Option<Instant>,
    /// When it stops working; `null` for never.
    #[schema(required)]
    expires_at: Option<Instant>,
    /// Model ids and aliases that it may use; `null` for all.
    #[schema(required)]
    allowed_models: Option<Vec<String>>,
    /// `null` for no limit.
    #[schema(required)]
    requests_per_minute: Option<u32>,
    /// `null` for whatever credit the tenant has.
    #[schema(required)]
    budget: Option<Budget>,
    created_at: Instant,
}

impl Key {
    fn shown(key: VirtualKey, states: &BudgetStates) -> Self {
        let budget = states.show(scope_of(&key));
        Self {
            id: key.id,
            tenant: key.tenant,
            name: key.name,
            last4: key.last4,
            enabled: key.enabled,
            revoked_at: key.revoked_at.map(Instant),
            expires_at: key.expires_at.map(Instant),
            allowed_models: key.allowed_models,
            requests_per_minute: key.requests_per_minute,
            budget,
            created_at: Instant(key.created_at),
        }
    }
}

fn scope_of(key: &VirtualKey) -> Scope {
    (key.id.as_uuid(), key.budget)
}

/// A new key with its secret.
#[derive(Serialize, ToSchema)]
struct CreatedKey {
    /// The record.
    key: Key,
    /// The key itself, `sk-tr-...`. It is shown this once: keep it.
    secret: String,
}

/// A key to create. It starts enabled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey)]
struct NewKeyInput {
    /// 1 to 120 characters.
    name: String,
    /// When it stops working; never when left out.
    expires_at: Option<Instant>,
    /// Model ids and aliases that it may use, 1 to 500; all when left out.
    allowed_models: Option<Vec<String>>,
    /// 1 to 1,000,000; no limit when left out.
    requests_per_minute: Option<u32>,
    /// Whatever credit the tenant has when left out.
    budget: Option<BudgetInput>,
}

/// What to change of a key; what is left out stays, `null` removes a setting.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyUpdate)]
struct KeyUpdateInput {
    name: Option<String>,
    enabled: Option<bool>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Instant>)]
    expires_at: Option<Option<Instant>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<String>>)]
    allowed_models: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<u32>)]
    requests_per_minute: Option<Option<u32>>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<BudgetInput>)]
    budget: Option<Option<BudgetInput>>,
}

/// A tenant's keys, newest first.
#[utoipa::path(
    tag = "keys",
    params(("tenant_id" = String, Path), PageParams),
    responses((status = 200, body = Page<Key>))
)]
#[get("/tenants/{tenant_id}/keys")]
async fn list_keys(
    operator: ReadOperator,
    tenant: PathId<TenantId>,
    page: Params<PageParams>,
) -> Answer<Json<Page<Key>>> {
    let bounds = page.0.bounds::<KeyId>()?;
    let readers = operator.parts().database.readers();
    operator_tenants::get(readers, tenant.0).await?;
    let rows = operator_keys::list(readers, Some(tenant.0), bounds.cursor, bounds.rows_to_read().into()).await?;
    let states = BudgetStates::read(&operator.parts().database, rows.iter().map(scope_of)).await?;
    Ok(Json(bounds.page(
        rows,
        |row| row.id.to_string(),
        |row| Key::shown(row, &states),
    )))
}

/// Creates a key for a tenant. Its secret is in this answer only.
#[utoipa::path(
    tag = "keys",
    params(("tenant_id" = String, Path)),
    request_body = NewKeyInput,
    responses((status = 201, body = CreatedKey))
)]
#[post("/tenants/{tenant_id}/keys")]
async fn create_key(
    operator: FullOperator,
    tenant: PathId<TenantId>,
    body: Body<NewKeyInput>,
) -> Answer<Created<CreatedKey>> {
    let input = body.0;
    let settings = KeySettings {
        name: input.name,
        expires_at: input.expires_at.map(|at| at.0),
        limits: KeyLimits {
            allowed_models: input.allowed_models,
            requests_per_minute: input.requests_per_minute,
            budget: input.budget.map(Into::into),
        },
    };
    let tx = operator.begin().await?;
    let pepper = &operator.parts().keyring.pepper;
    let (key, plain) = operator_keys::create(&tx, operator.actor(), pepper, tenant.0, settings).await?;
    let states = BudgetStates::read_in(&tx, [scope_of(&key)]).await?;
    operator.commit_accounts(tx).await?;
    Ok(Created(CreatedKey {
        key: Key::shown(key, &states),
        secret: plain.expose().to_owned(),
    }))
}

/// One key.
#[utoipa::path(tag = "keys", params(("key_id" = String, Path)), responses((status = 200, body = Key)))]
#[get("/keys/{key_id}")]
async fn get_key(operator: ReadOperator, id: PathId<KeyId>) -> Answer<Json<Key>> {
    let database = &operator.parts().database;
    let key = operator_keys::get(database.readers(), id.0).await?;
    let states = BudgetStates::read(database, [scope_of(&key)]).await?;
    Ok(Json(Key::shown(key, &states)))
}

/// Changes a key.
#[utoipa::path(
    tag = "keys",
    params(("key_id" = String, Path)),
    request_body = KeyUpdateInput,
    responses((status = 200, body = Key))
)]
#[patch("/keys/{key_id}")]
async fn update_key(operator: FullOperator, id: PathId<KeyId>, body: Body<KeyUpdateInput>) -> Answer<Json<Key>> {
    let input = body.0;
    let update = KeyUpdate {
        name: input.name,
        enabled: input.enabled,
        expires_at: input.expires_at.map(|at| at.map(|at| at.0)),
        allowed_models: input.allowed_models,
        requests_per_minute: input.requests_per_minute,
        budget: input.budget.map(|budget| budget.map(Into::into)),
    };
    let tx = operator.begin().await?;
    let key = operator_keys::update(&tx, operator.actor(), id.0, update).await?;
    let states = BudgetStates::read_in(&tx, [scope_of(&key)]).await?;
    operator.commit_accounts(tx).await?;
    Ok(Json(Key::shown(key, &states)))
}

/// Takes a key back for good. Doing it again changes nothing.
#[utoipa::path(tag = "keys", params(("key_id" = String, Path)), responses((status = 200, body = Key)))]
#[post("/keys/{key_id}/revoke")]
async fn revoke_key(operator: FullOperator, id: PathId<KeyId>) -> Answer<Json<Key>> {
    let tx = operator.begin().await?;
    let key = operator_keys::revoke(&tx, operator.actor(), id.0).await?;
    let states = BudgetStates::read_in(&tx, [scope_of(&key)]).await?;
    operator.commit_accounts(tx).await?;
    Ok(Json(Key::shown(key, &states)))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_keys)
        .service(create_key)
        .service(get_key)
        .service(update_key)
        .service(revoke_key);
}
