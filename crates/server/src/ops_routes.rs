//! What monitors ask: is the process up, does it want requests, what does it count.

use actix_web::{HttpResponse, http::header::ContentType, web};
use domain::clock::UnixMs;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::{readiness::Unready, wiring::Node};

/// Adds `/healthz` and `/readyz`.
pub fn configure_probes(node: &Node, cfg: &mut web::ServiceConfig) {
    cfg.app_data(web::Data::new(node.clone()))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz));
}

/// Adds `/metrics`. For the operators' listener only.
pub fn configure_metrics(metrics: &PrometheusHandle, cfg: &mut web::ServiceConfig) {
    cfg.app_data(web::Data::new(metrics.clone()))
        .route("/metrics", web::get().to(render_metrics));
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
struct ReadinessReport {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Unready>,
}

/// Answers as long as the process can answer at all: a database that is away is no reason to be restarted.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "up" })
}

async fn readyz(node: web::Data<Node>) -> HttpResponse {
    let reasons = node.readiness.reasons(node.ledger.is_stalled());
    if reasons.is_empty() {
        return HttpResponse::Ok().json(ReadinessReport {
            status: "ready",
            reasons,
        });
    }
    HttpResponse::ServiceUnavailable().json(ReadinessReport {
        status: "unready",
        reasons,
    })
}

async fn render_metrics(node: web::Data<Node>, metrics: web::Data<PrometheusHandle>) -> HttpResponse {
    let resting = node.catalog.health().outages(UnixMs::now()).len();
    let ready = node.readiness.reasons(node.ledger.is_stalled()).is_empty();
    gauge!("truerelay_requests_in_flight").set(measured(node.gate.open_requests()));
    gauge!("truerelay_ledger_queue_depth").set(measured(node.ledger.queue_depth()));
    gauge!("truerelay_credentials_resting").set(measured(resting));
    gauge!("truerelay_ready").set(f64::from(u8::from(ready)));
    HttpResponse::Ok()
        .insert_header(ContentType::plaintext())
        .body(metrics.render())
}

/// Metrics are floating-point by their protocol; counts of things in memory are far below 2^32.
fn measured(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
