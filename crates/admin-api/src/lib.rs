//! What an operator may do, as an HTTP API with a listener of its own: one file per resource.
//!
//! Owns the JSON forms, the status codes and the OpenAPI document, and no rule and no table: a handler reads its input,
//! composes the owners' functions in one transaction, commits, and refreshes this node's caches. Nothing here serves
//! customers, and no answer shows a secret except the one that creates it.

mod access;
mod answer;
mod audit_log;
mod budgets;
mod correcting;
mod corrections;
mod credentials;
mod document;
mod done_once;
mod error;
mod grants;
mod incident_refunds;
mod incident_requests;
mod incidents;
mod input;
mod keys;
mod ledger_view;
mod margins;
mod models;
mod moved_once;
mod nodes;
mod offers;
mod operator_tokens;
mod page;
mod pools;
mod price_preview;
mod prices;
mod provider_statements;
mod providers;
mod reports;
mod requests;
mod tenants;
mod wire;
mod withdrawals;

use std::sync::Arc;

use accounts::{CallerCache, OperatorCache};
use actix_web::{
    dev::ServiceRequest,
    middleware::{Next, from_fn},
    web,
};
use catalog::{CatalogCache, NoticePeriod};
pub use document::openapi;
use ledger::archive::Archive;
pub use reports::Reports;
use store::{Database, keyring::Keyring};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::error::AdminError;

/// Where everything is.
const BASE_PATH: &str = "/admin/v1";

/// What the API works with. One for all workers of a node.
pub struct AdminParts {
    /// The database.
    pub database: Database,
    /// Hashes tokens and keys, seals credentials.
    pub keyring: Keyring,
    /// Who the operators are; emptied at once after a write on them.
    pub operators: Arc<OperatorCache>,
    /// This node's catalog and its credentials' health; refreshed at once after a write on the catalog.
    pub catalog: Arc<CatalogCache>,
    /// How long before its instant a rise must be published.
    pub notice: NoticePeriod,
    /// Who the callers of the relay are; emptied at once after a write on tenants or keys.
    pub callers: Arc<CallerCache>,
    /// Takes what movements of credit changed, after their commit.
    pub archive: Archive,
    /// Whether a report runs.
    pub reports: Reports,
}

/// Mounts everything under `/admin/v1`, the OpenAPI document at `/admin/v1/openapi.json` included.
pub fn configure(parts: Arc<AdminParts>, config: &mut web::ServiceConfig) {
    let gate =
        from_fn(move |request: ServiceRequest, next: Next<_>| access::authenticate(Arc::clone(&parts), request, next));
    let scope = web::scope(BASE_PATH)
        .app_data(web::PayloadConfig::new(input::MAX_BODY_BYTES))
        .configure(|config| resources(&mut ServiceConfig::new(config)))
        .default_service(web::to(no_such_path))
        .wrap(gate);
    config.service(scope);
}

fn resources(config: &mut ServiceConfig<'_>) {
    config
        .configure(providers::routes)
        .configure(pools::routes)
        .configure(credentials::routes)
        .configure(models::routes)
        .configure(offers::routes)
        .configure(prices::routes)
        .configure(price_preview::routes)
        .configure(margins::routes)
        .configure(tenants::routes)
        .configure(keys::routes)
        .configure(grants::routes)
        .configure(withdrawals::routes)
        .configure(corrections::routes)
        .configure(ledger_view::routes)
        .configure(nodes::routes)
        .configure(requests::routes)
        .configure(incidents::routes)
        .configure(incident_requests::routes)
        .configure(incident_refunds::routes)
        .configure(provider_statements::routes)
        .configure(audit_log::routes)
        .configure(operator_tokens::routes)
        .configure(document::routes);
}

async fn no_such_path() -> Result<&'static str, AdminError> {
    Err(AdminError::not_found("path or method"))
}
