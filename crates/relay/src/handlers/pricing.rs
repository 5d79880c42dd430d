//! `GET /v1/pricing`: what everything costs, for everybody. No key is needed.
//!
//! The current list comes out of memory; past and future instants, and a model's history, out of the database.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderMap},
    web::{Data, Query},
};
use catalog::{CatalogError, listing_at, model_price_history};
use domain::{RequestId, clock::UnixMs};
use serde::{Deserialize, Serialize};

use crate::{
    error::RelayError,
    handlers::{
        cacheable::{Keeper, respond_cacheable},
        models::dialect_of,
        pricing_csv::ToCsv,
    },
    parts::{Relay, RelayParts},
    price_list::{Format, Rendered, Wanted},
    public_reading::Subject,
    reply::error_response,
};

/// For how long a list may be kept by others, in seconds. Changes are published ten seconds ahead at least, and a node knows
/// them before the last six of these.
const MAX_AGE_S: i64 = 3;
/// The same for an instant that has passed: its prices never change, but a pool may get another name.
const PAST_MAX_AGE_S: i64 = 300;
/// Longer names of models and tiers do not exist.
const LONGEST_NAME: usize = 200;

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PricingQuery {
    at: Option<String>,
    model: Option<String>,
    tier: Option<String>,
    history: Option<String>,
    format: Option<String>,
}

/// The list and what belongs to it.
#[derive(Serialize)]
struct Shown<T> {
    notice_days: u32,
    #[serde(flatten)]
    list: T,
}

/// The price list.
pub async fn show_prices(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let found = match Query::<PricingQuery>::from_query(request.query_string()) {
        Ok(query) => find(&relay.parts, query.into_inner(), request.headers()).await,
        Err(_) => Err(RelayError::BadParameter {
            name: "query",
            expected: "write only `at`, `model`, `tier`, `history` and `format`, each once",
        }),
    };
    match found {
        Ok((rendered, format, max_age_s)) => respond_cacheable(
            &rendered,
            format.content_type(),
            Keeper::Anybody,
            max_age_s,
            request.headers(),
        ),
        Err(error) => error_response(dialect_of(request.headers()), RequestId::generate(), &error),
    }
}

async fn find(
    parts: &RelayParts,
    query: PricingQuery,
    headers: &HeaderMap,
) -> Result<(Arc<Rendered>, Format, i64), RelayError> {
    let format = format_of(query.format.as_deref(), headers)?;
    let wants_history = flag(query.history.as_deref())?;
    let at = query.at.as_deref().map(instant).transpose()?;
    let wanted = Wanted {
        model: name("model", query.model)?,
        tier: name("tier", query.tier)?,
        format,
    };
    let now = parts.ledger.clock().now();
    let notice_days = parts.price_list.notice_days();
    if wants_history {
        let Some(model) = wanted.model.filter(|_| at.is_none()) else {
            return Err(RelayError::BadParameter {
                name: "history",
                expected: "give `model` with it, and no `at`",
            });
        };
        let _permit = parts.readings.permit(Subject::History)?;
        let read = model_price_history(&parts.database, &model, wanted.tier.as_deref(), now);
        let list = read.await.map_err(refused)?;
        let rendered = write_apart(format, notice_days, list).await?;
        let until_change_s = seconds_until_change(parts, now);
        return Ok((rendered, format, until_change_s.clamp(0, MAX_AGE_S)));
    }
    if let Some(at) = at {
        let _permit = parts.readings.permit(Subject::History)?;
        let read = listing_at(&parts.database, at, wanted.model.as_deref(), wanted.tier.as_deref());
        let list = read.await.map_err(refused)?;
        let rendered = write_apart(format, notice_days, list).await?;
        let max_age_s = if at < now { PAST_MAX_AGE_S } else { MAX_AGE_S };
        return Ok((rendered, format, max_age_s));
    }
    let snapshot = parts.catalog.snapshot();
    let render = |list| write(format, notice_days, list).map_err(Refused);
    let rendered = parts.price_list.current(&snapshot, wanted, now, render);
    let rendered = rendered.map_err(|Refused(error)| error)?;
    let until_change_s = rendered
        .next_change_at
        .map_or(i64::MAX, |next| (next.0 - now.0).div_euclid(1_000));
    Ok((rendered, format, until_change_s.clamp(0, MAX_AGE_S)))
}

/// An error on its way out of the kept lists.
struct Refused(RelayError);

impl From<CatalogError> for Refused {
    fn from(error: CatalogError) -> Self {
        Self(refused(error))
    }
}

fn refused(error: CatalogError) -> RelayError {
    match error {
        CatalogError::NotFound { what: "tier", id } => RelayError::UnknownTier(id),
        CatalogError::NotFound { id, .. } => RelayError::UnknownModel(id),
        error => {
            tracing::error!(%error, "prices could not be read");
            RelayError::Unavailable
        }
    }
}

/// A history says which price is current.
fn seconds_until_change(parts: &RelayParts, now: UnixMs) -> i64 {
    let next = parts.catalog.current().next_change_at(now);
    next.map_or(i64::MAX, |next| (next.0 - now.0).div_euclid(1_000))
}

/// Writes a list that nobody keeps: away from the event loop, as anybody may ask for it.
async fn write_apart<T: Serialize + ToCsv + Send + 'static>(
    format: Format,
    notice_days: u32,
    list: T,
) -> Result<Arc<Rendered>, RelayError> {
    let write = move || Ok(Arc::new(Rendered::new(write(format, notice_days, list)?, None)));
    // it is cut short only when the node stops
    tokio::task::spawn_blocking(write)
        .await
        .map_err(|_| RelayError::Draining)?
}

fn write<T: Serialize + ToCsv>(format: Format, notice_days: u32, list: T) -> Result<Vec<u8>, RelayError> {
    match format {
        Format::Csv => Ok(list.to_csv().into_bytes()),
        Format::Json => serde_json::to_vec(&Shown { notice_days, list }).map_err(|error| {
            tracing::error!(%error, "prices could not be written");
            RelayError::Internal
        }),
    }
}

fn format_of(asked: Option<&str>, headers: &HeaderMap) -> Result<Format, RelayError> {
    match asked {
        Some("json") => Ok(Format::Json),
        Some("csv") => Ok(Format::Csv),
        Some(_) => Err(RelayError::BadParameter {
            name: "format",
            expected: "write `json` or `csv`",
        }),
        None => {
            let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let first = accept.and_then(|accept| accept.split([',', ';']).next());
            let is_csv = first.is_some_and(|first| first.trim().eq_ignore_ascii_case("text/csv"));
            Ok(if is_csv { Format::Csv } else { Format::Json })
        }
    }
}

fn flag(text: Option<&str>) -> Result<bool, RelayError> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(RelayError::BadParameter {
            name: "history",
            expected: "write `true` or `false`",
        }),
    }
}

fn instant(text: &str) -> Result<UnixMs, RelayError> {
    UnixMs::from_rfc3339(text).ok_or(RelayError::BadParameter {
        name: "at",
        expected: "write RFC 3339 text such as 2026-11-21T12:00:00Z",
    })
}

/// PostgreSQL takes no NUL in text, and no name is longer.
fn name(parameter: &'static str, value: Option<String>) -> Result<Option<String>, RelayError> {
    match value {
        Some(text) if text.is_empty() || text.len() > LONGEST_NAME || text.contains('\0') => {
            Err(RelayError::BadParameter {
                name: parameter,
                expected: "write a name of the price list",
            })
        }
        value => Ok(value),
    }
}
