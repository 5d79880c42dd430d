//! The request log: what happened to every request, joined with what the ledger charged for it.

use std::collections::HashMap;

use actix_web::{get, web::Json};
use domain::{
    Amount, CredentialId, KeyId, OfferId, PoolId, RequestId, TenantId,
    pricing::Multipliers,
    request::{AttemptRecord, Reason, RequestRecord},
    usage::{Usage, UsageSource},
};
use ledger::{
    items::ChargeState,
    reading::{self, ClosedCharge, CorrectionView},
};
use request_log::Filter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::ReadOperator,
    corrections::RequestCorrection,
    error::{AdminError, Answer},
    input::{Params, PathId, parse_param},
    page::{Page, page_bounds},
    providers::WireFormat,
    wire::{Instant, Usd, wire_enum},
};

wire_enum! {
    /// How a request ended, which also decides its charge.
    RequestReason = Reason {
        Completed,
        CompletedUsageEstimated,
        ClientGone,
        ClientGoneBilledOn,
        ClientGoneBeforeHead,
        UpstreamCutOff,
        UpstreamNoOutput,
        UpstreamFailed,
        UpstreamRejected,
        ModelSubstituted,
        FilteredBeforeOutput,
        FilteredAfterOutput,
        TimeoutBeforeOutput,
        TimeoutAfterOutput,
        InsufficientCredit,
        BudgetExceeded,
        RelayCrashed,
        HoldExpired,
        LedgerUnavailable,
        InternalError,
    }
}

wire_enum! {
    /// The state in which a request ended.
    ChargeOutcome = ChargeState {
        /// Charged.
        Settled,
        /// Nothing charged.
        Voided,
        /// Never sent.
        Refused,
    }
}

wire_enum! {
    /// Who counted the usage.
    UsageCounter = UsageSource {
        /// The provider's own report.
        Provider,
        /// An estimate from the bytes that were relayed.
        Estimate,
        /// Nothing was used.
        None,
    }
}

/// One request: what the log and the ledger know of it.
#[derive(Serialize, ToSchema)]
struct Request {
    #[schema(value_type = String, example = "req_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: RequestId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    key: KeyId,
    reason: RequestReason,
    /// The reason in a sentence for the customer.
    explanation: String,
    /// What the ledger posted; `null` when it has posted nothing.
    #[schema(required)]
    charge: Option<RequestCharge>,
    /// What was given back or beside it since, in order.
    corrections: Vec<RequestCorrection>,
    /// What is left of the charge after the corrections; nothing without a charge.
    net_charge_usd: Usd,
    /// What happened; `null` for a request whose node stopped before it could tell.
    #[schema(required)]
    record: Option<RequestLogEntry>,
}

/// What the ledger posted for a request.
#[derive(Serialize, ToSchema)]
struct RequestCharge {
    state: ChargeOutcome,
    /// What had been reserved.
    held_usd: Usd,
    /// What the customer paid; never above the hold.
    amount_usd: Usd,
    /// What the request cost beyond its hold; the operator's.
    overrun_usd: Usd,
    /// What the provider bills for the winning attempt: list price times the pool's cost multiplier.
    provider_cost_usd: Usd,
    /// What the operator bears beside it.
    unbilled_usd: Usd,
    price_version: i64,
    /// The ledger transaction that moved the credit.
    #[schema(required)]
    transaction: Option<uuid::Uuid>,
    closed_at: Instant,
}

impl From<ClosedCharge> for RequestCharge {
    fn from(charge: ClosedCharge) -> Self {
        let ClosedCharge { row, closed_at } = charge;
        Self {
            state: row.state.into(),
            held_usd: Usd(row.held),
            amount_usd: Usd(row.amount),
            overrun_usd: Usd(row.overrun),
            provider_cost_usd: Usd(row.provider_cost),
            unbilled_usd: Usd(row.unbilled),
            price_version: row.price_version,
            transaction: row.transaction,
            closed_at: Instant(closed_at),
        }
    }
}

