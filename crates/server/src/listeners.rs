//! The two listeners: one for customers, one for operators. Each has the settings that streams over HTTP/1.1 need.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpServer,
    dev::{Server, ServerHandle},
    middleware::from_fn,
    web,
};
use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use outbound::UpstreamClient;
use tokio::task::JoinHandle;

use crate::{
    access_log::{AccessLog, note_request},
    config::Config,
    ops_routes::{configure_metrics, configure_probes},
    wiring::Node,
};

const ADMIN_WORKERS: usize = 1;
const ADMIN_CONNECTIONS: usize = 1_000;
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for answers that are complete to reach their clients. Requests have been waited for before.
const STOP_TIMEOUT_S: u64 = 2;

/// A listener that accepts connections.
pub struct Listener {
    /// Where it listens; the real port when 0 was asked for.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Listener {
    /// Starts a listener's server and keeps it running.
    fn start(address: SocketAddr, server: Server) -> Self {
        let handle = server.handle();
        Self {
            address,
            handle,
            task: tokio::spawn(server),
        }
    }

    /// Ends when the listener has ended by itself, which it never should.
    pub async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Err(error)) => anyhow::Error::new(error).context("a listener failed"),
            Ok(Ok(())) | Err(_) => anyhow::anyhow!("a listener ended by itself"),
        }
    }

    /// Stops it. Gracefully means that complete answers still reach their clients.
    pub async fn stop(&self, graceful: bool) {
        self.handle.stop(graceful).await;
    }
}

/// Starts the customers' listener.
///
/// # Errors
/// When the address cannot be had, or no client for providers can be made.
pub fn start_relay(config: &Config, node: &Node) -> anyhow::Result<Listener> {
    let parts = Arc::new(node.relay_parts(config));
    let outbound = config.outbound.settings();
    let checked_client = UpstreamClient::new(&outbound).context("[outbound]")?;
    let (node, log) = (node.clone(), access_log(config, "relay"));
    let workers = worker_count(config.server.workers);
    let server = HttpServer::new(move || {
        // connections to providers live on the worker that uses them, so each worker has a client of its own
        let client = UpstreamClient::new(&outbound).unwrap_or_else(|_| checked_client.clone());
        App::new()
            .app_data(web::Data::new(log.clone()))
            .wrap(from_fn(note_request))
            .configure(|cfg| configure_probes(&node, cfg))
            .configure(|cfg| relay::configure(&parts, client, cfg))
            .default_service(web::to(relay::no_such_route))
    })
    .workers(workers)
    .max_connections(config.server.max_connections.div_ceil(workers))
    .keep_alive(idle_timeout(config))
    .client_request_timeout(idle_timeout(config))
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .shutdown_timeout(STOP_TIMEOUT_S)
    .tcp_nodelay(true)
    // a client that has left is noticed at once, not at the second write after
    .h1_allow_half_closed(false)
    .disable_signals()
    .bind(config.server.listen)
    .with_context(|| format!("cannot listen on {} (server.listen)", config.server.listen))?;
    let address = server.addrs().first().copied().unwrap_or(config.server.listen);
    Ok(Listener::start(address, server.run()))
}

/// Starts the operators' listener.
///
/// # Errors
/// When the address cannot be had.
pub fn start_admin(config: &Config, node: &Node, metrics: &PrometheusHandle) -> anyhow::Result<Listener> {
    let parts = Arc::new(node.admin_parts(config));
    let (node, metrics, log) = (node.clone(), metrics.clone(), access_log(config, "admin"));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(log.clone()))
            .wrap(from_fn(note_request))
            .configure(|cfg| configure_probes(&node, cfg))
            .configure(|cfg| configure_metrics(&metrics, cfg))
            .configure(|cfg| admin_api::configure(Arc::clone(&parts), cfg))
    })
    .workers(ADMIN_WORKERS)
    .max_connections(ADMIN_CONNECTIONS)
    .keep_alive(idle_timeout(config))
    .client_request_timeout(idle_timeout(config))
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .shutdown_timeout(STOP_TIMEOUT_S)
    .tcp_nodelay(true)
    .h1_allow_half_closed(false)
    .disable_signals()
    .bind(config.admin.listen)
    .with_context(|| format!("cannot listen on {} (admin.listen)", config.admin.listen))?;
    let address = server.addrs().first().copied().unwrap_or(config.admin.listen);
    Ok(Listener::start(address, server.run()))
}

fn access_log(config: &Config, listener: &'static str) -> AccessLog {
    AccessLog::new(
        listener,
        config.log.requests,
        config.server.trusted_proxies.clone().into(),
    )
}

/// How long a connection may say nothing. A new one has as long as one that waits for its next request: clients open
/// connections ahead, and when the time of a new one is over actix answers 408 to it, which a request that has just been
/// sent would take for its answer. Bodies have a limit of their own.
///
/// So a client may take as long for the head of its first request, and as long as it likes for a later one: actix-http 3.20 starts
/// its timer for heads with the connection, not with the first byte of a head, and not again (actix-web issue 928); then only
/// `max_connections` and the proxy in front bound it.
const fn idle_timeout(config: &Config) -> Duration {
    Duration::from_secs(config.server.keep_alive_s)
}

fn worker_count(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        count => count,
    }
}
