//! Prefixed identifiers. A wrong kind of id does not compile, and a pasted id says what it is.
//!
//! The value is a UUIDv7, so ids sort by the time at which they were made.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::clock::UnixMs;

/// The text was not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id: expected `{expected}_` followed by 32 hexadecimal digits")]
pub struct InvalidId {
    /// The prefix that the kind of id carries.
    pub expected: &'static str,
}

/// Room for the text of any id.
const TEXT_BYTES: usize = 40;

/// The text form, written without the formatting machinery: every request has a dozen of them.
fn text<'b>(prefix: &str, id: Uuid, buffer: &'b mut [u8; TEXT_BYTES]) -> &'b str {
    let start = prefix.len() + 1;
    let length = start + uuid::fmt::Simple::LENGTH;
    buffer[..start - 1].copy_from_slice(prefix.as_bytes());
    buffer[start - 1] = b'_';
    id.as_simple().encode_lower(&mut buffer[start..length]);
    std::str::from_utf8(&buffer[..length]).unwrap_or_default()
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix in the text form.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the wall clock and randomness (UUIDv7, RFC 9562).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The least id of an instant: 48 bits of milliseconds come first in a UUIDv7.
            pub fn first_at(instant: UnixMs) -> Self {
                let millis = u128::try_from(instant.0.clamp(0, (1 << 48) - 1)).unwrap_or_default();
                Self(Uuid::from_u128(millis << 80))
            }

            /// When it was made, as it says itself.
            pub fn made_at(&self) -> UnixMs {
                UnixMs(i64::try_from(self.0.as_u128() >> 80).unwrap_or_default())
            }

            /// The id as stored in a database column.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }

            /// An id read back from a database column.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(text($prefix, self.0, &mut [0; TEXT_BYTES]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or(InvalidId { expected: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(text($prefix, self.0, &mut [0; TEXT_BYTES]))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

prefixed_id!(
    /// A customer organisation.
    TenantId, "ten");
prefixed_id!(
    /// A virtual key (the record, not the secret).
    KeyId, "key");
prefixed_id!(
    /// One relayed request; the idempotency key of its hold and its charge.
    RequestId, "req");
prefixed_id!(
    /// Credit from one payment or one grant.
    LotId, "lot");
prefixed_id!(
    /// An operator's grant of credit.
    GrantId, "grant");
prefixed_id!(
    /// An operator's withdrawal of credit from a lot, or the release of one.
    WithdrawalId, "wdr");
prefixed_id!(
    /// A company or service that runs models.
    ProviderId, "prov");
prefixed_id!(
    /// A set of credentials sold at one multiplier.
    PoolId, "pool");
prefixed_id!(
    /// One account with a provider.
    CredentialId, "cred");
prefixed_id!(
    /// A model served by a pool.
    OfferId, "offer");
prefixed_id!(
    /// An operator's access token (the record, not the secret).
    OperatorTokenId, "opt");
prefixed_id!(
    /// One installation of the server, kept in its data folder.
    NodeId, "node");
prefixed_id!(
    /// Something that went wrong for many.
    IncidentId, "inc");
prefixed_id!(
    /// What a provider billed for a period.
    StatementId, "stmt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_says_its_kind() {
        let id = TenantId::generate();
        assert_eq!(id.to_string().parse::<TenantId>(), Ok(id));
        assert!(id.to_string().starts_with("ten_"));
        assert_eq!(id.to_string().parse::<KeyId>(), Err(InvalidId { expected: "key" }));
        let json = serde_json::to_string(&id).expect("an id is a string");
        assert_eq!(serde_json::from_str::<TenantId>(&json).expect("round trip"), id);
        assert_eq!(json, format!("\"ten_{:032x}\"", id.as_uuid().as_u128()));
    }

    #[test]
    fn the_longest_prefix_has_room() {
        let longest = GrantId::PREFIX.len().max(OfferId::PREFIX.len()) + 1 + uuid::fmt::Simple::LENGTH;
        assert!(longest <= TEXT_BYTES);
        let id = GrantId::generate();
        assert_eq!(format!("{id:?}"), format!("grant_{}", id.as_uuid().simple()));
    }
}
