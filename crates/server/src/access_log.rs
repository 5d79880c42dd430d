//! One line and one count per request, whatever became of it. Neither query strings nor headers are logged: clients
//! put secrets there.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use domain::RequestId;
use ipnet::IpNet;
use metrics::{Counter, Histogram, counter, histogram};

use crate::client_address::client_address;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What the log of one listener needs to know. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    listener: &'static str,
    lines: bool,
    trusted_proxies: Arc<[IpNet]>,
    meters: Arc<Meters>,
}

/// The metrics of one listener. A handle is kept once it was used: finding it by its labels costs more than counting.
struct Meters {
    head_seconds: Histogram,
    responses: [OnceLock<Counter>; STATUSES],
}

/// Room for every status that HTTP knows, by its number.
const STATUSES: usize = 600;

impl AccessLog {
    /// The log of `listener` (`relay` or `admin`): whether requests leave a line, and whose `X-Forwarded-For` is believed.
    /// Make it after the metrics have been set up.
    pub fn new(listener: &'static str, lines: bool, trusted_proxies: Arc<[IpNet]>) -> Self {
        let meters = Meters {
            head_seconds: histogram!("truerelay_http_response_head_seconds", "listener" => listener),
            responses: [const { OnceLock::new() }; STATUSES],
        };
        Self {
            listener,
            lines,
            trusted_proxies,
            meters: Arc::new(meters),
        }
    }

    fn count(&self, status: StatusCode) {
        let responses = |status: StatusCode| {
            counter!(
                "truerelay_http_responses_total",
                "listener" => self.listener,
                "status" => status.as_str().to_owned(),
            )
        };
        match self.meters.responses.get(usize::from(status.as_u16())) {
            Some(counter) => counter.get_or_init(|| responses(status)).increment(1),
            None => responses(status).increment(1),
        }
    }
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
    let mut result = next.call(request).await;
    if let Ok(response) = &mut result {
        name_request(response);
    }
    let (status, pattern, request_id) = match &result {
        Ok(response) => {
            let id = response.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
            (response.status(), response.request().match_pattern(), id)
        }
        Err(error) => (error.as_response_error().status_code(), None, None),
    };
    let elapsed = started.elapsed();
    log.count(status);
    log.meters.head_seconds.record(elapsed.as_secs_f64());
    if log.lines && !pattern.as_deref().is_some_and(is_probe) {
        tracing::info!(
            listener = log.listener,
            method = method.as_str(),
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

/// Chat requests have their id from their handler, for it is the ledger's too; all others are named here, so that
/// whoever got an answer can ask about it.
fn name_request<B>(response: &mut ServiceResponse<B>) {
    if response.headers().contains_key(REQUEST_ID) {
        return;
    }
    if let Ok(id) = HeaderValue::try_from(RequestId::generate().to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
}

fn is_probe(pattern: &str) -> bool {
    matches!(pattern, "/healthz" | "/readyz" | "/metrics")
}
