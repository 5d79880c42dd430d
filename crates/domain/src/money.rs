//! Amounts in nano-USD. Whole numbers only; a float never touches money.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of money in nano-USD (1e-9 USD). Arithmetic is checked: it answers `None` rather than wrap.
///
/// Its text and JSON form is a decimal string in USD (`"4.99"`), exact to nine places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i64);

/// The text is not an amount in USD with at most nine decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an amount in USD: write a decimal number with at most nine decimal places, such as \"5.00\"")]
pub struct InvalidAmount;

const NANOS_PER_USD: i64 = 1_000_000_000;

impl Amount {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The largest amount that can be expressed, about 9.2 billion USD.
    pub const MAX: Self = Self(i64::MAX);

    /// From nano-USD.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole USD. Saturates beyond 9.2 billion.
    pub const fn from_usd(usd: i64) -> Self {
        Self(usd.saturating_mul(NANOS_PER_USD))
    }

    /// In nano-USD.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The sum, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `self - other`, never below zero.
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }

    /// Whether this is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether this is exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum of many, or `None` on overflow.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts
            .into_iter()
            .try_fold(Self::ZERO, |total, amount| total.checked_add(amount))
    }
}

/// Room for the text of any amount: a sign, ten digits, a point, nine places.
const TEXT_BYTES: usize = 24;

impl Amount {
    /// The text form, written without the formatting machinery: every request has several.
    fn text(self, bytes: &mut [u8; TEXT_BYTES]) -> &str {
        let magnitude = self.0.unsigned_abs();
        let nanos_per_usd = NANOS_PER_USD.unsigned_abs();
        let (mut whole, mut fraction, mut places) = (magnitude / nanos_per_usd, magnitude % nanos_per_usd, 9);
        while places > 2 && fraction.is_multiple_of(10) {
            fraction /= 10;
            places -= 1;
        }
        let mut start = TEXT_BYTES;
        let mut push = |character: u8| {
            start -= 1;
            bytes[start] = character;
        };
        for _ in 0..places {
            push(digit(&mut fraction));
        }
        push(b'.');
        push(digit(&mut whole));
        while whole > 0 {
            push(digit(&mut whole));
        }
        if self.is_negative() {
            push(b'-');
        }
        std::str::from_utf8(&bytes[start..]).unwrap_or_default()
    }
}

/// Takes the last digit of a number.
const fn digit(number: &mut u64) -> u8 {
    let digit = b"0123456789"[(*number % 10) as usize];
    *number /= 10;
    digit
}

impl fmt::Display for Amount {
    /// USD with at least two and at most nine decimal places, no more than are needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; TEXT_BYTES]))
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
            return Err(InvalidAmount);
        }
        let nanos: i128 = format!("{whole}{fraction:0<9}").parse().map_err(|_| InvalidAmount)?;
        let signed = if negative { -nanos } else { nanos };
        i64::try_from(signed).map(Self).map_err(|_| InvalidAmount)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text(&mut [0; TEXT_BYTES]))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_usd() {
        assert_eq!("5".parse(), Ok(Amount::from_usd(5)));
        assert_eq!("0.000000001".parse(), Ok(Amount::from_nanos(1)));
        for (nanos, text) in [
            (-1_500_000_000, "-1.50"),
            (0, "0.00"),
            (10_000_000, "0.01"),
            (-1, "-0.000000001"),
            (1_230_000_000, "1.23"),
            (i64::MIN, "-9223372036.854775808"),
        ] {
            assert_eq!(Amount::from_nanos(nanos).to_string(), text);
        }
        for bad in ["", ".", "1.", "1e3", "+1", "--1", "1.0000000001", "99999999999", "１"] {
            assert_eq!(bad.parse::<Amount>(), Err(InvalidAmount), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_form_is_exact(nanos in any::<i64>()) {
            let amount = Amount::from_nanos(nanos);
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }
    }
}
