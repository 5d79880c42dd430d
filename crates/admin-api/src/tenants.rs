//! Tenants: customer organisations. A tenant is created together with its account in the ledger.

use accounts::{NewTenant, TenantUpdate, operator_tenants};
use actix_web::{get, patch, post, web::Json};
use domain::TenantId;
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

/// A tenant.
#[derive(Serialize, ToSchema)]
struct Tenant {
    #[schema(value_type = String, example = "ten_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: TenantId,
    name: String,
    /// Its tier, whose multiplier applies to every charge.
    tier: String,
    /// Whether its keys may be used.
    enabled: bool,
    /// What all of its keys together may spend, whatever their own budgets are; `null` for whatever credit it has.
    #[schema(required)]
    budget: Option<Budget>,
    created_at: Instant,
}

impl Tenant {
    fn shown(tenant: accounts::Tenant, states: &BudgetStates) -> Self {
        let budget = states.show(scope_of(&tenant));
        Self {
            id: tenant.id,
            name: tenant.name,
            tier: tenant.tier,
            enabled: tenant.enabled,
            budget,
            created_at: Instant(tenant.created_at),
        }
    }
}

fn scope_of(tenant: &accounts::Tenant) -> Scope {
    (tenant.id.as_uuid(), tenant.budget)
}

/// A tenant to create. It starts enabled, without credit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTenant)]
struct NewTenantInput {
    /// 1 to 120 characters.
    name: String,
    /// 1 to 64 of `a-z`, `0-9`, `-`, `_`; `default` when left out.
    tier: Option<String>,
    /// Whatever credit it has when left out.
    budget: Option<BudgetInput>,
}

/// What to change of a tenant; what is left out stays, `null` removes a budget.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantUpdate)]
struct TenantUpdateInput {
    name: Option<String>,
    tier: Option<String>,
    /// Switches the tenant, and with it all of its keys, on or off.
    enabled: Option<bool>,
    /// A hold that was placed before the change stays.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<BudgetInput>)]
    budget: Option<Option<BudgetInput>>,
}

/// Tenants, newest first.
#[utoipa::path(tag = "tenants", params(PageParams), responses((status = 200, body = Page<Tenant>)))]
#[get("/tenants")]
async fn list_tenants(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<Tenant>>> {
    let bounds = page.0.bounds::<TenantId>()?;
    let readers = operator.parts().database.readers();
    let rows = operator_tenants::list(readers, bounds.cursor, bounds.rows_to_read().into()).await?;
    let states = BudgetStates::read(&operator.parts().database, rows.iter().map(scope_of)).await?;
    Ok(Json(bounds.page(
        rows,
        |row| row.id.to_string(),
        |row| Tenant::shown(row, &states),
    )))
}

/// One tenant.
#[utoipa::path(tag = "tenants", params(("tenant_id" = String, Path)), responses((status = 200, body = Tenant)))]
#[get("/tenants/{tenant_id}")]
async fn get_tenant(operator: ReadOperator, id: PathId<TenantId>) -> Answer<Json<Tenant>> {
    let database = &operator.parts().database;
    let tenant = operator_tenants::get(database.readers(), id.0).await?;
    let states = BudgetStates::read(database, [scope_of(&tenant)]).await?;
    Ok(Json(Tenant::shown(tenant, &states)))
}

/// Creates a tenant and opens its account.
#[utoipa::path(tag = "tenants", request_body = NewTenantInput, responses((status = 201, body = Tenant)))]
#[post("/tenants")]
async fn create_tenant(operator: FullOperator, body: Body<NewTenantInput>) -> Answer<Created<Tenant>> {
    let NewTenantInput { name, tier, budget } = body.0;
    let new = NewTenant {
        name,
        tier,
        budget: budget.map(Into::into),
    };
    let tx = operator.begin().await?;
    let tenant = operator_tenants::create(&tx, operator.actor(), new).await?;
    let opened = ledger::movements::open_account(&tx, tenant.id).await?;
    let states = BudgetStates::read_in(&tx, [scope_of(&tenant)]).await?;
    operator.commit_movement(tx, opened).await?;
    operator.forget_callers();
    Ok(Created(Tenant::shown(tenant, &states)))
}

/// Changes a tenant.
#[utoipa::path(
    tag = "tenants",
    params(("tenant_id" = String, Path)),
    request_body = TenantUpdateInput,
    responses((status = 200, body = Tenant))
)]
#[patch("/tenants/{tenant_id}")]
async fn update_tenant(
    operator: FullOperator,
    id: PathId<TenantId>,
    body: Body<TenantUpdateInput>,
) -> Answer<Json<Tenant>> {
    let input = body.0;
    let update = TenantUpdate {
        name: input.name,
        tier: input.tier,
        enabled: input.enabled,
        budget: input.budget.map(|budget| budget.map(Into::into)),
    };
    let tx = operator.begin().await?;
    let tenant = operator_tenants::update(&tx, operator.actor(), id.0, update).await?;
    let states = BudgetStates::read_in(&tx, [scope_of(&tenant)]).await?;
    operator.commit_accounts(tx).await?;
    Ok(Json(Tenant::shown(tenant, &states)))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_tenants)
        .service(create_tenant)
        .service(get_tenant)
        .service(update_tenant);
}
