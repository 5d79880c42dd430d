//! Who calls: one credential per request, checked by its checksum before anything is looked up.

use std::sync::Arc;

use accounts::{CachedLookup, Caller, KeyState, PlainKey};
use actix_web::http::header::{AUTHORIZATION, HeaderMap};

use crate::{error::RelayError, parts::RelayParts};

const API_KEY: &str = "x-api-key";

/// Authenticates the request.
///
/// # Errors
/// 401 without a valid key (the same answer for malformed, unknown and revoked), 400 for two, 403 for a key that is
/// known and may not be used.
pub async fn authenticate(parts: &RelayParts, headers: &HeaderMap) -> Result<Arc<Caller>, RelayError> {
    let presented = presented_key(headers)?;
    let key = PlainKey::parse(presented).map_err(|_| RelayError::InvalidKey)?;
    let hash = key.hash(&parts.pepper);
    let lookup = match parts.callers.lookup(&hash) {
        Some(lookup) => lookup,
        None => parts.callers.resolve(&parts.database, hash).await.map_err(|error| {
            tracing::error!(%error, "a virtual key could not be looked up");
            RelayError::Unavailable
        })?,
    };
    let CachedLookup::Known(known) = lookup else {
        return Err(RelayError::InvalidKey);
    };
    known.admit(parts.ledger.clock().now()).map_err(|state| match state {
        KeyState::Revoked | KeyState::Active => RelayError::InvalidKey,
        state => RelayError::KeyNotUsable(state),
    })
}

/// The one credential of the request. More than one is refused: which of them would be limited and charged?
fn presented_key(headers: &HeaderMap) -> Result<&str, RelayError> {
    let bearer = headers.get_all(AUTHORIZATION).map(|value| {
        let text = value.to_str().map_err(|_| RelayError::InvalidKey)?;
        let (scheme, token) = text.split_once(' ').ok_or(RelayError::InvalidKey)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(token.trim())
        } else {
            Err(RelayError::InvalidKey)
        }
    });
    let api_key = headers
        .get_all(API_KEY)
        .map(|value| value.to_str().map(str::trim).map_err(|_| RelayError::InvalidKey));
    let mut presented = bearer.chain(api_key);
    let first = presented.next().ok_or(RelayError::MissingKey)?;
    if presented.next().is_some() {
        return Err(RelayError::TwoCredentials);
    }
    first
}
