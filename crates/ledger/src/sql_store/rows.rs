//! Rows of the books as they are read. Whoever asks for them alone has them by the names of their columns; several
//! tables that are read in one message share columns, so that a row has them by their places.

use domain::{Amount, KeyId, LotId, RequestId, TenantId, clock::UnixMs, request::Reason};
use sea_orm::QueryResult;
use smallvec::SmallVec;
use store::{
    StoreError,
    bulk::{Cells, FoundRow},
};

use crate::{
    chart::LotKind,
    claims::{Claim, Purpose},
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
    Ok(RequestId::from_uuid(row.uuid("request_id")?))
}

/// One row of `hold`, in the order of its columns here.
pub fn read_hold_at<R: Cells>(row: &R, columns: [R::Column; 8]) -> Result<OpenHold, StoreError> {
    let [request, tenant, key, held, price_version, estimate, budgets, provider] = columns;
    Ok(OpenHold {
        request: RequestId::from_uuid(row.uuid(request)?),
        tenant: TenantId::from_uuid(row.uuid(tenant)?),
        key: KeyId::from_uuid(row.uuid(key)?),
        amount: amount(row, held)?,
        budgets: budget_keys(row, budgets)?,
        price_version: row.number(price_version)?,
        provider: row.text(provider)?.into_owned(),
        provider_estimate: amount(row, estimate)?,
    })
}

/// One row of `charge`, in the order of its columns here.
pub fn read_charge_at<R: Cells>(row: &R, columns: [R::Column; 12]) -> Result<ChargeRow, StoreError> {
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
    let (state, reason) = (row.text(state)?, row.text(reason)?);
    Ok(ChargeRow {
        request: RequestId::from_uuid(row.uuid(request)?),
        tenant: TenantId::from_uuid(row.uuid(tenant)?),
        key: KeyId::from_uuid(row.uuid(key)?),
        state: ChargeState::parse(&state).ok_or_else(|| StoreError::damaged("charge.state"))?,
        reason: reason
            .parse::<Reason>()
            .map_err(|_| StoreError::damaged("charge.reason"))?,
        held: amount(row, held)?,
        amount: amount(row, charged)?,
        overrun: amount(row, overrun)?,
        provider_cost: amount(row, cost)?,
        unbilled: amount(row, unbilled)?,
        price_version: row.number(price_version)?,
        transaction: row.optional_uuid(transaction)?,
    })
}

/// One row of `claim`, by the names of its columns.
pub fn read_claim(row: &QueryResult) -> Result<Claim, StoreError> {
    read_claim_at(row, ["lot_id", "amount", "created_at_ms", "purpose", "reference"])
}

/// One row of `claim`: the lot, the amount, when it was made, the purpose, the reference.
pub fn read_claim_at<R: Cells>(row: &R, columns: [R::Column; 5]) -> Result<Claim, StoreError> {
    let [lot, claimed, created_at, purpose, reference] = columns;
    let purpose = row.text(purpose)?;
    Ok(Claim {
        lot: LotId::from_uuid(row.uuid(lot)?),
        purpose: Purpose::parse(&purpose).ok_or_else(|| StoreError::damaged("claim.purpose"))?,
        amount: amount(row, claimed)?,
        reference: row.text(reference)?.into_owned(),
        created_at: UnixMs(row.number(created_at)?),
    })
}

/// One row of `acct`: the tenant, then `available`, `held`, `debt` and `claimed`.
pub fn read_balance_at(row: &FoundRow, columns: [usize; 5]) -> Result<(TenantId, Balance), StoreError> {
    let [tenant, available, held, debt, claimed] = columns;
    let balance = Balance {
        available: amount(row, available)?,
        held: amount(row, held)?,
        debt: amount(row, debt)?,
        claimed: amount(row, claimed)?,
    };
    Ok((TenantId::from_uuid(row.uuid(tenant)?), balance))
}

/// One row of `budget`: scope and start of the period, then `limit_amount`, `used` and `held`.
pub fn read_budget_at(row: &FoundRow, columns: [usize; 5]) -> Result<(BudgetKey, Budget), StoreError> {
    let [scope, period_start, limit, used, held] = columns;
    let key = BudgetKey {
        scope: row.uuid(scope)?,
        period_start: UnixMs(row.number(period_start)?),
    };
    let budget = Budget {
        limit: amount(row, limit)?,
        used: amount(row, used)?,
        held: amount(row, held)?,
    };
    Ok((key, budget))
}

/// One row of `lot`: its id, the tenant, what remains, when it expires, its kind.
pub fn read_lot_at(row: &FoundRow, columns: [usize; 5]) -> Result<(TenantId, Lot), StoreError> {
    let [id, tenant, remaining, expires_at, kind] = columns;
    let kind = row.text(kind)?;
    let expires_at = row.optional_number(expires_at)?;
    let lot = Lot {
        id: LotId::from_uuid(row.uuid(id)?),
        kind: LotKind::parse(&kind).ok_or_else(|| StoreError::damaged("lot.kind"))?,
        remaining: amount(row, remaining)?,
        expires_at: expires_at.map(UnixMs),
    };
    Ok((TenantId::from_uuid(row.uuid(tenant)?), lot))
}

/// The budgets that a hold names.
pub fn budget_keys<R: Cells>(row: &R, column: R::Column) -> Result<SmallVec<[BudgetKey; 2]>, StoreError> {
    let text = row.text(column)?;
    if text == NO_BUDGETS {
        return Ok(SmallVec::new());
    }
    serde_json::from_str::<Vec<BudgetKey>>(&text)
        .map(SmallVec::from_vec)
        .map_err(|_| StoreError::damaged("hold.budgets_json"))
}

/// The text for no budgets at all.
pub const NO_BUDGETS: &str = "[]";

fn amount<R: Cells>(row: &R, column: R::Column) -> Result<Amount, StoreError> {
    Ok(Amount::from_nanos(row.number(column)?))
}
