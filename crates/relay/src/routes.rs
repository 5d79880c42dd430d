//! The URL table of the data plane.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse, Resource, Route,
    web::{self, Data, ServiceConfig},
};
use domain::{RequestId, request::Dialect};
use outbound::UpstreamClient;

use crate::{
    error::RelayError,
    handlers::{chat, incidents, key, log, models, pricing, receipt, refund_policy, requests},
    parts::{Relay, RelayParts},
    reply::error_response,
};

/// Mounts the data plane on one worker. `client` holds that worker's connections to providers.
pub fn configure(parts: &Arc<RelayParts>, client: UpstreamClient, config: &mut ServiceConfig) {
    let relay = Relay {
        parts: Arc::clone(parts),
        client,
    };
    config
        .app_data(Data::new(relay))
        .service(only(
            "POST",
            "/v1/chat/completions",
            web::post().to(chat::chat_completions),
        ))
        .service(only("POST", "/v1/messages", web::post().to(chat::messages)))
        .service(only("GET", "/v1/models", web::get().to(models::list_models)))
        // a model's id has a slash in it
        .service(only("GET", "/v1/models/{id:.+}", web::get().to(models::show_model)))
        .service(only("GET", "/v1/pricing", web::get().to(pricing::show_prices)))
        .app_data(Data::new(refund_policy::RefundPolicy::default()))
        .service(only(
            "GET",
            "/v1/refund-policy",
            web::get().to(refund_policy::show_policy),
        ))
        .service(only("GET", "/v1/key", web::get().to(key::show_key)))
        .service(only("GET", "/v1/requests/{id}", web::get().to(requests::show_request)))
        .service(only(
            "GET",
            "/v1/requests/{id}/receipt",
            web::get().to(receipt::show_receipt),
        ))
        .service(only("GET", "/v1/incidents", web::get().to(incidents::list_incidents)))
        .service(only("GET", "/v1/incidents.rss", web::get().to(incidents::show_feed)))
        .service(only(
            "GET",
            "/v1/incidents/{id}",
            web::get().to(incidents::show_incident),
        ))
        .configure(configure_log);
}

/// The transparency log, for everybody.
fn configure_log(config: &mut ServiceConfig) {
    let keys = "/.well-known/truerelay-log-keys.json";
    config
        .service(only("GET", "/v1/log", web::get().to(log::show_log)))
        .service(only("GET", "/v1/log/heads", web::get().to(log::show_day_head)))
        .service(only("GET", "/v1/log/heads/{size}", web::get().to(log::show_head)))
        .service(only("GET", "/v1/log/consistency", web::get().to(log::show_consistency)))
        .service(only("GET", "/v1/log/entries", web::get().to(log::list_entries)))
        .service(only("GET", keys, web::get().to(log::show_keys)));
}

/// A resource with one method; every other one is told which.
fn only(allowed: &'static str, path: &'static str, route: Route) -> Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(move |request: HttpRequest| {
            let dialect = match path {
                "/v1/messages" => Dialect::AnthropicMessages,
                "/v1/chat/completions" => Dialect::OpenaiChat,
                _ => models::dialect_of(request.headers()),
            };
            let error = RelayError::WrongMethod { allowed };
            std::future::ready(error_response(dialect, RequestId::generate(), &error))
        }))
}

/// What is answered where there is no route.
pub async fn no_such_route(request: HttpRequest) -> HttpResponse {
    let dialect = models::dialect_of(request.headers());
    error_response(dialect, RequestId::generate(), &RelayError::NoSuchRoute)
}
