//! `GET /v1/key`: balance and limits, by the key alone.

use accounts::{BudgetPeriod, Caller};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use domain::{Amount, RequestId, clock::UnixMs};
use ledger::{BudgetClaim, reading};
use serde::Serialize;

use crate::{
    budgets::{key_claim, tenant_claim},
    caller::authenticate,
    error::RelayError,
    handlers::models::dialect_of,
    parts::Relay,
    reply::error_response,
};

#[derive(Serialize)]
struct KeyAnswer {
    object: &'static str,
    id: String,
    name: String,
    last4: String,
    tenant: String,
    balance: BalanceAnswer,
    budget: Option<BudgetAnswer>,
    tenant_budget: Option<BudgetAnswer>,
    requests_per_minute: Option<u32>,
    allowed_models: Option<Vec<String>>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct BalanceAnswer {
    available_usd: Amount,
    held_usd: Amount,
    debt_usd: Amount,
}

#[derive(Serialize)]
struct BudgetAnswer {
    limit_usd: Amount,
    used_usd: Amount,
    held_usd: Amount,
    period: &'static str,
    period_started_at: Option<String>,
}

/// What the key is, has and may.
pub async fn show_key(relay: Data<Relay>, request: HttpRequest) -> HttpResponse {
    let result = match authenticate(&relay.parts, request.headers()).await {
        Ok(caller) => describe(&relay, &caller).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error) => error_response(dialect_of(request.headers()), RequestId::generate(), &error),
    }
}

async fn describe(relay: &Relay, caller: &Caller) -> Result<KeyAnswer, RelayError> {
    let connection = relay.parts.database.readers();
    let unreadable = |error| {
        tracing::error!(%error, "a balance could not be read");
        RelayError::Unavailable
    };
    let balance = reading::balance(connection, caller.scope.tenant())
        .await
        .map_err(unreadable)?
        .unwrap_or_default();
    let now = relay.parts.ledger.clock().now();
    let own = caller
        .limits
        .budget
        .map(|budget| budget.period)
        .zip(key_claim(caller, now));
    let shared = caller
        .tenant_budget
        .map(|budget| budget.period)
        .zip(tenant_claim(caller, now));
    let keys: Vec<_> = own.iter().chain(&shared).map(|(_, claim)| claim.key).collect();
    let states = reading::budgets(connection, &keys).await.map_err(unreadable)?;
    let shown = |(period, claim): (BudgetPeriod, BudgetClaim)| {
        let state = states.get(&claim.key).copied().unwrap_or_default();
        BudgetAnswer {
            limit_usd: claim.limit,
            used_usd: state.used,
            held_usd: state.held,
            period: period.as_str(),
            period_started_at: (claim.key.period_start.0 > 0).then(|| claim.key.period_start.to_rfc3339()),
        }
    };
    Ok(KeyAnswer {
        object: "key",
        id: caller.key.to_string(),
        name: caller.key_name.clone(),
        last4: caller.key_last4.clone(),
        tenant: caller.scope.tenant().to_string(),
        balance: BalanceAnswer {
            available_usd: balance.available,
            held_usd: balance.held,
            debt_usd: balance.debt,
        },
        budget: own.map(shown),
        tenant_budget: shared.map(shown),
        requests_per_minute: caller.limits.requests_per_minute,
        allowed_models: caller.limits.allowed_models.clone(),
        expires_at: caller.expires_at.map(UnixMs::to_rfc3339),
    })
}
