//! `GET /v1/key`: balance and limits, by the key alone.

use accounts::{Caller, period_start};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use domain::{Amount, RequestId, clock::UnixMs};
use ledger::{BudgetKey, reading};
use serde::Serialize;

use crate::{
    caller::authenticate, error::RelayError, handlers::models::dialect_of, parts::Relay, reply::error_response,
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
    let budget = match &caller.limits.budget {
        None => None,
        Some(budget) => {
            let start = period_start(budget.period, relay.parts.ledger.clock().now());
            let key = BudgetKey {
                scope: caller.key.as_uuid(),
                period_start: start,
            };
            let state = reading::budget(connection, key)
                .await
                .map_err(unreadable)?
                .unwrap_or_default();
            Some(BudgetAnswer {
                limit_usd: budget.limit,
                used_usd: state.used,
                held_usd: state.held,
                period: budget.period.as_str(),
                period_started_at: (start.0 > 0).then(|| start.to_rfc3339()),
            })
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
        budget,
        requests_per_minute: caller.limits.requests_per_minute,
        allowed_models: caller.limits.allowed_models.clone(),
        expires_at: caller.expires_at.map(UnixMs::to_rfc3339),
    })
}
