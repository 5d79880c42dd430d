//! The control port, for scripts in another process. It says and does what the in-process handle does:
//!
//! - `GET /faults`, `PUT /faults` with all of them, `DELETE /faults` to take them back
//! - `POST /break/rst` and `POST /break/fin` for every open connection
//! - `GET /counts`

use std::net::SocketAddr;

use actix_web::{App, HttpResponse, HttpServer, web};

use crate::{
    faults::{CutKind, Faults},
    proxy::{Handle, ProxyError},
};

/// Starts the control port.
pub(crate) fn start(handle: Handle, address: SocketAddr) -> Result<SocketAddr, ProxyError> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(handle.clone()))
            .route("/faults", web::get().to(faults))
            .route("/faults", web::put().to(set_faults))
            .route("/faults", web::delete().to(heal))
            .route("/break/{how}", web::post().to(break_open))
            .route("/counts", web::get().to(counts))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .bind(address)
    .map_err(|source| ProxyError::Bind { address, source })?;
    let bound = server.addrs().first().copied().unwrap_or(address);
    tokio::spawn(server.run());
    Ok(bound)
}

async fn faults(handle: web::Data<Handle>) -> HttpResponse {
    HttpResponse::Ok().json(handle.faults())
}

async fn set_faults(faults: web::Json<Faults>, handle: web::Data<Handle>) -> HttpResponse {
    handle.set(faults.into_inner());
    HttpResponse::NoContent().finish()
}

async fn heal(handle: web::Data<Handle>) -> HttpResponse {
    handle.heal();
    HttpResponse::NoContent().finish()
}

async fn break_open(how: web::Path<CutKind>, handle: web::Data<Handle>) -> HttpResponse {
    handle.break_open(how.into_inner());
    HttpResponse::NoContent().finish()
}

async fn counts(handle: web::Data<Handle>) -> HttpResponse {
    HttpResponse::Ok().json(handle.counts())
}
