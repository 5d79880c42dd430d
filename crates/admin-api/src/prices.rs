//! The price book: publishing list prices and multipliers, and looking up every past and announced one.

use std::sync::Arc;

use actix_web::{get, post, web::Json};
use catalog::{CancellationView, PriceChange, PriceItemView, PriceVersionView};
use domain::{
    OfferId, PoolId,
    clock::UnixMs,
    pricing::{Multiplier, PriceEntry},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::Created,
    error::{AdminError, Answer},
    input::{Body, Params, PathId},
    page::{Page, PageParams, page_bounds},
    wire::{Instant, wire_enum},
};

wire_enum! {
    /// What a line of the price book is about.
    PriceKind = catalog::PriceKind {
        /// The list price of an offer; the subject is the offer's id.
        OfferPrice,
        /// The multiplier of a pool; the subject is the pool's id.
        PoolMultiplier,
        /// The multiplier of one model in a pool, in place of the pool's; the subject is `pool id|model id`.
        ModelMultiplier,
        /// The multiplier of a customer tier; the subject is the tier's name.
        TierMultiplier,
        /// A promotion's multiplier on a pool; the subject is the pool's id.
        PromotionMultiplier,
        /// What the operator pays in a pool relative to list price; the subject is the pool's id. Never public.
        CostMultiplier,
    }
}

/// A version of the price book, with what it changed.
#[derive(Serialize, ToSchema)]
struct PriceVersion {
    /// Counts up by one.
    version: i64,
    /// From when it holds.
    effective_at: Instant,
    published_at: Instant,
    /// Who published it.
    actor: String,
    /// Why, for people.
    note: String,
    /// By which notice period, in days, it was checked when it was published; 0 where none applied, as for first prices.
    /// `null` for versions of releases that did not note it.
    #[schema(required)]
    notice_days: Option<u32>,
    /// That it was cancelled before its instant, and so never holds; `null` otherwise.
    #[schema(required)]
    cancelled: Option<PriceCancellation>,
    /// What it changed.
    items: Vec<PriceItem>,
    /// How many lines it changed that this list leaves out: after 5,000 lines a list names versions only. Ask for the
    /// version by itself.
    items_left_out: u64,
}

/// The cancellation of a version.
#[derive(Serialize, ToSchema)]
struct PriceCancellation {
    cancelled_at: Instant,
    /// Who cancelled it.
    actor: String,
    /// Why, for people.
    reason: String,
}

impl From<CancellationView> for PriceCancellation {
    fn from(view: CancellationView) -> Self {
        Self {
            cancelled_at: Instant(view.cancelled_at),
            actor: view.actor,
            reason: view.reason,
        }
    }
}

/// One line of a version.
#[derive(Serialize, ToSchema)]
struct PriceItem {
    kind: PriceKind,
    /// Which object.
    subject: String,
    /// A price entry, a multiplier as a decimal string, or null where an override or a promotion ends.
    #[schema(value_type = Value)]
    value: serde_json::Value,
}

impl From<PriceVersionView> for PriceVersion {
    fn from(view: PriceVersionView) -> Self {
        Self {
            version: view.version,
            effective_at: Instant(view.effective_at),
            published_at: Instant(view.published_at),
            actor: view.actor,
            note: view.note,
            notice_days: view.notice_days,
            cancelled: view.cancelled.map(PriceCancellation::from),
            items_left_out: view.items_left_out,
            items: view.items.into_iter().map(PriceItem::from).collect(),
        }
    }
}

impl From<PriceItemView> for PriceItem {
    fn from(view: PriceItemView) -> Self {
        Self {
            kind: view.kind.into(),
            subject: view.subject,
            value: view.value,
        }
    }
}

/// One change to publish. Multipliers are decimal strings from 0 to 1000 with at most six decimal places.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = PriceChange)]
pub(crate) enum PriceChangeInput {
    /// The list price of an offer.
    OfferPrice {
        #[schema(value_type = String)]
        offer: OfferId,
        /// The catalog's form: USD per 1,000,000 tokens as decimal strings.
        #[schema(value_type = Object)]
        price: Arc<PriceEntry>,
    },
    /// The multiplier of a pool.
    PoolMultiplier {
        #[schema(value_type = String)]
        pool: PoolId,
        #[schema(value_type = String, example = "1.7")]
        multiplier: Multiplier,
    },
    /// The multiplier of one model in a pool, in place of the pool's; `null` gives the model the pool's again.
    ModelMultiplier {
        #[schema(value_type = String)]
        pool: PoolId,
        /// The model's id.
        model: String,
        #[schema(value_type = Option<String>, example = "0.6", required)]
        #[serde(deserialize_with = "Option::deserialize")]
        multiplier: Option<Multiplier>,
    },
    /// The multiplier of a customer tier, on top of the pool's.
    TierMultiplier {
        tier: String,
        #[schema(value_type = String, example = "0.9")]
        multiplier: Multiplier,
    },
    /// A promotion on a pool, on top of all others; `null` ends it.
    PromotionMultiplier {
        #[schema(value_type = String)]
        pool: PoolId,
        #[schema(value_type = Option<String>, example = "0.5", required)]
        #[serde(deserialize_with = "Option::deserialize")]
        multiplier: Option<Multiplier>,
    },
    /// What the operator pays in a pool relative to list price; 1 where it was never set. No customer sees it.
    CostMultiplier {
        #[schema(value_type = String)]
        pool: PoolId,
        #[schema(value_type = String, example = "0.85")]
        multiplier: Multiplier,
    },
}

