//! Rows of the books as they are read. Whoever asks for them alone has them by the names of their columns; several
//! tables that are read in one message share columns, so that a row has them by their places.

use domain::{Amount, KeyId, LotId, RequestId, TenantId, clock::UnixMs, request::Reason};
use sea_orm::{ColIdx, QueryResult, TryGetable};
use smallvec::SmallVec;
use store::StoreError;

use crate::{
    chart::LotKind,
    items::{BudgetKey, ChargeRow, ChargeState, OpenHold},
    rules::{Balance, Budget, Lot},
};

const HOLD_NAMES: [&str; 8] = [
    "request_id",
    "tenant_id",
    "key_id",
    "amount",
    "price_version",
    "provider_estimate",
    "budgets_json",
    "provider",
];
const CHARGE_NAMES: [&str; 12] = [
    "request_id",
    "tenant_id",
    "key_id",
    "tx_id",
    "held",
    "amount",
    "overrun",
    "provider_cost",
    "unbilled",
    "price_version",
    "state",
    "reason",
];

/// One row of `hold`, by the names of its columns.
pub fn read_hold(row: &QueryResult) -> Result<OpenHold, StoreError> {
    read_hold_at(row, HOLD_NAMES)
}

/// One row of `charge`, by the names of its columns.
pub fn read_charge(row: &QueryResult) -> Result<ChargeRow, StoreError> {
    read_charge_at(row, CHARGE_NAMES)
}

/// The request that a row is about.
pub fn request(row: &QueryResult) -> Result<RequestId, StoreError> {
    Ok(RequestId::from_uuid(get(row, "request_id")?))
}

/// One row of `hold`, in the order of its columns here.
pub fn read_hold_at<I: ColIdx + Copy>(row: &QueryResult, columns: [I; 8]) -> Result<OpenHold, StoreError> {
    let [request, tenant, key, held, price_version, estimate, budgets, provider] = columns;
    Ok(OpenHold {
        request: RequestId::from_uuid(get(row, request)?),
        tenant: TenantId::from_uuid(get(row, tenant)?),
        key: KeyId::from_uuid(get(row, key)?),
        amount: amount(row, held)?,
        budgets: budget_keys(row, budgets)?,
        price_version: get(row, price_version)?,
        provider: get(row, provider)?,
        provider_estimate: amount(row, estimate)?,
    })
}

/// One row of `charge`, in the order of its columns here.
pub fn read_charge_at<I: ColIdx + Copy>(row: &QueryResult, columns: [I; 12]) -> Result<ChargeRow, StoreError> {
    let [
        request,
        tenant,
        key,
        transaction,
        held,
        charged,
        overrun,
        cost,
        unbilled,
        price_version,
        state,
        reason,
    ] = columns;
    let (state, reason): (String, String) = (get(row, state)?, get(row, reason)?);
    Ok(ChargeRow {
        request: RequestId::from_uuid(get(row, request)?),
        tenant: TenantId::from_uuid(get(row, tenant)?),
        key: KeyId::from_uuid(get(row, key)?),
        state: ChargeState::parse(&state).ok_or_else(|| StoreError::damaged("charge.state"))?,
        reason: reason
            .parse::<Reason>()
            .map_err(|_| StoreError::damaged("charge.reason"))?,
        held: amount(row, held)?,
        amount: amount(row, charged)?,
        overrun: amount(row, overrun)?,
        provider_cost: amount(row, cost)?,
        unbilled: amount(row, unbilled)?,
        price_version: get(row, price_version)?,
        transaction: get(row, transaction)?,
    })
}

/// One row of `acct`: the tenant, then `available`, `held` and `debt`.
pub fn read_balance_at(row: &QueryResult, columns: [usize; 4]) -> Result<(TenantId, Balance), StoreError> {
    let [tenant, available, held, debt] = columns;
    let balance = Balance {
        available: amount(row, available)?,
        held: amount(row, held)?,
        debt: amount(row, debt)?,
    };
    Ok((TenantId::from_uuid(get(row, tenant)?), balance))
}

/// One row of `budget`: scope and start of the period, then `limit_amount`, `used` and `held`.
pub fn read_budget_at(row: &QueryResult, columns: [usize; 5]) -> Result<(BudgetKey, Budget), StoreError> {
    let [scope, period_start, limit, used, held] = columns;
    let key = BudgetKey {
        scope: get(row, scope)?,
        period_start: UnixMs(get(row, period_start)?),
    };
    let budget = Budget {
        limit: amount(row, limit)?,
        used: amount(row, used)?,
        held: amount(row, held)?,
    };
    Ok((key, budget))
}

/// One row of `lot`: its id, the tenant, what remains, when it expires, its kind.
pub fn read_lot_at(row: &QueryResult, columns: [usize; 5]) -> Result<(TenantId, Lot), StoreError> {
    let [id, tenant, remaining, expires_at, kind] = columns;
    let kind: String = get(row, kind)?;
    let expires_at: Option<i64> = get(row, expires_at)?;
    let lot = Lot {
        id: LotId::from_uuid(get(row, id)?),
        kind: LotKind::parse(&kind).ok_or_else(|| StoreError::damaged("lot.kind"))?,
        remaining: amount(row, remaining)?,
        expires_at: expires_at.map(UnixMs),
    };
    Ok((TenantId::from_uuid(get(row, tenant)?), lot))
}

/// The budgets that a hold names.
pub fn budget_keys<I: ColIdx>(row: &QueryResult, column: I) -> Result<SmallVec<[BudgetKey; 1]>, StoreError> {
    let text: String = get(row, column)?;
    if text == NO_BUDGETS {
        return Ok(SmallVec::new());
    }
    serde_json::from_str::<Vec<BudgetKey>>(&text)
        .map(SmallVec::from_vec)
        .map_err(|_| StoreError::damaged("hold.budgets_json"))
}

/// The text for no budgets at all.
pub const NO_BUDGETS: &str = "[]";

fn get<T: TryGetable, I: ColIdx>(row: &QueryResult, column: I) -> Result<T, StoreError> {
    Ok(row.try_get_by(column)?)
}

fn amount<I: ColIdx>(row: &QueryResult, column: I) -> Result<Amount, StoreError> {
    Ok(Amount::from_nanos(get(row, column)?))
}
