//! What a finished request costs. The only place that makes a [`Charge`].

use std::sync::Arc;

use ethnum::U256;

use super::{
    circumstances::Circumstances,
    entry::PriceEntry,
    error::PricingError,
    exact::{self, product, round_up, sum},
    frozen::FrozenPrice,
    multiplier::{MICROS_PER_ONE, MICROS_PER_ONE_CUBED, Multiplier, Multipliers},
    select::{RatedCard, Selection},
    unit_lines::{DENOMINATOR, Line, Variant, unit_lines},
};
use crate::{
    Amount,
    request::ChargeLine,
    usage::{TokenClass, Usage},
};

/// Something about a charge that a reader of the receipt should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChargeFlag {
    /// The request was admitted within a second of a price change, and the cheaper price was applied.
    CheaperOfTwoPrices,
    /// The provider reported web searches that have no price: the customer pays nothing for them.
    UnpricedWebSearches,
}

impl ChargeFlag {
    /// The stable code, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheaperOfTwoPrices => "cheaper_of_two_prices",
            Self::UnpricedWebSearches => "unpriced_web_searches",
        }
    }
}

/// The exact cost of one request. Only pricing makes one; it stands for no usage that has not been priced.
#[derive(Debug, Clone)]
pub struct Charge {
    amount: Amount,
    list_cost: Amount,
    provider_cost: Amount,
    version: i64,
    multipliers: Multipliers,
    total: U256,
    lines: Vec<Line>,
    flags: Vec<ChargeFlag>,
    card: Option<(Arc<PriceEntry>, Selection)>,
}

impl Charge {
    /// The charge of a request that costs nothing, whatever it used: refused, failed, void.
    pub const fn nothing(version: i64) -> Self {
        Self {
            amount: Amount::ZERO,
            list_cost: Amount::ZERO,
            provider_cost: Amount::ZERO,
            version,
            multipliers: Multipliers::ONE,
            total: U256::ZERO,
            lines: Vec::new(),
            flags: Vec::new(),
            card: None,
        }
    }

    /// What the customer pays: the exact total, rounded up to a whole nano-USD.
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// The list price of what was used: the same lines without multipliers, rounded up.
    pub const fn list_cost(&self) -> Amount {
        self.list_cost
    }

    /// What the operator owes the provider: the same lines times what the pool's cost is relative to list price,
    /// rounded up.
    pub const fn provider_cost(&self) -> Amount {
        self.provider_cost
    }

    /// The version of the price book that was applied.
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// The factors that were applied.
    pub const fn multipliers(&self) -> Multipliers {
        self.multipliers
    }

    /// The product of the multipliers, as an exact decimal string.
    pub fn multiplier(&self) -> String {
        self.multipliers.product()
    }

    /// The lines, exact, before multipliers.
    pub fn lines(&self) -> Vec<ChargeLine> {
        let line = |line: &Line| ChargeLine {
            class: line.class.to_owned(),
            quantity: line.quantity,
            price_key: line.price_key.to_owned(),
            nano_usd_exact: exact::text(line.numerator, self.denominator()),
        };
        self.lines.iter().map(line).collect()
    }

    /// The sum of the lines in nano-USD, as a decimal string or a fraction `a/b`.
    pub fn subtotal_nano_usd_exact(&self) -> String {
        exact::text(self.total, self.denominator())
    }

    /// The sum of the lines times the multipliers in nano-USD, before the rounding, as a decimal string or `a/b`.
    pub fn total_nano_usd_exact(&self) -> String {
        // neither product overflows: the amount could not have been computed
        let numerator = self.total * U256::from(self.multipliers.micros());
        exact::text(numerator, self.denominator() * U256::from(MICROS_PER_ONE_CUBED))
    }

    /// The parts of the price entry that made the card: `base`, `window 06:00-10:00`, `above 200000`, ...
    pub fn card(&self) -> Vec<String> {
        self.card
            .as_ref()
            .map(|(entry, selection)| selection.names(entry))
            .unwrap_or_default()
    }

    /// Things worth knowing.
    pub fn flags(&self) -> &[ChargeFlag] {
        &self.flags
    }

    /// The exact amount of one class, or of all, as a fraction in nano-USD; `None` beyond 256 bits.
    pub(super) fn exact_of(&self, class: Option<&str>) -> Option<(U256, U256)> {
        let lines = self
            .lines
            .iter()
            .filter(|line| class.is_none_or(|class| line.class == class));
        let total = lines.fold(U256::ZERO, |total, line| total + line.numerator);
        let numerator = total.checked_mul(U256::from(self.multipliers.micros()))?;
        Some((
            numerator,
            self.denominator().checked_mul(U256::from(MICROS_PER_ONE_CUBED))?,
        ))
    }

    fn denominator(&self) -> U256 {
        denominator(self.card.as_ref().map_or(1, |(entry, _)| entry.lattice()))
    }
}

/// What amounts of an entry with this lattice are counted in: nano-USD divided by the answer.
pub(super) fn denominator(lattice: u64) -> U256 {
    U256::from(DENOMINATOR) * U256::from(lattice)
}

