//! How values look in JSON: money as decimal strings in USD, instants as RFC 3339 text, and `null` told from absent.

use domain::{Amount, clock::UnixMs};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// An amount in USD, as a decimal string with at most nine places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "5.00", pattern = r"^-?[0-9]+(\.[0-9]{1,9})?$")]
pub(crate) struct Usd(pub Amount);

/// An instant, as RFC 3339 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-21T12:00:00Z")]
pub(crate) struct Instant(pub UnixMs);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        UnixMs::from_rfc3339(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom("write an instant as RFC 3339 text such as \"2026-11-21T12:00:00Z\""))
    }
}

/// Reads a field that may be `null`: absent is `None` (through `#[serde(default)]`), `null` is `Some(None)`.
pub(crate) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Declares the JSON form of an enumeration that another crate owns. A variant that is added there does not compile
/// until it is added here.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident = $source:ty { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl From<$source> for $name {
            fn from(source: $source) -> Self {
                match source {
                    $(<$source>::$variant => Self::$variant),+
                }
            }
        }

        impl From<$name> for $source {
            fn from(wire: $name) -> Self {
                match wire {
                    $($name::$variant => Self::$variant),+
                }
            }
        }
    };
}
pub(crate) use wire_enum;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Patch {
        #[serde(default, deserialize_with = "nullable")]
        at: Option<Option<Instant>>,
    }

    #[test]
    fn tells_null_from_absent() {
        let read = |json: &str| serde_json::from_str::<Patch>(json).map(|patch| patch.at);
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read(r#"{"at":null}"#).unwrap(), Some(None));
        assert_eq!(
            read(r#"{"at":"1970-01-01T00:00:01Z"}"#).unwrap(),
            Some(Some(Instant(UnixMs(1_000))))
        );
        assert!(read(r#"{"at":1000}"#).is_err());
        assert!(read(r#"{"at":"yesterday"}"#).is_err());
    }

    #[test]
    fn money_and_instants_are_text() {
        assert_eq!(serde_json::to_string(&Usd(Amount::from_usd(5))).unwrap(), r#""5.00""#);
        assert_eq!(
            serde_json::to_string(&Instant(UnixMs(0))).unwrap(),
            r#""1970-01-01T00:00:00Z""#
        );
    }
}
