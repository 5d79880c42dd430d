//! Why a price could not be read, or a request not be priced.

use std::fmt;

use crate::usage::TokenClass;

/// What lacked a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpriced {
    /// A class of tokens, after all its fallbacks.
    Tokens(TokenClass),
    /// A quantity that is not counted in tokens, by its name.
    Units(&'static str),
}

impl fmt::Display for Unpriced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens(class) => class.as_str(),
            Self::Units(name) => name,
        })
    }
}

/// Pricing refused. Nothing is ever charged at zero for want of a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// The request uses, or may use, something that the entry does not price: refuse it before it is sent.
    #[error("no price for `{class}`: add it to the model's price entry, as \"0\" if it is meant to be free")]
    Unpriced {
        /// What lacked a price.
        class: Unpriced,
    },
    /// No price was given at all: the request has no offer that could serve it.
    #[error("no price to work with: give at least one offer with a frozen price")]
    NoPrice,
    /// The amount does not fit 64 bits of nano-USD, about 9.2 billion USD.
    #[error("the amount exceeds 9.2 billion USD: lower the token limit, the counts or the price")]
    Overflow,
    /// The text is not a decimal number within the bounds of its kind.
    #[error("`{text}` is not {expected}")]
    InvalidDecimal {
        /// What was given, cut to a readable length.
        text: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// The text is not a day or a time of day.
    #[error("`{text}` is not {expected}")]
    InvalidTime {
        /// What was given, cut to a readable length.
        text: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// The parts of a price entry contradict each other.
    #[error("invalid price entry: {problem}")]
    InvalidEntry {
        /// What is wrong and what to change.
        problem: String,
    },
}

impl PricingError {
    pub(super) fn tokens(class: TokenClass) -> Self {
        Self::Unpriced {
            class: Unpriced::Tokens(class),
        }
    }

    pub(super) const fn units(name: &'static str) -> Self {
        Self::Unpriced {
            class: Unpriced::Units(name),
        }
    }

    pub(super) fn entry(problem: impl Into<String>) -> Self {
        Self::InvalidEntry {
            problem: problem.into(),
        }
    }
}

/// The start of a text that came from outside, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(48).collect()
}
