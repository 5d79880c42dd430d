//! One line and one count per request, whatever became of it. Neither query strings nor headers are logged: clients
//! put secrets there.

use std::{sync::Arc, time::Instant};

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::HeaderName,
    middleware::Next,
    web,
};
use ipnet::IpNet;
use metrics::{counter, histogram};

use crate::client_address::client_address;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What the log needs to know.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// `relay` or `admin`.
    pub listener: &'static str,
    /// Whether requests leave a line.
    pub lines: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
}

/// Runs the request and notes what came of it when the head of its answer is known.
///
/// # Errors
/// Those of the service that it wraps.
pub async fn note_request<B: MessageBody>(
    log: web::Data<AccessLog>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let client = request.peer_addr().map(|peer| {
        let headers = request
            .headers()
            .get_all(FORWARDED_FOR)
            .filter_map(|value| value.to_str().ok());
        let headers: Vec<&str> = headers.collect();
        client_address(peer.ip(), headers.into_iter(), &log.trusted_proxies)
    });
    let result = next.call(request).await;
    let (status, pattern, request_id) = match &result {
        Ok(response) => {
            let id = response.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
            (response.status(), response.request().match_pattern(), id)
        }
        Err(error) => (error.as_response_error().status_code(), None, None),
    };
    let elapsed = started.elapsed();
    counter!("truerelay_http_responses_total", "listener" => log.listener, "status" => status.as_str().to_owned())
        .increment(1);
    histogram!("truerelay_http_response_head_seconds", "listener" => log.listener).record(elapsed.as_secs_f64());
    if log.lines && !pattern.as_deref().is_some_and(is_probe) {
        tracing::info!(
            listener = log.listener,
            %method,
            // the pattern and not the path: what is no route of ours may be anything
            route = pattern.as_deref().unwrap_or("unknown"),
            status = status.as_u16(),
            head_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            request_id,
            client = client.map(tracing::field::display),
            "request"
        );
    }
    result
}

fn is_probe(pattern: &str) -> bool {
    matches!(pattern, "/healthz" | "/readyz" | "/metrics")
}
