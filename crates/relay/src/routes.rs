//! The URL table of the data plane.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, ServiceConfig},
};
use domain::RequestId;
use outbound::UpstreamClient;

use crate::{
    error::RelayError,
    handlers::{chat, key, models, requests},
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
        .route("/v1/chat/completions", web::post().to(chat::chat_completions))
        .route("/v1/messages", web::post().to(chat::messages))
        .route("/v1/models", web::get().to(models::list_models))
        // a model's id has a slash in it
        .route("/v1/models/{id:.+}", web::get().to(models::show_model))
        .route("/v1/key", web::get().to(key::show_key))
        .route("/v1/requests/{id}", web::get().to(requests::show_request));
}

/// What is answered where there is no route.
pub async fn no_such_route(request: HttpRequest) -> HttpResponse {
    let dialect = models::dialect_of(request.headers());
    error_response(dialect, RequestId::generate(), &RelayError::NoSuchRoute)
}
