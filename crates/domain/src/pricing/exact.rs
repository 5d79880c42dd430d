//! Fractions of 256-bit integers: the one rounding, and their exact text.

use ethnum::U256;

use super::error::PricingError;
use crate::Amount;

/// The product of four factors, or an overflow.
pub(super) fn product(factors: [u128; 4]) -> Result<U256, PricingError> {
    factors
        .into_iter()
        .try_fold(U256::ONE, |product, factor| product.checked_mul(U256::from(factor)))
        .ok_or(PricingError::Overflow)
}

/// The sum, or an overflow.
pub(super) fn sum(left: U256, right: U256) -> Result<U256, PricingError> {
    left.checked_add(right).ok_or(PricingError::Overflow)
}

/// The fraction rounded up to a whole nano-USD. The only rounding in pricing.
pub(super) fn round_up(numerator: U256, denominator: U256) -> Result<Amount, PricingError> {
    let whole = numerator.checked_div(denominator).ok_or(PricingError::Overflow)?;
    let up = if whole * denominator == numerator {
        whole
    } else {
        whole + 1
    };
    i64::try_from(up)
        .map(Amount::from_nanos)
        .map_err(|_| PricingError::Overflow)
}

/// The greatest common divisor; that of zero and `n` is `n`.
pub(super) fn gcd(mut left: U256, mut right: U256) -> U256 {
    while right != U256::ZERO {
        (left, right) = (right, left % right);
    }
    left
}

/// The fraction as text: a plain decimal where it ends, `numerator/denominator` in lowest terms where it does not.
///
/// The denominator must be positive and below 2^252, as all denominators in pricing are.
pub(super) fn text(numerator: U256, denominator: U256) -> String {
    let common = gcd(numerator, denominator).max(U256::ONE);
    let (numerator, denominator) = (numerator / common, denominator / common);
    if !ends_in_decimals(denominator) {
        return format!("{numerator}/{denominator}");
    }
    let mut text = (numerator / denominator).to_string();
    let mut rest = numerator % denominator;
    if rest != U256::ZERO {
        text.push('.');
    }
    while rest != U256::ZERO {
        rest *= 10;
        text.push_str(&(rest / denominator).to_string());
        rest %= denominator;
    }
    text
}

/// Whether a fraction in lowest terms with this denominator has finitely many decimal places.
fn ends_in_decimals(denominator: U256) -> bool {
    let mut rest = denominator;
    for prime in [U256::new(2), U256::new(5)] {
        while rest > U256::ONE && rest % prime == U256::ZERO {
            rest /= prime;
        }
    }
    rest <= U256::ONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_once_and_only_what_is_not_whole() {
        let round = |a: u128, b: u128| round_up(U256::new(a), U256::new(b)).map(Amount::nanos);
        assert_eq!(round(0, 7), Ok(0));
        assert_eq!(round(1, 1_000_000), Ok(1));
        assert_eq!(round(14, 7), Ok(2));
        assert_eq!(round(15, 7), Ok(3));
        assert_eq!(round(i64::MAX.unsigned_abs().into(), 1), Ok(i64::MAX));
        assert_eq!(
            round(u128::from(i64::MAX.unsigned_abs()) + 1, 1),
            Err(PricingError::Overflow)
        );
        assert_eq!(round(1, 0), Err(PricingError::Overflow));
    }

    #[test]
    fn writes_decimals_where_they_end_and_fractions_where_they_do_not() {
        let show = |a: u128, b: u128| text(U256::new(a), U256::new(b));
        assert_eq!(show(0, 9), "0");
        assert_eq!(show(10, 4), "2.5");
        assert_eq!(show(1, 1_000), "0.001");
        assert_eq!(show(1_572_500, 3), "1572500/3");
        assert_eq!(show(6, 3), "2");
    }
}
