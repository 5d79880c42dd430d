//! Opens connections: judges the target, resolves a name once, judges the answer, connects to exactly that answer.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    AddressPolicy, OutboundSettings, Resolve,
    kept::Watched,
    target::{Target, judge_answer, read_target},
};

/// Head start of one address over the next one (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Why no connection was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    InvalidUrl(String),
    #[error("{0}")]
    Resolve(String),
    #[error("{0}")]
    Connect(String),
    #[error("connect timeout")]
    Timeout { timeout_ms: u64 },
}

/// The TCP connector with the guard inside: there is no way to a socket around it.
#[derive(Clone)]
pub(crate) struct GuardedConnector {
    policy: AddressPolicy,
    settings: Arc<OutboundSettings>,
    resolver: Arc<dyn Resolve>,
}

impl GuardedConnector {
    pub(crate) fn new(policy: AddressPolicy, settings: Arc<OutboundSettings>, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            policy,
            settings,
            resolver,
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectFailure> {
        let addresses = match read_target(&uri, self.policy, &self.settings)? {
            Target::Address(address) => vec![address],
            Target::Name { host, port } => {
                let mut addresses = self
                    .resolver
                    .resolve(&host, port)
                    .await
                    .map_err(|error| ConnectFailure::Resolve(format!("{host}: {error}")))?;
                judge_answer(&addresses, self.policy)?;
                // The answer decides where to, never on which port.
                addresses.iter_mut().for_each(|address| address.set_port(port));
                addresses
            }
        };
        let stream = connect_first(&addresses)
            .await
            .map_err(|error| ConnectFailure::Connect(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| ConnectFailure::Connect(error.to_string()))?;
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Connects to the first address that answers; each gets a head start over the next, a refusal starts the next at once.
async fn connect_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    attempts.extend(waiting.next().copied().map(TcpStream::connect));
    loop {
        let more = !waiting.as_slice().is_empty();
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    last_error = error;
                    attempts.extend(waiting.next().copied().map(TcpStream::connect));
                }
                None => return Err(last_error),
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if more => {
                attempts.extend(waiting.next().copied().map(TcpStream::connect));
            }
        }
    }
}

/// The outermost connector: bounds everything that a connection needs, TLS included, by one time limit, and watches what
/// comes of it.
///
/// It also judges the target before the TLS layer sees it, so that a forbidden spelling of an address is called
/// forbidden and not an invalid server name. The guard below judges again: it is the one that cannot be bypassed.
#[derive(Clone)]
pub(crate) struct TimedConnector<C> {
    inner: C,
    policy: AddressPolicy,
    settings: Arc<OutboundSettings>,
}

impl<C> TimedConnector<C> {
    pub(crate) const fn new(inner: C, policy: AddressPolicy, settings: Arc<OutboundSettings>) -> Self {
        Self {
            inner,
            policy,
            settings,
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<C> Service<Uri> for TimedConnector<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
    C::Response: Send + 'static,
{
    type Response = TokioIo<Watched<TokioIo<C::Response>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Err(failure) = read_target(&uri, self.policy, &self.settings) {
            return Box::pin(std::future::ready(Err(failure.into())));
        }
        let connecting = self.inner.call(uri);
        let timeout = self.settings.connect_timeout;
        Box::pin(async move {
            let connected = tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_| {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(ConnectFailure::Timeout { timeout_ms }.into())
            });
            connected.map(|stream| TokioIo::new(Watched::new(TokioIo::new(stream))))
        })
    }
}
