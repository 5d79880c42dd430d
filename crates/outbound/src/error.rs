//! Why a call did not happen or did not end, named by what the caller can do about it.

use std::time::Instant;

use crate::{connector::ConnectFailure, kept::History};

/// A failed call. No variant carries a header, a body or a path, so that no secret can reach a log through it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The address is not one that the policy allows. Fix the provider's base URL, or mark the provider as private.
    #[error("{0}; use a public address, or mark the provider as allowed to use private addresses")]
    ForbiddenAddress(String),
    /// The URL cannot be called at all. Fix the provider's base URL.
    #[error("the URL cannot be called: {0}")]
    InvalidUrl(String),
    /// The TLS set-up of this build is unusable.
    #[error("TLS could not be set up: {0}")]
    TlsSetup(String),
    /// The host name has no address.
    #[error("the host name could not be resolved: {0}")]
    Resolve(String),
    /// No connection was made, or its TLS handshake failed.
    #[error("the connection could not be opened: {0}")]
    ConnectFailed(String),
    /// The connection was not ready within the connect timeout.
    #[error("the connection was not ready within {timeout_ms} ms")]
    ConnectTimeout {
        /// The limit that ran out.
        timeout_ms: u64,
    },
    /// The connection closed before a byte of the request was written.
    #[error("the connection closed before the request was written")]
    ClosedUnsent,
    /// A connection that was kept open from before broke, and nothing of an answer had come: most likely the other side
    /// closed it while it was idle, and the request met that on its way. The provider may still have read it.
    #[error("a connection that was kept open broke before anything was answered: {0}")]
    KeptConnectionDied(String),
    /// The connection broke after the request may have been read: the provider may have worked on it.
    #[error("the connection broke after the request was sent: {0}")]
    Broken(String),
}

impl OutboundError {
    /// True when the provider cannot have seen the request: trying elsewhere can cost nothing twice.
    pub const fn is_before_send(&self) -> bool {
        !matches!(self, Self::Broken(_) | Self::KeptConnectionDied(_))
    }

    /// A stable short code for logs and the request log.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ForbiddenAddress(_) => "forbidden_address",
            Self::InvalidUrl(_) => "invalid_url",
            Self::TlsSetup(_) => "tls_setup",
            Self::Resolve(_) => "resolve_failed",
            Self::ConnectFailed(_) => "connect_failed",
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::ClosedUnsent => "closed_unsent",
            Self::KeptConnectionDied(_) => "kept_connection_died",
            Self::Broken(_) => "connection_broken",
        }
    }

    /// Of a request that was handed over at `asked` and has no answer.
    pub(crate) fn from_client(error: &hyper_util::client::legacy::Error, asked: Instant) -> Self {
        if let Some(failure) = find_in_chain::<ConnectFailure>(error) {
            return failure.clone().into();
        }
        if error.is_connect() {
            return Self::ConnectFailed(innermost(error));
        }
        match find_in_chain::<hyper::Error>(error) {
            // The dispatcher never took the request: it was handed back whole.
            Some(cause) if cause.is_canceled() => Self::ClosedUnsent,
            _ if is_dead_kept_connection(error, asked) => Self::KeptConnectionDied(innermost(error)),
            _ => Self::Broken(innermost(error)),
        }
    }

    pub(crate) fn from_body(error: &hyper::Error) -> Self {
        Self::Broken(innermost(error))
    }
}

impl From<ConnectFailure> for OutboundError {
    fn from(failure: ConnectFailure) -> Self {
        match failure {
            ConnectFailure::Forbidden(what) => Self::ForbiddenAddress(what),
            ConnectFailure::InvalidUrl(what) => Self::InvalidUrl(what),
            ConnectFailure::Resolve(what) => Self::Resolve(what),
            ConnectFailure::Connect(what) => Self::ConnectFailed(what),
            ConnectFailure::Timeout { timeout_ms } => Self::ConnectTimeout { timeout_ms },
        }
    }
}

/// Whether a connection from before ended unanswered, as one does that was closed while it was idle. A stream of HTTP/2 that
/// is reset alone is an answer to its request, except the one that says that it was not looked at (RFC 9113, 8.7).
fn is_dead_kept_connection(error: &hyper_util::client::legacy::Error, asked: Instant) -> bool {
    let history = error.connect_info().and_then(History::of);
    let is_connections_own = find_in_chain::<h2::Error>(error).is_none_or(|cause| {
        cause.is_remote() && (cause.is_go_away() || cause.reason() == Some(h2::Reason::REFUSED_STREAM))
    });
    is_connections_own && history.is_some_and(|history| history.was_kept_at(asked) && history.is_unanswered())
}

fn find_in_chain<'e, T: std::error::Error + 'static>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e T> {
    let mut current = Some(error);
    while let Some(here) = current {
        if let Some(found) = here.downcast_ref::<T>() {
            return Some(found);
        }
        current = here.source();
    }
    None
}

/// The message of the last cause: the outer ones only say that something failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}