/// What happened to a request. It holds no prompt and no completion.
#[derive(Serialize, ToSchema)]
struct RequestLogEntry {
    /// The dialect of the client.
    dialect: WireFormat,
    /// The model name that the client sent.
    requested_model: String,
    /// The catalog's model id.
    model: String,
    /// The model that the upstream reported; `null` when it reported none.
    #[schema(required)]
    served_model: Option<String>,
    /// The provider's slug of the winning attempt.
    #[schema(required)]
    provider: Option<String>,
    /// The pool of the winning attempt.
    #[schema(value_type = Option<String>, required)]
    pool: Option<PoolId>,
    /// The offer of the winning attempt.
    #[schema(value_type = Option<String>, required)]
    offer: Option<OfferId>,
    price_version: i64,
    /// The multiplier product that was applied, as a decimal string.
    multiplier: String,
    /// The factors one by one: `pool`, `tier`, `promotion`; `null` without a charge and in old records.
    #[schema(value_type = Option<Object>, required)]
    multipliers: Option<Multipliers>,
    /// The customer's tier when the request was admitted; `null` without one.
    #[schema(required)]
    tier: Option<String>,
    /// Whether the client asked for a stream.
    stream: bool,
    /// The HTTP status that the client got.
    status: u16,
    /// Disjoint classes: `{"tokens": {"input": 12, ...}, "units": {...}}`.
    #[schema(value_type = Object)]
    usage: Usage,
    usage_source: UsageCounter,
    /// Things worth knowing: `usage_inconsistent`, `estimated`, `overrun`, ...
    flags: Vec<String>,
    /// The charge, line by line.
    lines: Vec<RequestChargeLine>,
    /// When the request was admitted.
    started_at: Instant,
    /// From admission to the first byte of the answer, in milliseconds.
    #[schema(required)]
    first_byte_ms: Option<u32>,
    /// From admission to the end, in milliseconds.
    duration_ms: u32,
    /// Every attempt, in order.
    attempts: Vec<RequestAttempt>,
}

/// A quantity of one class at one price, exact.
#[derive(Serialize, ToSchema)]
struct RequestChargeLine {
    /// The usage class.
    class: String,
    /// Tokens, images, seconds, searches: whole units of the class.
    quantity: u64,
    /// The price key that applied after fallbacks.
    price_key: String,
    /// Before multipliers, in nano-USD (1e-9 USD), as a decimal string or a fraction `a/b`.
    nano_usd_exact: String,
}

/// One try of a request against one credential.
#[derive(Serialize, ToSchema)]
struct RequestAttempt {
    #[schema(value_type = String)]
    offer: OfferId,
    #[schema(value_type = String)]
    pool: PoolId,
    #[schema(value_type = String)]
    credential: CredentialId,
    /// The provider's slug.
    provider: String,
    /// The upstream's HTTP status; `null` when no head arrived.
    #[schema(required)]
    status: Option<u16>,
    /// `won`, or a code such as `connect_failed`, `first_byte_timeout`, `status_429`.
    outcome: String,
    /// From dispatch to the head or to the failure, in milliseconds.
    elapsed_ms: u32,
}

impl From<AttemptRecord> for RequestAttempt {
    fn from(attempt: AttemptRecord) -> Self {
        Self {
            offer: attempt.offer,
            pool: attempt.pool,
            credential: attempt.credential,
            provider: attempt.provider,
            status: attempt.status,
            outcome: attempt.outcome,
            elapsed_ms: attempt.elapsed_ms,
        }
    }
}

impl From<RequestRecord> for RequestLogEntry {
    fn from(record: RequestRecord) -> Self {
        let line = |line: domain::request::ChargeLine| RequestChargeLine {
            class: line.class,
            quantity: line.quantity,
            price_key: line.price_key,
            nano_usd_exact: line.nano_usd_exact,
        };
        Self {
            dialect: record.dialect.into(),
            requested_model: record.requested_model,
            model: record.model,
            served_model: record.served_model,
            provider: record.provider,
            pool: record.pool,
            offer: record.offer,
            price_version: record.price_version,
            multiplier: record.multiplier,
            multipliers: record.priced_by.as_ref().map(|by| by.multipliers),
            tier: record.priced_by.map(|by| by.tier).filter(|tier| !tier.is_empty()),
            stream: record.stream,
            status: record.status,
            usage: record.usage,
            usage_source: record.usage_source.into(),
            flags: record.flags,
            lines: record.lines.into_iter().map(line).collect(),
            started_at: Instant(record.started_at),
            first_byte_ms: record.first_byte_ms,
            duration_ms: record.duration_ms,
            attempts: record.attempts.into_iter().map(RequestAttempt::from).collect(),
        }
    }
}

