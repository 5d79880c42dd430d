//! Reading a request body: bounded in size and time, without a copy where it arrives in one piece.

use std::time::Duration;

use actix_web::{
    http::header::{CONTENT_LENGTH, HeaderMap},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::{error::RelayError, settings::RelaySettings};

/// Reads the body.
///
/// # Errors
/// 413 when it is too large, 408 when it takes too long, 400 when it breaks off.
pub async fn read_body(
    payload: &mut Payload,
    headers: &HeaderMap,
    settings: &RelaySettings,
) -> Result<Bytes, RelayError> {
    let limit = settings.max_request_bytes;
    let announced: Option<usize> = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(RelayError::BodyTooLarge { limit_bytes: limit });
    }
    let timeout = Duration::from_millis(settings.request_body_timeout_ms);
    tokio::time::timeout(timeout, collect(payload, limit))
        .await
        .map_err(|_| RelayError::BodyTimeout)?
}

async fn collect(payload: &mut Payload, limit: usize) -> Result<Bytes, RelayError> {
    let Some(first) = payload.next().await else {
        return Ok(Bytes::new());
    };
    let first = first.map_err(|_| RelayError::BodyBroken)?;
    let Some(second) = payload.next().await else {
        return within(first, limit);
    };
    let mut body = BytesMut::from(first.as_ref());
    let mut next = Some(second);
    while let Some(chunk) = next {
        body.extend_from_slice(&chunk.map_err(|_| RelayError::BodyBroken)?);
        if body.len() > limit {
            return Err(RelayError::BodyTooLarge { limit_bytes: limit });
        }
        next = payload.next().await;
    }
    Ok(body.freeze())
}

fn within(body: Bytes, limit: usize) -> Result<Bytes, RelayError> {
    if body.len() > limit {
        Err(RelayError::BodyTooLarge { limit_bytes: limit })
    } else {
        Ok(body)
    }
}
