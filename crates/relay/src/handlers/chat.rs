//! `POST /v1/chat/completions` and `POST /v1/messages`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use domain::{RequestId, request::Dialect};

use crate::{
    body::read_body,
    caller::authenticate,
    error::RelayError,
    parts::Relay,
    pipeline::{self, Incoming},
    reply::error_response,
};

/// OpenAI Chat Completions.
pub async fn chat_completions(relay: Data<Relay>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(&relay, &request, payload, Dialect::OpenaiChat).await
}

/// Anthropic Messages.
pub async fn messages(relay: Data<Relay>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(&relay, &request, payload, Dialect::AnthropicMessages).await
}

async fn answer(relay: &Relay, request: &HttpRequest, mut payload: Payload, dialect: Dialect) -> HttpResponse {
    let id = RequestId::generate();
    match serve(relay, request, &mut payload, dialect, id).await {
        Ok(response) => response,
        Err(error) => error_response(dialect, id, &error),
    }
}

async fn serve(
    relay: &Relay,
    request: &HttpRequest,
    payload: &mut Payload,
    dialect: Dialect,
    id: RequestId,
) -> Result<HttpResponse, RelayError> {
    let pass = relay.parts.gate.enter().ok_or(RelayError::Draining)?;
    let caller = authenticate(&relay.parts, request.headers()).await?;
    let body = read_body(payload, request.headers(), &relay.parts.settings).await?;
    let incoming = Incoming {
        id,
        caller,
        dialect,
        headers: request.headers(),
        body,
        pass,
    };
    pipeline::relay(relay, incoming).await
}