impl From<PriceChangeInput> for PriceChange {
    fn from(input: PriceChangeInput) -> Self {
        match input {
            PriceChangeInput::OfferPrice { offer, price } => Self::OfferPrice { offer, price },
            PriceChangeInput::PoolMultiplier { pool, multiplier } => Self::PoolMultiplier { pool, multiplier },
            PriceChangeInput::ModelMultiplier {
                pool,
                model,
                multiplier,
            } => Self::ModelMultiplier {
                pool,
                model,
                multiplier,
            },
            PriceChangeInput::TierMultiplier { tier, multiplier } => Self::TierMultiplier { tier, multiplier },
            PriceChangeInput::PromotionMultiplier { pool, multiplier } => {
                Self::PromotionMultiplier { pool, multiplier }
            }
            PriceChangeInput::CostMultiplier { pool, multiplier } => Self::CostMultiplier { pool, multiplier },
        }
    }
}

/// A version to add to the price book.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPriceVersion)]
struct NewPriceVersionInput {
    /// Why, for people; shown in the history.
    #[serde(default)]
    note: String,
    /// From when it holds: at least ten seconds ahead, and after the notice period if any price rises. As soon as
    /// possible when left out.
    effective_at: Option<Instant>,
    /// What changes; each subject once.
    changes: Vec<PriceChangeInput>,
}

/// The history of one subject.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryParams {
    /// What the lines are about.
    #[param(value_type = PriceKind)]
    kind: String,
    /// Which object, as the lines name it.
    subject: String,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
    /// The most rows to answer, 1 to 200.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
}

/// At which instant to look.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PriceBookParams {
    /// RFC 3339 text; the server's present when left out.
    #[param(format = DateTime)]
    at: Option<String>,
}

/// Every price and multiplier in effect at one instant.
#[derive(Serialize, ToSchema)]
struct PriceBook {
    /// The version in effect; 0 before the first.
    version: i64,
    /// Since when; `null` before the first version.
    #[schema(required)]
    effective_at: Option<Instant>,
    /// Every line in effect: list prices, multipliers of pools, of models in pools, of tiers, promotions, and costs.
    items: Vec<PriceItem>,
}

/// Why a version is cancelled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CancelPriceVersion {
    /// For people; kept in the audit log.
    reason: String,
}

/// Publishes a version: list prices and multipliers that take effect together. A version by which any price rises within
/// the notice period is refused; the message names every such price and the first instant that is allowed.
#[utoipa::path(tag = "prices", request_body = NewPriceVersionInput, responses((status = 201, body = PriceVersion)))]
#[post("/price-versions")]
async fn publish_prices(operator: FullOperator, body: Body<NewPriceVersionInput>) -> Answer<Created<PriceVersion>> {
    let NewPriceVersionInput {
        note,
        effective_at,
        changes,
    } = body.0;
    let changes = changes.into_iter().map(PriceChange::from).collect();
    let tx = operator.begin().await?;
    let view = catalog::publish(
        &tx,
        operator.actor(),
        &note,
        effective_at.map(|at| at.0),
        changes,
        operator.parts().notice,
    )
    .await?;
    operator.commit_catalog(tx).await?;
    Ok(Created(view.into()))
}

/// Cancels a version that has not taken effect, until 15 seconds before it would. It stays in the history as cancelled.
#[utoipa::path(tag = "prices", params(("version" = i64, Path)), request_body = CancelPriceVersion,
    responses((status = 200, body = PriceVersion)))]
#[post("/price-versions/{version}/cancel")]
async fn cancel_price_version(
    operator: FullOperator,
    version: PathId<i64>,
    body: Body<CancelPriceVersion>,
) -> Answer<Json<PriceVersion>> {
    let tx = operator.begin().await?;
    let notice = operator.parts().notice;
    let view = catalog::cancel_version(&tx, operator.actor(), version.0, &body.0.reason, notice).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(view.into()))
}

