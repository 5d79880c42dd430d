//! Refunds of all requests of an incident that were charged: each once, however often it is asked for.

use actix_web::{post, web::Json};
use domain::{Amount, IncidentId, RequestId};
use ledger::corrections::CorrectionKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::FullOperator,
    correcting::{self, Done, Wish},
    error::{AdminError, Answer},
    input::{Body, PathId},
    wire::Usd,
};

/// Requests in one call. Each is a transaction of its own.
const PAGE: u32 = 200;
const MAX_REASON_CHARS: usize = 500;

/// What to give back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IncidentRefund {
    /// Why, for people and the audit log: 1 to 500 characters without line breaks.
    reason: String,
    /// `next_cursor` of the call before; absent for the first.
    #[schema(value_type = Option<String>)]
    cursor: Option<RequestId>,
}

/// What a call has given back, or would.
#[derive(Serialize, ToSchema)]
struct IncidentRefunds {
    /// Requests whose charge goes back by this call.
    refunded: usize,
    /// Requests for which that was done before and not noted here: a call that broke off.
    repeated: usize,
    /// What goes back for both.
    amount_usd: Usd,
    /// Requests of which nothing can be given back any more.
    refused: Vec<RefusedRefund>,
    /// Give this as `cursor` to go on; `null` when all were looked at.
    #[schema(value_type = Option<String>, required)]
    next_cursor: Option<RequestId>,
}

/// A request of which nothing can be given back.
#[derive(Serialize, ToSchema)]
struct RefusedRefund {
    #[schema(value_type = String)]
    request: RequestId,
    /// Why not.
    problem: String,
}

/// Gives back what is left of the charges of an incident's requests, 200 in a call, each once for this incident. A call that
/// broke off is sent again; one without `cursor` begins with what has not been given back.
#[utoipa::path(
    tag = "incidents",
    params(("incident_id" = String, Path)),
    request_body = IncidentRefund,
    responses((status = 200, body = IncidentRefunds))
)]
#[post("/incidents/{incident_id}/refunds")]
async fn refund_incident(
    operator: FullOperator,
    id: PathId<IncidentId>,
    body: Body<IncidentRefund>,
) -> Answer<Json<IncidentRefunds>> {
    let (wish, page) = begin(&operator, id.0, &body.0).await?;
    let mut done = Vec::with_capacity(page.requests.len());
    let mut given = Vec::with_capacity(page.requests.len());
    for request in page.requests {
        let outcome = correcting::correct_one(&operator, request, &wish).await?;
        given.extend(amount_of(&outcome).map(|amount| (request, amount)));
        done.push((request, outcome));
    }
    if !given.is_empty() {
        let tx = operator.begin().await?;
        incidents::note_refunds(&tx, id.0, &given).await?;
        tx.commit().await?;
    }
    Ok(Json(summed(done, page.next_cursor)))
}

/// What such a call would give back now. Nothing is changed.
#[utoipa::path(
    tag = "incidents",
    params(("incident_id" = String, Path)),
    request_body = IncidentRefund,
    responses((status = 200, body = IncidentRefunds))
)]
#[post("/incidents/{incident_id}/refunds/preview")]
async fn preview_incident_refunds(
    operator: FullOperator,
    id: PathId<IncidentId>,
    body: Body<IncidentRefund>,
) -> Answer<Json<IncidentRefunds>> {
    let (wish, page) = begin(&operator, id.0, &body.0).await?;
    let mut done = Vec::with_capacity(page.requests.len());
    for request in page.requests {
        done.push((request, correcting::preview_one(&operator, request, &wish).await?));
    }
    Ok(Json(summed(done, page.next_cursor)))
}

/// The requests of one call.
struct Page {
    requests: Vec<RequestId>,
    next_cursor: Option<RequestId>,
}

async fn begin(operator: &FullOperator, id: IncidentId, input: &IncidentRefund) -> Answer<(Wish, Page)> {
    let reason = input.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        let advice = format!("write 1 to {MAX_REASON_CHARS} characters without line breaks");
        return Err(AdminError::invalid("reason", advice));
    }
    let readers = operator.parts().database.readers();
    if incidents::find(readers, id, false).await?.is_none() {
        return Err(AdminError::not_found("incident"));
    }
    let rows = incidents::refundable(readers, id, input.cursor, PAGE).await?;
    let requests: Vec<RequestId> = rows.iter().map(|row| row.link.request).collect();
    let is_full = requests.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
    let next_cursor = requests.last().copied().filter(|_| is_full);
    let wish = Wish {
        kind: CorrectionKind::Refund,
        amount: None,
        reason: reason.to_owned(),
        source: format!("incident:{id}"),
    };
    Ok((wish, Page { requests, next_cursor }))
}

const fn amount_of(done: &Done) -> Option<Amount> {
    match done {
        Done::Corrected(corrected) => Some(corrected.amount),
        Done::Repeated(earlier) => Some(earlier.amount),
        Done::Refused(_) => None,
    }
}

fn summed(done: Vec<(RequestId, Done)>, next_cursor: Option<RequestId>) -> IncidentRefunds {
    let amounts = done.iter().filter_map(|(_, outcome)| amount_of(outcome));
    let mut sums = IncidentRefunds {
        refunded: 0,
        repeated: 0,
        amount_usd: Usd(Amount::checked_sum(amounts).unwrap_or(Amount::MAX)),
        refused: Vec::new(),
        next_cursor,
    };
    for (request, outcome) in done {
        match outcome {
            Done::Corrected(_) => sums.refunded += 1,
            Done::Repeated(_) => sums.repeated += 1,
            Done::Refused(error) => sums.refused.push(RefusedRefund {
                request,
                problem: error.to_string(),
            }),
        }
    }
    sums
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(preview_incident_refunds).service(refund_incident);
}
