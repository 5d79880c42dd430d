//! The record of a request: as it begins, and what is told of it when it has ended.

use accounts::Caller;
use domain::{
    RequestId,
    clock::UnixMs,
    request::{Reason, RequestRecord},
    usage::{Usage, UsageSource},
};
use llm::ChatRequest;

use crate::admission::Plan;

/// The record of a request that has just been admitted.
pub fn new_record(
    id: RequestId,
    caller: &Caller,
    request: &ChatRequest,
    model: &str,
    plan: &Plan,
    admitted_at: UnixMs,
) -> RequestRecord {
    RequestRecord {
        id,
        tenant: caller.scope.tenant(),
        key: caller.key,
        dialect: request.dialect(),
        requested_model: request.model().to_owned(),
        model: model.to_owned(),
        served_model: None,
        provider: None,
        pool: None,
        offer: None,
        price_version: plan.price_version,
        multiplier: String::new(),
        stream: request.stream(),
        status: 0,
        reason: Reason::InternalError,
        usage: Usage::default(),
        usage_source: UsageSource::None,
        flags: Vec::new(),
        lines: Vec::new(),
        held: plan.quote.amount(),
        started_at: admitted_at,
        first_byte_ms: None,
        duration_ms: 0,
        attempts: Vec::new(),
        priced_by: None,
        request_sha256: None,
        response_sha256: None,
        budgets: plan.budget_keys(),
    }
}

/// One line per request that did not simply succeed, and the metrics of all.
pub(super) fn report(record: &RequestRecord) {
    metrics::counter!(
        "truerelay_requests_total",
        "dialect" => record.dialect.as_str(),
        "reason" => record.reason.as_str(),
    )
    .increment(1);
    if record.reason == Reason::Completed {
        tracing::debug!(request_id = %record.id, duration_ms = record.duration_ms, "request completed");
        return;
    }
    tracing::info!(
        request_id = %record.id,
        tenant = %record.tenant,
        key = %record.key,
        model = %record.model,
        provider = record.provider.as_deref(),
        reason = %record.reason,
        status = record.status,
        attempts = record.attempts.len(),
        duration_ms = record.duration_ms,
        "request ended"
    );
}
