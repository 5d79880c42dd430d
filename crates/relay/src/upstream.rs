//! One attempt: the request as the upstream gets it, and its answer's head and first bytes.

use std::time::{Duration, Instant};

use actix_web::http::header::HeaderMap as ClientHeaders;
use bytes::{Bytes, BytesMut};
use catalog::CredentialEntry;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use llm::{ChatRequest, UpstreamFault, providers::classify};
use outbound::{AddressPolicy, OutboundError, UpstreamBody, UpstreamClient, Via};

use crate::admission::Candidate;

/// The most of an error body that is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an attempt came to nothing.
#[derive(Debug)]
pub enum AttemptFailure {
    /// No connection, or it broke before a head came.
    Unreachable(OutboundError),
    /// No head in time.
    NoHead,
    /// The upstream answered with an error.
    Refused {
        /// Its status.
        status: u16,
        /// What it means.
        fault: UpstreamFault,
        /// Its body, for what the client is told.
        body: Bytes,
    },
    /// A 2xx head, and then nothing, or an end.
    NothingCame {
        /// Its status.
        status: u16,
    },
    /// A 2xx head, and a body that cannot be relayed as what was asked for.
    Unsuitable {
        /// Its status.
        status: u16,
        /// What is wrong with it: `compressed`, `not_a_stream`.
        what: &'static str,
    },
}

/// An answer that has begun.
pub struct Begun {
    /// The upstream's status.
    pub status: u16,
    /// The first bytes of the body.
    pub first: Bytes,
    /// The rest of the body.
    pub body: UpstreamBody,
}

/// What one attempt is made of.
pub struct Attempt<'a> {
    /// The worker's connections.
    pub client: &'a UpstreamClient,
    /// Which offer.
    pub candidate: &'a Candidate,
    /// Which credential.
    pub credential: &'a CredentialEntry,
    /// Over which connection.
    pub via: Via,
    /// The client's headers, of which few are forwarded.
    pub client_headers: &'a ClientHeaders,
    /// When the wait for a head ends.
    pub head_deadline: Instant,
    /// When the wait for the first bytes ends.
    pub first_deadline: Instant,
}

impl Attempt<'_> {
    /// Sends the body and waits for a 2xx head.
    pub async fn send(&self, body: Bytes) -> Result<Response<UpstreamBody>, AttemptFailure> {
        let request = self.request(body).map_err(AttemptFailure::Unreachable)?;
        let policy = if self.candidate.offer.provider.allow_private_address {
            AddressPolicy::AllowPrivate
        } else {
            AddressPolicy::PublicOnly
        };
        let sent =
            tokio::time::timeout_at(self.head_deadline.into(), self.client.send(policy, self.via, request)).await;
        let response = sent
            .map_err(|_| AttemptFailure::NoHead)?
            .map_err(AttemptFailure::Unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.read_refusal(response).await)
    }

    /// Waits for the first bytes: until they are here, another offer may still answer.
    pub async fn begin(&self, response: Response<UpstreamBody>, stream: bool) -> Result<Begun, AttemptFailure> {
        let status = response.status().as_u16();
        let (head, mut body) = response.into_parts();
        if is_compressed(&head.headers) {
            return Err(AttemptFailure::Unsuitable {
                status,
                what: "compressed",
            });
        }
        let declared_stream = declares_stream(&head.headers);
        loop {
            match tokio::time::timeout_at(self.first_deadline.into(), body.next_chunk()).await {
                Ok(Some(Ok(first))) if first.is_empty() => {}
                Ok(Some(Ok(first))) => {
                    if stream && !declared_stream && !looks_like_stream(&first) {
                        return Err(AttemptFailure::Unsuitable {
                            status,
                            what: "not_a_stream",
                        });
                    }
                    return Ok(Begun { status, first, body });
                }
                Ok(Some(Err(_)) | None) => return Err(AttemptFailure::NothingCame { status }),
                Err(_) => return Err(AttemptFailure::NoHead),
            }
        }
    }

    /// The request, with no header that the upstream need not have: no cookie, no customer credential, no address.
    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, OutboundError> {
        let provider = &self.candidate.offer.provider;
        let profile = &self.candidate.profile;
        let unusable = |what: &str| OutboundError::InvalidUrl(what.to_owned());
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("truerelay/", env!("CARGO_PKG_VERSION"))),
        );
        for name in profile.forwarded_headers() {
            for value in self.client_headers.get_all(*name) {
                let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unusable("a forwarded header"))?;
                headers.append(HeaderName::from_static(name), value);
            }
        }
        for (name, value) in profile.default_headers() {
            if !self.client_headers.contains_key(*name) {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        }
        let secret = profile.auth.header_value(&self.credential.secret);
        let mut value =
            HeaderValue::from_str(secret.expose()).map_err(|_| unusable("the credential is not a header value"))?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_static(profile.auth.header_name()), value);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::try_from(profile.endpoint(provider.base_url.as_str()))
            .map_err(|_| unusable("the provider's base URL"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn read_refusal(&self, response: Response<UpstreamBody>) -> AttemptFailure {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let body = tokio::time::timeout(ERROR_BODY_TIMEOUT, read_some(body))
            .await
            .unwrap_or_default();
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let fault = classify(
            self.candidate.profile.dialect,
            status,
            text("retry-after"),
            text("retry-after-ms"),
            &body,
        );
        AttemptFailure::Refused { status, fault, body }
    }
}

/// Some compress although they were told not to; nothing here reads that.
fn is_compressed(headers: &HeaderMap) -> bool {
    let coded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    headers.get_all(header::CONTENT_ENCODING).iter().any(coded)
}

fn declares_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Whether bytes without a declaration begin as events do: compatibles forget the header, but an error object or an
/// HTML page begins otherwise.
fn looks_like_stream(first: &[u8]) -> bool {
    let text = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first).trim_ascii_start();
    [&b"data:"[..], b"event:", b"id:", b"retry:", b":"]
        .iter()
        .any(|field| text.starts_with(field) || (!text.is_empty() && field.starts_with(text)))
}

