//! One request from its bytes to its answer. Read it from top to bottom: each step is cheaper than the next, and
//! money comes after all refusals that are free.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use accounts::Caller;
use actix_web::{HttpResponse, http::header::HeaderMap};
use bytes::Bytes;
use catalog::{ModelEntry, Snapshot};
use domain::{
    RequestId,
    request::{Dialect, Reason},
};
use llm::{ChatRequest, StreamObserver, StreamOptions, UsageLimits};
use rate_limiter::Decision;

use crate::{
    admission::{self, Plan},
    answer,
    dispatch::{Dispatch, Won},
    error::RelayError,
    exchange::{Begin, Exchange},
    gate::Pass,
    parts::Relay,
    sending::{NotSent, send_covered},
    settlement::{Opening, Settlement, new_record},
    whole_answer::{Reading, WholeAnswer},
};

/// What the client sent.
pub struct Incoming<'a> {
    /// The id that the request has from the start.
    pub id: RequestId,
    /// Who calls.
    pub caller: Arc<Caller>,
    /// The dialect of the route.
    pub dialect: Dialect,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, as it came.
    pub body: Bytes,
    /// The place behind the gate.
    pub pass: Pass,
}

/// Relays one request.
///
/// # Errors
/// [`RelayError`] when nothing was relayed; then nothing is charged.
pub async fn relay(relay: &Relay, incoming: Incoming<'_>) -> Result<HttpResponse, RelayError> {
    let started = Instant::now();
    let parts = &relay.parts;
    let deadline = started + parts.settings.total_timeout();
    let request = Arc::new(ChatRequest::parse(incoming.dialect, incoming.body)?);
    permitted_model(&parts.catalog.snapshot(), &incoming.caller, request.model())?;
    check_rate(relay, &incoming.caller).await?;

    let admitted_at = parts.ledger.clock().now();
    let caller = &incoming.caller;
    // the catalog of the moment of admission, not of the moment before a wait for the limiter
    let snapshot = parts
        .catalog
        .confirmed_snapshot(admitted_at)
        .ok_or(RelayError::PricesUnconfirmed)?;
    let model = permitted_model(&snapshot, caller, request.model())?;
    let candidates = admission::candidates(&snapshot, model, incoming.dialect, &caller.tier, admitted_at)?;
    let plan = admission::plan(parts, caller, model, &request, candidates, admitted_at).await?;

    let reservation = parts
        .ledger
        .reserve(plan.hold_request(incoming.id, caller))
        .map_err(|error| plan.refused(&request, caller, error))?;
    let mut settlement = Settlement::open(Opening {
        parts: Arc::clone(parts),
        reservation,
        pass: incoming.pass,
        record: new_record(incoming.id, caller, &request, &model.id, &plan, admitted_at),
        limits: plan.usage_limits(),
        tier: caller.tier.clone(),
        request: Arc::clone(&request),
        started,
    });

    let dispatch = Dispatch {
        relay,
        request: &request,
        plan: &plan,
        client_headers: incoming.headers,
        model: &model.id,
        deadline,
    };
    let hold_timeout = Duration::from_millis(parts.settings.hold_timeout_ms);
    let won = match send_covered(&mut settlement, &dispatch, hold_timeout).await {
        Ok(won) => won,
        Err(NotSent::Lost(lost)) => {
            settlement.void(lost.reason, lost.error.status());
            return Err(lost.error);
        }
        Err(NotSent::Uncovered(error)) => {
            let refused = plan.refused(&request, caller, error);
            settlement.refused(refused_reason(&refused), refused.status());
            return Err(refused);
        }
    };
    let facts = answer::Facts::of(incoming.id, &won, &plan, &model.id);
    if request.stream() {
        Ok(stream(relay, &request, won, settlement, &plan, deadline, &facts))
    } else {
        whole(relay, won, settlement, plan.usage_limits(), deadline, &facts).await
    }
}

fn permitted_model<'s>(snapshot: &'s Snapshot, caller: &Caller, name: &str) -> Result<&'s Arc<ModelEntry>, RelayError> {
    let model = snapshot
        .model(name)
        .ok_or_else(|| RelayError::UnknownModel(shown(name)))?;
    if caller.may_use(&model.id, &model.aliases) {
        Ok(model)
    } else {
        Err(RelayError::ModelNotAllowed(shown(name)))
    }
}

/// A client's own text in a message of ours is kept short.
fn shown(name: &str) -> String {
    name.chars().take(200).collect()
}

async fn check_rate(relay: &Relay, caller: &Caller) -> Result<(), RelayError> {
    let Some(limit) = caller.limits.requests_per_minute else {
        return Ok(());
    };
    match relay.parts.limiter.check(caller.key, limit).await {
        Decision::Allowed { .. } => Ok(()),
        Decision::Refused { retry_after_ms } => Err(RelayError::RateLimited { retry_after_ms }),
    }
}

/// What the metrics say of a request whose credit was not reserved; the ledger has written its own row.
const fn refused_reason(error: &RelayError) -> Reason {
    match error {
        RelayError::InsufficientCredit(_) | RelayError::Debt(_) => Reason::InsufficientCredit,
        RelayError::BudgetExceeded { .. } => Reason::BudgetExceeded,
        RelayError::Unavailable | RelayError::Overloaded => Reason::LedgerUnavailable,
        _ => Reason::InternalError,
    }
}

fn stream(
    relay: &Relay,
    request: &ChatRequest,
    won: Won,
    settlement: Settlement,
    plan: &Plan,
    deadline: Instant,
    facts: &answer::Facts,
) -> HttpResponse {
    let settings = &relay.parts.settings;
    let profile = &won.candidate.profile;
    let observer = StreamObserver::new(StreamOptions {
        strip_usage_chunk: !request.client_wants_usage(),
        choices: request.choices(),
        max_event_bytes: settings.max_event_bytes,
        limits: plan.usage_limits(),
        ..StreamOptions::new(request.dialect(), profile.usage_profile)
    });
    let mut head = facts.head(won.begun.status, answer::EVENT_STREAM);
    let exchange = Exchange::begin(Begin {
        first: won.begun.first,
        body: won.begun.body,
        observer,
        settlement,
        cancel: profile.cancel,
        pool: Arc::clone(&won.candidate.offer.pool),
        idle: settings.idle_timeout(),
        stall: settings.write_stall_timeout(),
        deadline,
        background: relay.parts.background.clone(),
        dialect: request.dialect(),
        request_id: facts.request_id(),
    });
    head.streaming(exchange.into_stream())
}

async fn whole(
    relay: &Relay,
    won: Won,
    settlement: Settlement,
    limits: UsageLimits,
    deadline: Instant,
    facts: &answer::Facts,
) -> Result<HttpResponse, RelayError> {
    let reading = Reading {
        first: won.begun.first,
        body: won.begun.body,
        settlement,
        dialect: won.candidate.profile.dialect,
        usage_profile: won.candidate.profile.usage_profile,
        limits,
        max_bytes: relay.parts.settings.max_answer_bytes,
        deadline,
    };
    let read = WholeAnswer::new(reading, relay.parts.background.clone())
        .read()
        .await
        .ok_or(RelayError::Internal)?;
    answer::check_whole(&read)?;
    let mut head = facts.head(won.begun.status, answer::JSON);
    facts.add_cost(&mut head, read.cost);
    Ok(head.body(read.bytes))
}
