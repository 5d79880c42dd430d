//! Offers: models served by pools.

use std::sync::Arc;

use actix_web::{get, patch, post, web::Json};
use catalog::{NewOffer, OfferFilter, OfferView, UpdateOffer};
use domain::{OfferId, PoolId, pricing::PriceEntry};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::Created,
    error::Answer,
    input::{Body, Params, PathId, parse_param},
    page::{Page, page_bounds},
    providers::WireFormat,
    wire::Instant,
};

/// An offer.
#[derive(Serialize, ToSchema)]
struct Offer {
    #[schema(value_type = String, example = "offer_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: OfferId,
    /// The model's id.
    model: String,
    /// The pool that serves it.
    #[schema(value_type = String)]
    pool: PoolId,
    /// The provider's name for the model.
    upstream_model_id: String,
    /// The wire format that is spoken.
    format: WireFormat,
    /// How the provider's usage object is read.
    usage_profile: String,
    /// Offers with a lower number are tried first.
    priority: u32,
    /// The share of requests among offers of the same priority; 0 means only when no other is left.
    weight: u32,
    /// Whether it is for sale.
    enabled: bool,
    /// The names that the upstream may report, each also with a date behind it. An answer under any other name is free.
    served_names: Vec<String>,
    /// Whether these are the default: the upstream's, the catalog's and the vendor's names and their known snapshots.
    served_names_are_default: bool,
    created_at: Instant,
    /// The list price published last, in the catalog's form: USD per 1,000,000 tokens as decimal strings. It may take
    /// effect later.
    #[schema(value_type = Option<Object>, required)]
    price: Option<Arc<PriceEntry>>,
    /// The version of the price book that set it.
    #[schema(required)]
    price_version: Option<i64>,
}

impl Offer {
    fn of(view: OfferView) -> Self {
        // without the seed there is no server: nothing is lost by an empty list
        let names = view.names_in_force().unwrap_or_default();
        Self {
            served_names: names.as_slice().to_vec(),
            served_names_are_default: view.served_names.is_empty(),
            id: view.id,
            model: view.model,
            pool: view.pool,
            upstream_model_id: view.upstream_model_id,
            format: view.format.into(),
            usage_profile: view.usage_profile,
            priority: view.priority,
            weight: view.weight,
            enabled: view.enabled,
            created_at: Instant(view.created_at),
            price: view.price,
            price_version: view.price_version,
        }
    }
}

/// An offer to add. It starts enabled; its first price is in effect as soon as the price book allows. What is left out
/// comes from the catalog's template for the model at the pool's provider.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOffer)]
struct NewOfferInput {
    /// The model's id.
    #[schema(example = "openai/gpt-4o")]
    model: String,
    /// The pool that will serve it.
    #[schema(value_type = String)]
    pool: PoolId,
    /// The provider's name for the model.
    upstream_model_id: Option<String>,
    /// The wire format to speak, one of the provider's.
    format: Option<WireFormat>,
    /// How the provider's usage object is read.
    usage_profile: Option<String>,
    /// Offers with a lower number are tried first; 0 when left out.
    priority: Option<u32>,
    /// The share of requests among offers of the same priority; 1 when left out.
    weight: Option<u32>,
    /// The list price, in the catalog's form: USD per 1,000,000 tokens as decimal strings.
    #[schema(value_type = Option<Object>, example = json!({"price": {"input": "2.50", "output": "10.00"}}))]
    price: Option<PriceEntry>,
    /// The slug of the provider whose template counts, where it is not the pool's own.
    template: Option<String>,
    /// The names that the upstream may report, at most 32; the default when left out.
    served_names: Option<Vec<String>>,
}

/// What to change of an offer; what is left out stays. Its price changes through the price book.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OfferUpdate)]
struct OfferUpdateInput {
    upstream_model_id: Option<String>,
    priority: Option<u32>,
    weight: Option<u32>,
    enabled: Option<bool>,
    /// The names that the upstream may report, at most 32; an empty list for the default.
    served_names: Option<Vec<String>>,
}

/// Which offers to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfferParams {
    /// Only those of a model, by its id.
    model: Option<String>,
    /// Only those of a pool.
    pool: Option<String>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
    /// The most rows to answer, 1 to 200.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
}

/// Offers, oldest first.
#[utoipa::path(tag = "offers", params(OfferParams), responses((status = 200, body = Page<Offer>)))]
#[get("/offers")]
async fn list_offers(operator: ReadOperator, params: Params<OfferParams>) -> Answer<Json<Page<Offer>>> {
    let params = params.0;
    let bounds = page_bounds::<OfferId>(params.cursor.as_deref(), params.limit.as_deref())?;
    let pool = parse_param("pool", params.pool.as_deref(), "the id of a pool, `pool_...`")?;
    let filter = OfferFilter {
        model: params.model,
        pool,
    };
    let readers = operator.parts().database.readers();
    let rows = catalog::list_offers(readers, &filter, bounds.cursor, bounds.rows_to_read().into()).await?;
    Ok(Json(bounds.page(rows, |row| row.id.to_string(), Offer::of)))
}

/// One offer.
#[utoipa::path(tag = "offers", params(("offer_id" = String, Path)), responses((status = 200, body = Offer)))]
#[get("/offers/{offer_id}")]
async fn get_offer(operator: ReadOperator, id: PathId<OfferId>) -> Answer<Json<Offer>> {
    let view = catalog::get_offer(operator.parts().database.readers(), id.0).await?;
    Ok(Json(Offer::of(view)))
}

/// Adds an offer and publishes its price.
#[utoipa::path(tag = "offers", request_body = NewOfferInput, responses((status = 201, body = Offer)))]
#[post("/offers")]
async fn create_offer(operator: FullOperator, body: Body<NewOfferInput>) -> Answer<Created<Offer>> {
    let input = body.0;
    let mut new = NewOffer::of(input.model, input.pool);
    new.upstream_model_id = input.upstream_model_id;
    new.format = input.format.map(Into::into);
    new.usage_profile = input.usage_profile;
    new.priority = input.priority.unwrap_or(new.priority);
    new.weight = input.weight.unwrap_or(new.weight);
    new.price = input.price.map(Arc::new);
    new.template = input.template;
    new.served_names = input.served_names.unwrap_or_default();
    let tx = operator.begin().await?;
    let view = catalog::create_offer(&tx, operator.actor(), new).await?;
    operator.commit_catalog(tx).await?;
    Ok(Created(Offer::of(view)))
}

/// Changes an offer.
#[utoipa::path(
    tag = "offers",
    params(("offer_id" = String, Path)),
    request_body = OfferUpdateInput,
    responses((status = 200, body = Offer))
)]
#[patch("/offers/{offer_id}")]
async fn update_offer(
    operator: FullOperator,
    id: PathId<OfferId>,
    body: Body<OfferUpdateInput>,
) -> Answer<Json<Offer>> {
    let OfferUpdateInput {
        upstream_model_id,
        priority,
        weight,
        enabled,
        served_names,
    } = body.0;
    let update = UpdateOffer {
        upstream_model_id,
        priority,
        weight,
        enabled,
        served_names,
    };
    let tx = operator.begin().await?;
    let view = catalog::update_offer(&tx, operator.actor(), id.0, update).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(Offer::of(view)))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_offers)
        .service(create_offer)
        .service(get_offer)
        .service(update_offer);
}