/// What a finished request costs, exactly. Of several candidates the one that charges least counts.
///
/// # Errors
/// When no candidate can price the usage: [`PricingError::Unpriced`] when a class that was used has no price after its
/// fallbacks; `Overflow` beyond 9.2 billion USD; `NoPrice` without candidates.
pub fn charge(
    candidates: &[FrozenPrice],
    usage: &Usage,
    circumstances: &Circumstances,
) -> Result<Charge, PricingError> {
    let mut charges = candidates.iter().map(|price| charge_at(price, usage, circumstances));
    let mut cheapest = charges.next().ok_or(PricingError::NoPrice)?;
    let mut amounts_differ = false;
    for other in charges {
        let (Ok(best), Ok(found)) = (&cheapest, &other) else {
            cheapest = cheapest.or(other);
            continue;
        };
        amounts_differ |= found.amount != best.amount;
        if found.amount < best.amount {
            cheapest = other;
        }
    }
    let mut cheapest = cheapest?;
    if amounts_differ {
        cheapest.flags.push(ChargeFlag::CheaperOfTwoPrices);
    }
    Ok(cheapest)
}

pub(super) fn charge_at(price: &FrozenPrice, usage: &Usage, met: &Circumstances) -> Result<Charge, PricingError> {
    let entry = &*price.entry;
    let total_input = usage.total_input_tokens();
    let selection = Selection::choose(
        entry,
        price.admitted_at,
        met.completed_at,
        total_input,
        met.service_tier,
    );
    let card = RatedCard::of(entry, selection)?;
    let scale = scale(entry, met);
    let mut lines = Vec::with_capacity(6);
    let mut total = U256::ZERO;
    let mut push = |line: Line| {
        total = sum(total, line.numerator)?;
        lines.push(line);
        Ok(())
    };
    token_lines(entry, &card, usage, met.thinking, scale, &mut push)?;
    unit_lines(entry, &usage.units, &Variant::Met(met), scale, &mut push)?;
    let Amounts {
        amount,
        list_cost,
        provider_cost,
    } = amounts(total, price)?;
    let base = entry.price();
    let searched_for_free =
        usage.units.web_searches > 0 && base.web_search_per_1k.is_none() && base.per_request.is_none();
    Ok(Charge {
        amount,
        list_cost,
        provider_cost,
        version: price.version,
        multipliers: price.multipliers,
        total,
        lines,
        flags: searched_for_free
            .then_some(ChargeFlag::UnpricedWebSearches)
            .into_iter()
            .collect(),
        card: Some((Arc::clone(&price.entry), selection)),
    })
}

/// What a sum of lines comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amounts {
    /// The customer's.
    pub amount: Amount,
    /// At list price.
    pub list_cost: Amount,
    /// The operator's, to the provider.
    pub provider_cost: Amount,
}

/// Each is rounded up once, from the exact sum.
pub(super) fn amounts(total: U256, price: &FrozenPrice) -> Result<Amounts, PricingError> {
    let denominator = denominator(price.entry.lattice());
    let list_cost = round_up(total, denominator)?;
    let times = |micros: u128, one: u128| {
        if micros == one {
            return Ok(list_cost);
        }
        let numerator = total.checked_mul(U256::from(micros)).ok_or(PricingError::Overflow)?;
        round_up(numerator, denominator * U256::from(one))
    };
    Ok(Amounts {
        amount: times(price.multipliers.micros(), MICROS_PER_ONE_CUBED)?,
        list_cost,
        provider_cost: times(price.cost.micros().into(), MICROS_PER_ONE.into())?,
    })
}

/// The batch and the region factor together, in steps of 1e-12.
fn scale(entry: &PriceEntry, met: &Circumstances) -> u128 {
    let batch = if met.batch {
        entry.price().batch_multiplier
    } else {
        None
    };
    let region = met
        .region
        .and_then(|region| entry.parts().region_multipliers.get(&region))
        .copied();
    let micros = |factor: Option<Multiplier>| u128::from(factor.map_or(MICROS_PER_ONE, Multiplier::micros));
    micros(batch) * micros(region)
}

fn token_lines(
    entry: &PriceEntry,
    card: &RatedCard,
    usage: &Usage,
    thinking: bool,
    scale: u128,
    push: &mut impl FnMut(Line) -> Result<(), PricingError>,
) -> Result<(), PricingError> {
    let inputs = TokenClass::ALL.into_iter().filter(|class| class.is_input());
    let outputs = TokenClass::ALL.into_iter().filter(|class| !class.is_input());
    for class in inputs.chain(outputs) {
        let quantity = usage.tokens(class);
        if quantity == 0 {
            continue;
        }
        let Some((unit, key)) = card.price(class, thinking) else {
            // rerank by search units: the units pay for the tokens
            if class == TokenClass::Input && entry.price().per_search_unit.is_some() {
                continue;
            }
            return Err(PricingError::tokens(class));
        };
        let numerator = product([quantity.into(), unit, scale, 1])?;
        push(Line {
            class: class.as_str(),
            quantity,
            price_key: key.as_str(),
            numerator,
        })?;
    }
    Ok(())
}