impl Request {
    fn of_record(record: RequestRecord, charge: Option<ClosedCharge>, corrections: Vec<CorrectionView>) -> Self {
        Self {
            id: record.id,
            tenant: record.tenant,
            key: record.key,
            reason: record.reason.into(),
            explanation: record.reason.explanation().to_owned(),
            net_charge_usd: net_charge(charge.as_ref(), &corrections),
            charge: charge.map(RequestCharge::from),
            corrections: corrections.into_iter().map(RequestCorrection::from).collect(),
            record: Some(record.into()),
        }
    }

    fn of_charge(charge: ClosedCharge, corrections: Vec<CorrectionView>) -> Self {
        Self {
            id: charge.row.request,
            tenant: charge.row.tenant,
            key: charge.row.key,
            reason: charge.row.reason.into(),
            explanation: charge.row.reason.explanation().to_owned(),
            net_charge_usd: net_charge(Some(&charge), &corrections),
            charge: Some(charge.into()),
            corrections: corrections.into_iter().map(RequestCorrection::from).collect(),
            record: None,
        }
    }
}

fn net_charge(charge: Option<&ClosedCharge>, corrections: &[CorrectionView]) -> Usd {
    let charged = charge.map_or(Amount::ZERO, |charge| charge.row.amount);
    Usd(CorrectionView::net_charge(charged, corrections))
}

/// Which requests to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RequestParams {
    /// Only those of a tenant.
    tenant: Option<String>,
    /// Only those with a key.
    key: Option<String>,
    /// Only those of a model, by its id.
    model: Option<String>,
    /// Only those that ended for a reason.
    #[param(value_type = Option<RequestReason>)]
    reason: Option<String>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
    /// The most rows to answer, 1 to 200.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
}

/// Requests that have ended, newest first.
#[utoipa::path(tag = "requests", params(RequestParams), responses((status = 200, body = Page<Request>)))]
#[get("/requests")]
async fn list_requests(operator: ReadOperator, params: Params<RequestParams>) -> Answer<Json<Page<Request>>> {
    let params = params.0;
    let bounds = page_bounds::<RequestId>(params.cursor.as_deref(), params.limit.as_deref())?;
    let filter = Filter {
        tenant: parse_param("tenant", params.tenant.as_deref(), "the id of a tenant, `ten_...`")?,
        key: parse_param("key", params.key.as_deref(), "the id of a key, `key_...`")?,
        model: params.model,
        reason: parse_param("reason", params.reason.as_deref(), "a reason code such as `completed`")?,
        before: bounds.cursor,
    };
    let readers = operator.parts().database.readers();
    let records = request_log::operator_list(readers, &filter, bounds.rows_to_read()).await?;
    let ids: Vec<RequestId> = records.iter().map(|record| record.id).collect();
    let charges = reading::operator_charges(readers, &ids).await?;
    let mut charges: HashMap<_, _> = charges.into_iter().map(|charge| (charge.row.request, charge)).collect();
    let mut corrections: HashMap<RequestId, Vec<CorrectionView>> = HashMap::new();
    for made in reading::operator_corrections(readers, &ids).await? {
        corrections.entry(made.request).or_default().push(made);
    }
    Ok(Json(bounds.page(
        records,
        |record| record.id.to_string(),
        |record| {
            let charge = charges.remove(&record.id);
            let corrections = corrections.remove(&record.id).unwrap_or_default();
            Request::of_record(record, charge, corrections)
        },
    )))
}

/// One request that has ended.
#[utoipa::path(tag = "requests", params(("request_id" = String, Path)), responses((status = 200, body = Request)))]
#[get("/requests/{request_id}")]
async fn get_request(operator: ReadOperator, id: PathId<RequestId>) -> Answer<Json<Request>> {
    let readers = operator.parts().database.readers();
    let record = request_log::operator_find(readers, id.0).await?;
    let charge = reading::operator_charge(readers, id.0).await?;
    let corrections = reading::operator_corrections(readers, &[id.0]).await?;
    match (record, charge) {
        (Some(record), charge) => Ok(Json(Request::of_record(record, charge, corrections))),
        (None, Some(charge)) => Ok(Json(Request::of_charge(charge, corrections))),
        (None, None) => Err(AdminError::not_found("request that has ended")),
    }
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_requests).service(get_request);
}
