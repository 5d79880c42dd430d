//! PURE: the rows that a hold and its end become.

use domain::Amount;
use uuid::Uuid;

use crate::items::{ChargeRow, ChargeState, Closing, End, HoldRequest, OpenHold, ProviderCost, Refusal};

/// The row of a hold that was accepted.
pub fn open_hold(request: &HoldRequest) -> OpenHold {
    OpenHold {
        request: request.request,
        tenant: request.tenant,
        key: request.key,
        amount: request.amount,
        budgets: request.budgets.iter().map(|claim| claim.key).collect(),
        price_version: request.price_version,
        provider: request.provider.clone(),
        provider_estimate: request.provider_estimate,
    }
}

/// The terminal row of a hold: the customer pays what was wanted, as far as the hold goes. `transaction` names the one
/// that moves the credit, if any is moved.
pub fn closed_row(hold: &OpenHold, closing: &Closing, transaction: impl FnOnce() -> Uuid) -> ChargeRow {
    let (state, wanted, provider_cost, price_version) = match &closing.end {
        End::Settle(settled) => (
            ChargeState::Settled,
            settled.amount(),
            settled.provider_cost().amount,
            settled.price_version().unwrap_or(hold.price_version),
        ),
        End::Void => (ChargeState::Voided, Amount::ZERO, Amount::ZERO, hold.price_version),
    };
    let amount = wanted.min(hold.amount);
    let overrun = wanted.less(amount);
    ChargeRow {
        request: closing.request,
        tenant: hold.tenant,
        key: hold.key,
        state,
        reason: closing.reason,
        held: hold.amount,
        amount,
        overrun,
        provider_cost,
        unbilled: sum_of(&closing.unbilled),
        price_version,
        transaction: (!wanted.is_zero()).then(transaction),
    }
}

/// The terminal row of a hold that was refused.
pub fn refused_row(request: &HoldRequest, refusal: &Refusal) -> ChargeRow {
    ChargeRow {
        request: request.request,
        tenant: request.tenant,
        key: request.key,
        state: ChargeState::Refused,
        reason: refusal.reason(),
        held: Amount::ZERO,
        amount: Amount::ZERO,
        overrun: Amount::ZERO,
        provider_cost: Amount::ZERO,
        unbilled: Amount::ZERO,
        price_version: request.price_version,
        transaction: None,
    }
}

/// The terminal row of a request whose hold was withdrawn before it was written: nothing is charged.
pub fn withdrawn_row(closing: &Closing) -> ChargeRow {
    ChargeRow {
        state: ChargeState::Refused,
        ..orphan_row(closing)
    }
}

/// The terminal row of a request that was closed without a hold: nothing is charged.
pub fn orphan_row(closing: &Closing) -> ChargeRow {
    ChargeRow {
        request: closing.request,
        tenant: closing.tenant,
        key: closing.key,
        state: ChargeState::Voided,
        reason: closing.reason,
        held: Amount::ZERO,
        amount: Amount::ZERO,
        overrun: Amount::ZERO,
        provider_cost: Amount::ZERO,
        unbilled: Amount::ZERO,
        price_version: 0,
        transaction: None,
    }
}

fn sum_of(costs: &[ProviderCost]) -> Amount {
    Amount::checked_sum(costs.iter().map(|cost| cost.amount)).unwrap_or(Amount::MAX)
}
