//! The client: one pool of connections per address policy.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use crate::{
    AddressPolicy, OutboundError, OutboundSettings, Resolve, SystemResolver, UpstreamBody,
    connector::{GuardedConnector, TimedConnector},
};

type PooledClient = Client<TimedConnector<HttpsConnector<GuardedConnector>>, Full<Bytes>>;

/// Sends requests to providers. Cheap to clone. Build one per worker: its connections live on the runtime that uses them.
///
/// The two policies share no connection, so that a connection that was opened to a private address can never carry a
/// request of a provider that is public only.
#[derive(Clone)]
pub struct UpstreamClient {
    public_only: Clients,
    allow_private: Clients,
}

#[derive(Clone)]
struct Clients {
    pooled: PooledClient,
    /// Keeps none, so every request opens its own.
    fresh: PooledClient,
}

/// Which connection a request goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// One that is kept open, if there is one, or a new one.
    Pool,
    /// A new one that nobody else uses: for what a kept one has failed.
    Fresh,
}

impl UpstreamClient {
    /// A client on the operating system's resolver and the bundled Mozilla roots.
    pub fn new(settings: &OutboundSettings) -> Result<Self, OutboundError> {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// A client on a resolver of the caller's; the guard judges its answers like any other.
    pub fn with_resolver(settings: &OutboundSettings, resolver: Arc<dyn Resolve>) -> Result<Self, OutboundError> {
        let settings = Arc::new(settings.clone());
        let build = |policy| build_clients(policy, &settings, &resolver);
        Ok(Self {
            public_only: build(AddressPolicy::PublicOnly)?,
            allow_private: build(AddressPolicy::AllowPrivate)?,
        })
    }

    /// Sends the request and waits for the answer's head. Redirects come back as they are. Dropping the future cancels.
    ///
    /// A pooled connection that turns out closed before the request was written is replaced by a new one; a request that
    /// may have been read is never sent twice here. Where it was a kept connection that broke unanswered, the error says so
    /// ([`OutboundError::KeptConnectionDied`]), and the caller decides whether to send again over [`Via::Fresh`].
    pub async fn send(
        &self,
        policy: AddressPolicy,
        via: Via,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<UpstreamBody>, OutboundError> {
        let clients = match policy {
            AddressPolicy::PublicOnly => &self.public_only,
            AddressPolicy::AllowPrivate => &self.allow_private,
        };
        let client = match via {
            Via::Pool => &clients.pooled,
            Via::Fresh => &clients.fresh,
        };
        let asked = Instant::now();
        match client.request(request).await {
            Ok(response) => Ok(response.map(UpstreamBody::new)),
            Err(error) => Err(OutboundError::from_client(&error, asked)),
        }
    }
}

fn build_clients(
    policy: AddressPolicy,
    settings: &Arc<OutboundSettings>,
    resolver: &Arc<dyn Resolve>,
) -> Result<Clients, OutboundError> {
    let build = |idle| build_client(policy, Arc::clone(settings), Arc::clone(resolver), idle);
    Ok(Clients {
        pooled: build(settings.pool_max_idle_per_host)?,
        fresh: build(0)?,
    })
}

fn build_client(
    policy: AddressPolicy,
    settings: Arc<OutboundSettings>,
    resolver: Arc<dyn Resolve>,
    max_idle_per_host: usize,
) -> Result<PooledClient, OutboundError> {
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
        .map_err(|error| OutboundError::TlsSetup(error.to_string()))?;
    let guarded = GuardedConnector::new(policy, Arc::clone(&settings), resolver);
    // Plain http to a public provider is refused by the guard, which can say why.
    let connector = tls
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(guarded);
    Ok(Client::builder(TokioExecutor::new())
        // Without this timer the pool never closes an idle connection.
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(settings.pool_idle_timeout)
        .pool_max_idle_per_host(max_idle_per_host)
        .build(TimedConnector::new(connector, policy, settings)))
}
