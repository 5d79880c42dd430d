//! What a request may cost at most (`quote`) and what it did cost (`charge`), exactly.
//!
//! Owns the shape of a price entry, the choice of the card in force, and the arithmetic from usage to money.
//! Prices are decimal strings and sums are exact fractions; there is one rounding, up, to a whole nano-USD, at the
//! very end. Nothing here reads a clock, a database or a socket, and nothing else can build a [`Charge`].

mod affordable;
mod bound;
mod calendar;
mod card;
mod charge;
mod circumstances;
mod decimal;
mod entry;
mod error;
mod exact;
mod frozen;
mod lattice;
mod lines;
mod multiplier;
mod quote;
mod rise;
mod select;
mod unit_lines;
mod validate;

pub use affordable::{MAX_OUTPUT_LIMIT, affordable_output_tokens};
pub use bound::{Modalities, ServiceTiers, UsageBound};
pub use calendar::{ClockMinute, Day, Weekday};
pub use card::{Card, CardKey};
pub use charge::{Charge, ChargeFlag, charge};
pub use circumstances::{Circumstances, PinnedRegion, SearchContext, ServiceTier};
pub use decimal::Decimal;
pub use entry::{BasePrice, ContextStep, PriceEntry, PriceEntryParts, Promotion, ScheduledCard, TimeOf, TimeWindow};
pub use error::{PricingError, Unpriced};
pub use frozen::{Candidates, FrozenPrice, PRICE_CHANGE_TOLERANCE_MS};
pub use lines::{PriceLine, price_lines};
pub use multiplier::{Multiplier, Multipliers};
pub use quote::{Quote, quote};
pub use rise::{Rise, named_once, rises};
