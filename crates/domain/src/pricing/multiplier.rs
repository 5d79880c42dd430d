//! Factors on list prices: a pool's, a customer tier's, a promotion's, a region's, the batch discount.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    decimal::{FixedText, parse_fixed},
    error::{PricingError, excerpt},
};

/// Decimal places that a multiplier may have.
const PLACES: usize = 6;
/// One, in the units that a [`Multiplier`] counts.
pub(super) const MICROS_PER_ONE: u64 = 1_000_000;
/// One to the third power, in the units of [`Multipliers::micros`].
pub(super) const MICROS_PER_ONE_CUBED: u128 = 10_u128.pow(18);

/// An exact factor from 0 to 1000 with at most six decimal places. JSON form: a string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(u64);

impl Multiplier {
    /// Changes nothing.
    pub const ONE: Self = Self(MICROS_PER_ONE);
    /// Makes everything free.
    pub const ZERO: Self = Self(0);
    /// The largest factor, 1000.
    pub const MAX: Self = Self(1000 * MICROS_PER_ONE);

    /// The factor in millionths. At most 1e9.
    pub(super) const fn micros(self) -> u64 {
        self.0
    }
}

impl Default for Multiplier {
    fn default() -> Self {
        Self::ONE
    }
}

impl FromStr for Multiplier {
    type Err = PricingError;

    fn from_str(text: &str) -> Result<Self, PricingError> {
        parse_fixed(text, PLACES)
            .and_then(|micros| u64::try_from(micros).ok())
            .map(Self)
            .filter(|multiplier| *multiplier <= Self::MAX)
            .ok_or_else(|| PricingError::InvalidDecimal {
                text: excerpt(text),
                expected: "a multiplier: write a plain decimal number such as \"1.25\", at most 1000, with at most \
                           six decimal places",
            })
    }
}

impl fmt::Display for Multiplier {
    /// The canonical form: no exponent, no sign, no trailing zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FixedText::of(u128::from(self.0), PLACES).as_str())
    }
}

impl fmt::Debug for Multiplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Multiplier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(FixedText::of(u128::from(self.0), PLACES).as_str())
    }
}

impl<'de> Deserialize<'de> for Multiplier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The factors between list price and customer price, applied to everything in the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multipliers {
    /// The pool's, or its override for the model.
    pub pool: Multiplier,
    /// The customer tier's.
    pub tier: Multiplier,
    /// A promotion's.
    pub promotion: Multiplier,
}

impl Multipliers {
    /// The list price itself.
    pub const ONE: Self = Self {
        pool: Multiplier::ONE,
        tier: Multiplier::ONE,
        promotion: Multiplier::ONE,
    };

    /// The product as a canonical decimal string, exact.
    pub fn product(&self) -> String {
        FixedText::of(self.micros(), 3 * PLACES).as_str().to_owned()
    }

    /// The product in steps of 1e-18. At most 1e27.
    pub(super) fn micros(&self) -> u128 {
        u128::from(self.pool.0) * u128::from(self.tier.0) * u128::from(self.promotion.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_exact() {
        for good in ["0", "1", "1.7", "0.000001", "1000"] {
            assert_eq!(good.parse::<Multiplier>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "-1",
            "1000.000001",
            "0.0000001",
            "1e2",
            "x",
            "99999999999999999999999999",
        ] {
            assert!(bad.parse::<Multiplier>().is_err(), "{bad}");
        }
    }

    #[test]
    fn product_is_exact_to_the_last_place() {
        let smallest: Multiplier = "0.000001".parse().unwrap();
        let all = |one| Multipliers {
            pool: one,
            tier: one,
            promotion: one,
        };
        assert_eq!(all(smallest).product(), "0.000000000000000001");
        assert_eq!(all(Multiplier::MAX).product(), "1000000000");
        assert_eq!(Multipliers::ONE.product(), "1");
        assert_eq!(
            Multipliers {
                pool: "1.7".parse().unwrap(),
                ..all("0.6".parse().unwrap())
            }
            .product(),
            "0.612"
        );
    }
}
