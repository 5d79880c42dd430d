//! Non-negative exact decimals: the form in which every price is written.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{PricingError, excerpt};

/// Decimal places that a price may have.
const PLACES: usize = 12;
/// One, in the units that a [`Decimal`] counts.
pub(super) const UNITS_PER_ONE: u128 = 10_u128.pow(12);
/// The largest price, in the units that a [`Decimal`] counts.
pub(super) const MAX_UNITS: u128 = 1_000_000_000 * UNITS_PER_ONE;

/// A price: an exact decimal from 0 to 1,000,000,000 with at most twelve decimal places. JSON form: a string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(u128);

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Whether this is exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The value in steps of 1e-12. At most 1e21.
    pub(super) const fn units(self) -> u128 {
        self.0
    }
}

impl FromStr for Decimal {
    type Err = PricingError;

    fn from_str(text: &str) -> Result<Self, PricingError> {
        parse_fixed(text, PLACES)
            .filter(|units| *units <= MAX_UNITS)
            .map(Self)
            .ok_or_else(|| PricingError::InvalidDecimal {
                text: excerpt(text),
                expected: "a price: write a plain decimal number such as \"2.5\", at most 1000000000, with at most \
                           twelve decimal places",
            })
    }
}

impl fmt::Display for Decimal {
    /// The canonical form: no exponent, no sign, no trailing zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FixedText::of(self.0, PLACES).as_str())
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(FixedText::of(self.0, PLACES).as_str())
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads `digits[.digits]` as a whole number of steps of `10^-places`. `None` for anything else, for more decimal
/// places than that (trailing zeros aside), and for numbers of more than 24 whole digits.
pub(super) fn parse_fixed(text: &str, places: usize) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || whole.len() > 24 {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = places.checked_sub(fraction.len())?;
    let push = |value: u128, digit: u8| value.checked_mul(10)?.checked_add(u128::from(digit - b'0'));
    let digits = whole
        .bytes()
        .chain(fraction.bytes())
        .chain(std::iter::repeat_n(b'0', missing));
    digits.into_iter().try_fold(0_u128, push)
}

/// Room for 39 digits and a point.
const TEXT_BYTES: usize = 40;

/// A number of steps of `10^-places` in canonical form, written without the formatting machinery: every request has a
/// dozen of them.
pub(super) struct FixedText {
    bytes: [u8; TEXT_BYTES],
    start: usize,
}

impl FixedText {
    /// At most 20 places.
    pub fn of(units: u128, places: usize) -> Self {
        let mut text = Self {
            bytes: [b'0'; TEXT_BYTES],
            start: TEXT_BYTES,
        };
        let one = 10_u128.pow(u32::try_from(places).unwrap_or(0));
        let (mut whole, mut fraction) = (units / one, units % one);
        if fraction > 0 {
            let mut kept = places;
            while fraction.is_multiple_of(10) {
                fraction /= 10;
                kept -= 1;
            }
            (0..kept).for_each(|_| text.push_front(&mut fraction));
            text.start -= 1;
            text.bytes[text.start] = b'.';
        }
        text.push_front(&mut whole);
        while whole > 0 {
            text.push_front(&mut whole);
        }
        text
    }

    /// Takes the last digit of a number and puts it before what is written.
    fn push_front(&mut self, number: &mut u128) {
        self.start -= 1;
        self.bytes[self.start] = b"0123456789"[(*number % 10) as usize];
        *number /= 10;
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_plain_decimals_and_writes_the_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("2.50", "2.5"),
            ("0.003625", "0.003625"),
            ("007", "7"),
            ("1000000000", "1000000000"),
        ] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), canonical);
        }
        assert_eq!("0.000000000001".parse::<Decimal>().unwrap().units(), 1);
        assert_eq!("0.0000000000010000".parse::<Decimal>().unwrap().units(), 1);
    }

    #[test]
    fn refuses_what_is_not_a_plain_bounded_decimal() {
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            " 1",
            "1,5",
            "1.2.3",
            "NaN",
            "１",
            "0.0000000000001",
            "1000000000.1",
        ] {
            assert!(bad.parse::<Decimal>().is_err(), "{bad}");
        }
        assert!("9".repeat(10_000).parse::<Decimal>().is_err());
        assert!(
            serde_json::from_str::<Decimal>("2.5").is_err(),
            "a JSON number would have been a float"
        );
    }

    proptest! {
        #[test]
        fn text_form_is_exact(units in 0..=MAX_UNITS) {
            let decimal = Decimal(units);
            prop_assert_eq!(decimal.to_string().parse::<Decimal>().unwrap(), decimal);
            let json = serde_json::to_string(&decimal).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decimal>(&json).unwrap(), decimal);
        }

        #[test]
        fn is_written_as_the_formatting_machinery_would(units in any::<u128>(), places in 0..=20_usize) {
            let digits = format!("{units:0>width$}", width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let text = FixedText::of(units, places);
            prop_assert_eq!(text.as_str(), format!("{whole}{point}{fraction}"));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = text.parse::<Decimal>();
        }
    }
}
