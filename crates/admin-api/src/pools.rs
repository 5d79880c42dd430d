//! Pools: sets of credentials of one provider, sold at one multiplier.

use actix_web::{get, patch, post, web::Json};
use catalog::{NewPool, PoolView, UpdatePool};
use domain::{PoolId, ProviderId, pricing::Multiplier};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::Created,
    error::Answer,
    input::{Body, Params, PathId},
    page::{Page, PageParams},
    wire::Instant,
};

/// A pool.
#[derive(Serialize, ToSchema)]
struct Pool {
    #[schema(value_type = String, example = "pool_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: PoolId,
    /// Whose credentials it holds.
    #[schema(value_type = String)]
    provider: ProviderId,
    name: String,
    /// What customers pay relative to list price, as published last. It may take effect later.
    #[schema(value_type = Option<String>, example = "1.7", required)]
    multiplier: Option<Multiplier>,
    /// Whether anything of it is for sale.
    enabled: bool,
    created_at: Instant,
}

impl From<PoolView> for Pool {
    fn from(view: PoolView) -> Self {
        Self {
            id: view.id,
            provider: view.provider,
            name: view.name,
            multiplier: view.multiplier,
            enabled: view.enabled,
            created_at: Instant(view.created_at),
        }
    }
}

/// A pool to add. It starts enabled, with its multiplier in effect at once.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPool)]
struct NewPoolInput {
    /// Whose credentials it will hold.
    #[schema(value_type = String)]
    provider: ProviderId,
    /// Its name; unique.
    name: String,
    /// What customers pay relative to list price, from 0 to 1000 with at most six decimal places.
    #[serde(default)]
    #[schema(value_type = String, example = "1.7", default = "1")]
    multiplier: Multiplier,
}

/// What to change of a pool; what is left out stays. Its multiplier changes through the price book.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PoolUpdate)]
struct PoolUpdateInput {
    name: Option<String>,
    enabled: Option<bool>,
}

/// Pools, oldest first.
#[utoipa::path(tag = "pools", params(PageParams), responses((status = 200, body = Page<Pool>)))]
#[get("/pools")]
async fn list_pools(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<Pool>>> {
    let bounds = page.0.bounds::<PoolId>()?;
    let readers = operator.parts().database.readers();
    let rows = catalog::list_pools(readers, bounds.cursor, bounds.rows_to_read().into()).await?;
    Ok(Json(bounds.page(rows, |row| row.id.to_string(), Pool::from)))
}

/// One pool.
#[utoipa::path(tag = "pools", params(("pool_id" = String, Path)), responses((status = 200, body = Pool)))]
#[get("/pools/{pool_id}")]
async fn get_pool(operator: ReadOperator, id: PathId<PoolId>) -> Answer<Json<Pool>> {
    Ok(Json(
        catalog::get_pool(operator.parts().database.readers(), id.0)
            .await?
            .into(),
    ))
}

/// Adds a pool and publishes its multiplier.
#[utoipa::path(tag = "pools", request_body = NewPoolInput, responses((status = 201, body = Pool)))]
#[post("/pools")]
async fn create_pool(operator: FullOperator, body: Body<NewPoolInput>) -> Answer<Created<Pool>> {
    let NewPoolInput {
        provider,
        name,
        multiplier,
    } = body.0;
    let tx = operator.begin().await?;
    let view = catalog::create_pool(
        &tx,
        operator.actor(),
        NewPool {
            provider,
            name,
            multiplier,
        },
    )
    .await?;
    operator.commit_catalog(tx).await?;
    Ok(Created(view.into()))
}

/// Changes a pool.
#[utoipa::path(
    tag = "pools",
    params(("pool_id" = String, Path)),
    request_body = PoolUpdateInput,
    responses((status = 200, body = Pool))
)]
#[patch("/pools/{pool_id}")]
async fn update_pool(operator: FullOperator, id: PathId<PoolId>, body: Body<PoolUpdateInput>) -> Answer<Json<Pool>> {
    let PoolUpdateInput { name, enabled } = body.0;
    let tx = operator.begin().await?;
    let view = catalog::update_pool(&tx, operator.actor(), id.0, UpdatePool { name, enabled }).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(view.into()))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_pools)
        .service(create_pool)
        .service(get_pool)
        .service(update_pool);
}
