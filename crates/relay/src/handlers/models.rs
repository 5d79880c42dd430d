//! `GET /v1/models` and `GET /v1/models/{id}`: what this key can buy, and at which price, in the caller's dialect.

use std::collections::BTreeMap;

use accounts::Caller;
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::HeaderMap,
    web::{Data, Path},
};
use catalog::{ModelEntry, OfferEntry, Snapshot};
use domain::{RequestId, clock::UnixMs, pricing::FrozenPrice, request::Dialect};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{caller::authenticate, error::RelayError, parts::Relay, reply::error_response};

/// Anthropic's SDKs say which version of the API they speak; nobody else sends this header.
pub fn dialect_of(headers: &HeaderMap) -> Dialect {
    if headers.contains_key("anthropic-version") {
        Dialect::AnthropicMessages
    } else {
        Dialect::OpenaiChat
    }
}

/// One way to buy a model.
#[derive(Serialize)]
struct OfferPrice {
    provider: String,
    pool: String,
    dialect: &'static str,
    /// The names that the provider may report as its model, each also with a date behind it; under any other name an answer
    /// is free.
    served_names: Vec<String>,
    price_version: i64,
    /// The provider's public prices, in USD per million tokens unless the key says otherwise, by class.
    list_price: Value,
    /// Factors on the list price.
    multipliers: BTreeMap<&'static str, String>,
    /// Their product: charge = list price x multiplier.
    multiplier: String,
}

/// Every model that this key can buy now.
pub async fn list_models(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let dialect = dialect_of(request.headers());
    match authenticate(&relay.parts, request.headers()).await {
        Ok(caller) => {
            let snapshot = relay.parts.catalog.snapshot();
            let now = relay.parts.ledger.clock().now();
            let models: Vec<Value> = snapshot
                .models()
                .filter(|model| caller.may_use(&model.id, &model.aliases))
                .filter_map(|model| describe(&snapshot, model, &caller, now, dialect))
                .collect();
            HttpResponse::Ok().json(list(dialect, models))
        }
        Err(error) => error_response(dialect, RequestId::generate(), &error),
    }
}

/// One model that this key can buy now.
pub async fn show_model(relay: Data<Relay>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let dialect = dialect_of(request.headers());
    let found = match authenticate(&relay.parts, request.headers()).await {
        Ok(caller) => find(&relay, &caller, &id, dialect),
        Err(error) => Err(error),
    };
    match found {
        Ok(model) => HttpResponse::Ok().json(model),
        Err(error) => error_response(dialect, RequestId::generate(), &error),
    }
}

fn find(relay: &Relay, caller: &Caller, name: &str, dialect: Dialect) -> Result<Value, RelayError> {
    let unknown = || RelayError::UnknownModel(name.chars().take(200).collect());
    let snapshot = relay.parts.catalog.snapshot();
    let model = snapshot.model(name).ok_or_else(unknown)?;
    if !caller.may_use(&model.id, &model.aliases) {
        return Err(unknown());
    }
    let now = relay.parts.ledger.clock().now();
    describe(&snapshot, model, caller, now, dialect).ok_or_else(unknown)
}

fn list(dialect: Dialect, models: Vec<Value>) -> Value {
    match dialect {
        Dialect::OpenaiChat => json!({ "object": "list", "data": models }),
        Dialect::AnthropicMessages => {
            let id = |model: Option<&Value>| model.and_then(|model| model.get("id")).cloned();
            json!({
                "first_id": id(models.first()),
                "last_id": id(models.last()),
                "has_more": false,
                "data": models,
            })
        }
    }
}

/// The model as its dialect shows it, with what it costs; `None` when nobody sells it now.
fn describe(snapshot: &Snapshot, model: &ModelEntry, caller: &Caller, now: UnixMs, dialect: Dialect) -> Option<Value> {
    let offers: Vec<OfferPrice> = model
        .offers
        .iter()
        .filter_map(|offer| {
            let price = snapshot.price_in_force(offer, &caller.tier, now)?;
            Some(offer_price(offer, &price))
        })
        .collect();
    if offers.is_empty() {
        return None;
    }
    let common = json!({
        "name": model.name,
        "aliases": model.aliases,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "offers": offers,
    });
    Some(match dialect {
        Dialect::OpenaiChat => json!({
            "id": &*model.id,
            "object": "model",
            "created": model.created_at.0.div_euclid(1_000),
            "owned_by": model.vendor,
            "truerelay": common,
        }),
        Dialect::AnthropicMessages => json!({
            "id": &*model.id,
            "type": "model",
            "display_name": model.name,
            "created_at": model.created_at.to_rfc3339(),
            "truerelay": common,
        }),
    })
}

fn offer_price(offer: &OfferEntry, price: &FrozenPrice) -> OfferPrice {
    let multipliers = BTreeMap::from([
        ("pool", price.multipliers.pool.to_string()),
        ("promotion", price.multipliers.promotion.to_string()),
        ("tier", price.multipliers.tier.to_string()),
    ]);
    OfferPrice {
        provider: offer.provider.slug.clone(),
        pool: offer.pool.name.clone(),
        dialect: offer.format.as_str(),
        served_names: offer.served_names.as_slice().to_vec(),
        price_version: price.version,
        list_price: serde_json::to_value(&*price.entry).unwrap_or_default(),
        multipliers,
        multiplier: price.multipliers.product(),
    }
}
