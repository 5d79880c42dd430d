//! The answer's bytes as they arrive.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::OutboundError;

/// The body of an answer. Dropping it before its end cancels the call: HTTP/1.1 closes the connection, HTTP/2 resets
/// the stream.
#[derive(Debug)]
pub struct UpstreamBody(Incoming);

impl UpstreamBody {
    pub(crate) const fn new(incoming: Incoming) -> Self {
        Self(incoming)
    }

    /// The next bytes, as soon as they are here; `None` at the end. Trailers are skipped.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, OutboundError>> {
        loop {
            match self.0.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(OutboundError::from_body(&error))),
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map(|frame| frame.map(|result| result.map_err(|error| OutboundError::from_body(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