async fn read_some(mut body: UpstreamBody) -> Bytes {
    let mut read = BytesMut::new();
    while let Some(Ok(chunk)) = body.next_chunk().await {
        let room = MAX_ERROR_BYTES.saturating_sub(read.len());
        read.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if read.len() >= MAX_ERROR_BYTES {
            break;
        }
    }
    read.freeze()
}

/// The body of a request as it is sent for an offer. Unchanged bytes are shared, not copied.
pub fn upstream_body(request: &ChatRequest, candidate: &Candidate, output_limit: Option<u64>) -> Bytes {
    request.rewrite(&candidate.offer.upstream_model_id, output_limit, candidate.profile.wire)
}

impl AttemptFailure {
    /// The code in the request log.
    pub fn code(&self) -> String {
        match self {
            Self::Unreachable(error) => error.code().to_owned(),
            Self::NoHead => "first_byte_timeout".to_owned(),
            Self::Refused { status, .. } => format!("status_{status}"),
            Self::NothingCame { .. } => "nothing_came".to_owned(),
            Self::Unsuitable { what, .. } => (*what).to_owned(),
        }
    }

    /// The upstream's status, where a head came.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::NothingCame { status } | Self::Unsuitable { status, .. } => {
                Some(*status)
            }
            Self::Unreachable(_) | Self::NoHead => None,
        }
    }

    /// Whether it was only a connection from before that had died, so that a new one may well do.
    pub const fn is_dead_kept_connection(&self) -> bool {
        matches!(self, Self::Unreachable(OutboundError::KeptConnectionDied(_)))
    }

    /// Whether the provider may bill the prompt all the same.
    pub const fn may_be_billed(&self) -> bool {
        match self {
            Self::Unreachable(error) => !error.is_before_send(),
            Self::NoHead | Self::NothingCame { .. } | Self::Unsuitable { .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_from_pages_and_objects() {
        for events in [
            "data: {}",
            ": ping",
            "event: x",
            "\u{feff}data:",
            "\r\n\ndata: 1",
            "da",
            "i",
        ] {
            assert!(looks_like_stream(events.as_bytes()), "{events}");
        }
        for other in ["{\"error\":{}}", "<html>", "[1]", "database", "\u{1f}\u{8b}", ""] {
            assert!(!looks_like_stream(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_declared_stream_and_a_compressed_body_are_seen() {
        let headers = |name, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        assert!(declares_stream(&headers(
            "content-type",
            "Text/Event-Stream; charset=utf-8"
        )));
        assert!(!declares_stream(&headers("content-type", "application/json")));
        assert!(is_compressed(&headers("content-encoding", "gzip")));
        assert!(!is_compressed(&headers("content-encoding", "identity")));
    }
}
