//! `GET /v1/requests/{id}`: what a request cost, and why.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use domain::{
    Amount, IncidentId, RequestId,
    pricing::Multipliers,
    request::{ChargeLine, RequestRecord},
    scope::TenantScope,
    usage::{Usage, UsageSource},
};
use ledger::{
    corrections::CorrectionKind,
    reading::{self, ClosedCharge, CorrectionView},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    caller::authenticate, error::RelayError, handlers::models::dialect_of, parts::Relay, reply::error_response,
};

#[derive(Serialize)]
struct RequestAnswer {
    object: &'static str,
    id: RequestId,
    /// `open`, `settled`, `voided` or `refused`.
    state: &'static str,
    reason: Option<&'static str>,
    explanation: Option<&'static str>,
    held_usd: Amount,
    cost_usd: Option<Amount>,
    /// What was given back of the cost, or beside it, since: in order.
    corrections: Vec<CorrectionAnswer>,
    /// What is left of the cost after the corrections.
    net_cost_usd: Option<Amount>,
    closed_at: Option<String>,
    price_version: Option<i64>,
    /// The incidents that concern it: `GET /v1/incidents/{id}`.
    incidents: Vec<IncidentId>,
    #[serde(flatten)]
    story: Option<Story>,
}

/// Something that was given after the charge.
#[derive(Serialize)]
struct CorrectionAnswer {
    /// `true_up` or `refund` (both lower the cost), or `goodwill`.
    kind: CorrectionKind,
    amount_usd: Amount,
    explanation: &'static str,
    /// Its ledger transaction, which the transparency log states.
    transaction: Uuid,
    at: String,
}

impl From<CorrectionView> for CorrectionAnswer {
    fn from(made: CorrectionView) -> Self {
        Self {
            kind: made.kind,
            amount_usd: made.amount,
            explanation: made.kind.explanation(),
            transaction: made.transaction,
            at: made.at.to_rfc3339(),
        }
    }
}

/// What the request log adds to the charge.
#[derive(Serialize)]
struct Story {
    dialect: &'static str,
    requested_model: String,
    model: String,
    served_model: Option<String>,
    provider: Option<String>,
    stream: bool,
    status: u16,
    usage: Usage,
    usage_source: UsageSource,
    flags: Vec<String>,
    lines: Vec<ChargeLine>,
    multiplier: String,
    /// The factors one by one, where the record has them.
    multipliers: Option<Multipliers>,
    /// The customer's tier when the request was admitted; `null` without one.
    tier: Option<String>,
    started_at: String,
    first_byte_ms: Option<u32>,
    duration_ms: u32,
    attempts: Vec<AttemptAnswer>,
}

#[derive(Serialize)]
struct AttemptAnswer {
    provider: String,
    status: Option<u16>,
    outcome: String,
    elapsed_ms: u32,
}

/// What the request cost, and why.
pub async fn show_request(relay: Data<Relay>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let result = match authenticate(&relay.parts, request.headers()).await {
        Ok(caller) => find(&relay, caller.scope, &id).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error) => error_response(dialect_of(request.headers()), RequestId::generate(), &error),
    }
}

async fn find(relay: &Relay, scope: TenantScope, id: &str) -> Result<RequestAnswer, RelayError> {
    let id: RequestId = id.parse().map_err(|_| RelayError::UnknownRequest)?;
    let connection = relay.parts.database.readers();
    let unreadable = |error| {
        tracing::error!(%error, "a request could not be read");
        RelayError::Unavailable
    };
    if let Some(charge) = reading::charge(connection, scope, id).await.map_err(unreadable)? {
        let record = request_log::find(connection, scope, id).await.map_err(unreadable)?;
        let incidents = incidents::of_request(connection, scope, id).await;
        let incidents = incidents.map_err(|error| {
            tracing::error!(%error, "the incidents of a request could not be read");
            RelayError::Unavailable
        })?;
        let corrections = reading::corrections(connection, scope, id).await.map_err(unreadable)?;
        return Ok(closed(id, &charge, corrections, incidents, record));
    }
    // its end may have been written between the two readings; then it is found by asking again
    let held = reading::open_hold(connection, scope, id).await.map_err(unreadable)?;
    held.map(|held| open(id, held)).ok_or(RelayError::UnknownRequest)
}

const fn open(id: RequestId, held: Amount) -> RequestAnswer {
    RequestAnswer {
        object: "request",
        id,
        state: "open",
        reason: None,
        explanation: None,
        held_usd: held,
        cost_usd: None,
        corrections: Vec::new(),
        net_cost_usd: None,
        closed_at: None,
        price_version: None,
        incidents: Vec::new(),
        story: None,
    }
}

fn closed(
    id: RequestId,
    charge: &ClosedCharge,
    corrections: Vec<CorrectionView>,
    incidents: Vec<IncidentId>,
    record: Option<RequestRecord>,
) -> RequestAnswer {
    RequestAnswer {
        object: "request",
        id,
        state: charge.row.state.as_str(),
        reason: Some(charge.row.reason.as_str()),
        explanation: Some(charge.row.reason.explanation()),
        held_usd: charge.row.held,
        cost_usd: Some(charge.row.amount),
        net_cost_usd: Some(CorrectionView::net_charge(charge.row.amount, &corrections)),
        corrections: corrections.into_iter().map(CorrectionAnswer::from).collect(),
        closed_at: Some(charge.closed_at.to_rfc3339()),
        price_version: Some(charge.row.price_version),
        incidents,
        story: record.map(story),
    }
}

fn story(record: RequestRecord) -> Story {
    Story {
        dialect: record.dialect.as_str(),
        requested_model: record.requested_model,
        model: record.model,
        served_model: record.served_model,
        provider: record.provider,
        stream: record.stream,
        status: record.status,
        usage: record.usage,
        usage_source: record.usage_source,
        flags: record.flags,
        lines: record.lines,
        multiplier: record.multiplier,
        multipliers: record.priced_by.as_ref().map(|by| by.multipliers),
        tier: record.priced_by.map(|by| by.tier).filter(|tier| !tier.is_empty()),
        started_at: record.started_at.to_rfc3339(),
        first_byte_ms: record.first_byte_ms,
        duration_ms: record.duration_ms,
        attempts: record
            .attempts
            .into_iter()
            .map(|attempt| AttemptAnswer {
                provider: attempt.provider,
                status: attempt.status,
                outcome: attempt.outcome,
                elapsed_ms: attempt.elapsed_ms,
            })
            .collect(),
    }
}