/// Versions, newest first.
#[utoipa::path(tag = "prices", params(PageParams), responses((status = 200, body = Page<PriceVersion>)))]
#[get("/price-versions")]
async fn list_price_versions(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<PriceVersion>>> {
    let bounds = page.0.bounds::<i64>()?;
    let readers = operator.parts().database.readers();
    let rows = catalog::list_price_versions(readers, bounds.cursor, bounds.rows_to_read().into()).await?;
    Ok(Json(bounds.page(
        rows,
        |row| row.version.to_string(),
        PriceVersion::from,
    )))
}

/// One version.
#[utoipa::path(tag = "prices", params(("version" = i64, Path)), responses((status = 200, body = PriceVersion)))]
#[get("/price-versions/{version}")]
async fn get_price_version(operator: ReadOperator, version: PathId<i64>) -> Answer<Json<PriceVersion>> {
    Ok(Json(
        catalog::get_price_version(operator.parts().database.readers(), version.0)
            .await?
            .into(),
    ))
}

/// What was ever published about one subject, newest first. Each version shows only its line about the subject.
#[utoipa::path(tag = "prices", params(HistoryParams), responses((status = 200, body = Page<PriceVersion>)))]
#[get("/price-history")]
async fn list_price_history(operator: ReadOperator, params: Params<HistoryParams>) -> Answer<Json<Page<PriceVersion>>> {
    let params = params.0;
    let bounds = page_bounds::<i64>(params.cursor.as_deref(), params.limit.as_deref())?;
    let kind = PriceKind::deserialize(serde_json::Value::from(params.kind)).map_err(|_| {
        AdminError::invalid(
            "kind",
            "expected `offer_price`, `pool_multiplier`, `model_multiplier`, `tier_multiplier`, `promotion_multiplier` or \
             `cost_multiplier`",
        )
    })?;
    let readers = operator.parts().database.readers();
    let limit = bounds.rows_to_read().into();
    let rows = catalog::price_history(readers, kind.into(), &params.subject, bounds.cursor, limit).await?;
    Ok(Json(bounds.page(
        rows,
        |row| row.version.to_string(),
        PriceVersion::from,
    )))
}

/// Every price and multiplier in effect at an instant, past, present or announced.
#[utoipa::path(tag = "prices", params(PriceBookParams), responses((status = 200, body = PriceBook)))]
#[get("/price-book")]
async fn get_price_book(operator: ReadOperator, params: Params<PriceBookParams>) -> Answer<Json<PriceBook>> {
    let database = &operator.parts().database;
    let at = match params.0.at {
        None => database.now().await?,
        Some(text) => UnixMs::from_rfc3339(&text)
            .ok_or_else(|| AdminError::invalid("at", "write RFC 3339 text such as 2026-11-21T12:00:00Z"))?,
    };
    let view = catalog::price_at(database, at).await?;
    let mut items = Vec::new();
    for line in view.offers {
        items.push(item(
            PriceKind::OfferPrice,
            line.offer.to_string(),
            serde_json::to_value(&*line.price),
        ));
    }
    for line in view.pools {
        items.push(item(
            PriceKind::PoolMultiplier,
            line.pool.to_string(),
            serde_json::to_value(line.multiplier),
        ));
    }
    for line in view.overrides {
        let subject = format!("{}|{}", line.pool, line.model);
        items.push(item(
            PriceKind::ModelMultiplier,
            subject,
            serde_json::to_value(line.multiplier),
        ));
    }
    for line in view.tiers {
        items.push(item(
            PriceKind::TierMultiplier,
            line.tier,
            serde_json::to_value(line.multiplier),
        ));
    }
    for line in view.promotions {
        items.push(item(
            PriceKind::PromotionMultiplier,
            line.pool.to_string(),
            serde_json::to_value(line.multiplier),
        ));
    }
    for line in view.costs {
        items.push(item(
            PriceKind::CostMultiplier,
            line.pool.to_string(),
            serde_json::to_value(line.multiplier),
        ));
    }
    let items = items
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| AdminError::internal(&error))?;
    Ok(Json(PriceBook {
        version: view.version,
        effective_at: view.effective_at.map(Instant),
        items,
    }))
}

fn item(
    kind: PriceKind,
    subject: String,
    value: Result<serde_json::Value, serde_json::Error>,
) -> Result<PriceItem, serde_json::Error> {
    Ok(PriceItem {
        kind,
        subject,
        value: value?,
    })
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(publish_prices)
        .service(cancel_price_version)
        .service(list_price_versions)
        .service(get_price_version)
        .service(list_price_history)
        .service(get_price_book);
}
