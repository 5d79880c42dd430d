//! Corrections of charges, one by one or many at once: true-ups, refunds of requests, goodwill. Each is posted once, however
//! often it is sent; the charge's own rows stay as they were written.

mod forms;

use std::collections::BTreeSet;

use actix_web::{post, web::Json};
use domain::RequestId;
use ledger::{corrections::CorrectionKind, reading};
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::idempotency::{self, Known};
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) use forms::RequestCorrection;
use forms::{CorrectionPurpose, ListedCorrections, NewCorrectionInput, NewCorrectionsInput, PostedCorrection};

use crate::{
    access::FullOperator,
    answer::Created,
    correcting::{self, Done, Wish},
    error::{AdminError, Answer, ErrorCode},
    input::{Body, IdempotencyKey, PathId},
    moved_once::{Moved, Wanted, move_once},
    wire::Usd,
};

const MAX_REASON_CHARS: usize = 500;
/// Requests in one list. Each is a transaction of its own.
const MAX_REQUESTS: usize = 500;

/// Corrects the charge of one request. The same idempotency key with the same content gets the same answer and changes
/// nothing.
#[utoipa::path(
    tag = "requests",
    params(
        ("request_id" = String, Path),
        ("Idempotency-Key" = String, Header,
            description = "1 to 255 printable characters: new for every correction, the same for every repetition of it",
            min_length = 1, max_length = 255)
    ),
    request_body = NewCorrectionInput,
    responses((status = 201, body = PostedCorrection))
)]
#[post("/requests/{request_id}/corrections")]
async fn create_correction(
    operator: FullOperator,
    request: PathId<RequestId>,
    key: IdempotencyKey,
    body: Body<NewCorrectionInput>,
) -> Answer<Created<serde_json::Value>> {
    let (request, input) = (request.0, body.0);
    let wish = wish(
        input.kind,
        input.amount_usd,
        input.reason,
        format!("operator:{}", key.0),
    )?;
    let charge = reading::operator_charge(operator.parts().database.readers(), request).await?;
    let tenant = charge.ok_or_else(no_charge)?.row.tenant;
    let correction = correcting::correction(&operator, request, &wish).await?;
    let correction = correction.ok_or_else(no_charge)?;
    let wanted = Wanted {
        kind: "correction",
        tenant,
        key: &key,
        content: (request, input.kind, input.amount_usd, &wish.reason),
    };
    move_once(&operator, &wanted, async |tx| {
        let corrected = ledger::movements::correct(tx, operator.actor(), &correction).await?;
        Ok(Moved {
            id: request.to_string(),
            posted: PostedCorrection::of(request, &wish, &corrected),
            movement: corrected.movement,
        })
    })
    .await
}

/// What a correction of one request would do now. Nothing is changed.
#[utoipa::path(
    tag = "requests",
    params(("request_id" = String, Path)),
    request_body = NewCorrectionInput,
    responses((status = 200, body = PostedCorrection))
)]
#[post("/requests/{request_id}/corrections/preview")]
async fn preview_correction(
    operator: FullOperator,
    request: PathId<RequestId>,
    body: Body<NewCorrectionInput>,
) -> Answer<Json<PostedCorrection>> {
    let (request, input) = (request.0, body.0);
    let wish = wish(input.kind, input.amount_usd, input.reason, previewed())?;
    match correcting::preview_one(&operator, request, &wish).await? {
        Done::Corrected(corrected) => Ok(Json(PostedCorrection::of(request, &wish, &corrected))),
        Done::Refused(error) => Err(error.into()),
        Done::Repeated(_) => Err(AdminError::new(ErrorCode::Conflict, "this was posted before")),
    }
}

/// Corrects the charges of many requests, each in a transaction of its own. A call that was interrupted, or answered 503, is
/// repeated with the same idempotency key and content: it goes on where it was.
#[utoipa::path(
    tag = "requests",
    params(
        ("Idempotency-Key" = String, Header,
            description = "1 to 255 printable characters: new for every list, the same for every repetition of it",
            min_length = 1, max_length = 255)
    ),
    request_body = NewCorrectionsInput,
    responses((status = 200, body = ListedCorrections))
)]
#[post("/corrections")]
async fn create_corrections(
    operator: FullOperator,
    key: IdempotencyKey,
    body: Body<NewCorrectionsInput>,
) -> Answer<Json<ListedCorrections>> {
    let input = body.0;
    check_requests(&input.requests)?;
    let content = (&input.requests, input.kind, input.amount_usd, &input.reason);
    claim_list(&operator, &key, &content).await?;
    let wish = wish(input.kind, input.amount_usd, input.reason, format!("list:{}", key.0))?;
    let mut results = Vec::with_capacity(input.requests.len());
    for request in input.requests {
        results.push((request, correcting::correct_one(&operator, request, &wish).await?));
    }
    Ok(Json(ListedCorrections::of(results)))
}

/// What a list of corrections would do now. Nothing is changed.
#[utoipa::path(
    tag = "requests",
    request_body = NewCorrectionsInput,
    responses((status = 200, body = ListedCorrections))
)]
#[post("/corrections/preview")]
async fn preview_corrections(
    operator: FullOperator,
    body: Body<NewCorrectionsInput>,
) -> Answer<Json<ListedCorrections>> {
    let input = body.0;
    check_requests(&input.requests)?;
    let wish = wish(input.kind, input.amount_usd, input.reason, previewed())?;
    let mut results = Vec::with_capacity(input.requests.len());
    for request in input.requests {
        results.push((request, correcting::preview_one(&operator, request, &wish).await?));
    }
    Ok(Json(ListedCorrections::of(results)))
}

/// The source of what is not going to stay; nothing else has it.
fn previewed() -> String {
    format!("preview:{}", uuid::Uuid::new_v4())
}

fn no_charge() -> AdminError {
    AdminError::from(ledger::LedgerError::UnknownCharge)
}

fn wish(kind: CorrectionPurpose, amount: Option<Usd>, reason: String, source: String) -> Answer<Wish> {
    let kind = CorrectionKind::from(kind);
    if amount.is_none() && kind != CorrectionKind::Refund {
        return Err(AdminError::invalid(
            "amount_usd",
            "say how much: only a refund may be of all that is left",
        ));
    }
    if reason.trim().is_empty() {
        return Err(AdminError::invalid("reason", "say why, for the audit log"));
    }
    if reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control) {
        let advice = format!("write at most {MAX_REASON_CHARS} characters without line breaks");
        return Err(AdminError::invalid("reason", advice));
    }
    Ok(Wish {
        kind,
        amount: amount.map(|amount| amount.0),
        reason,
        source,
    })
}

fn check_requests(requests: &[RequestId]) -> Answer<()> {
    if requests.is_empty() || requests.len() > MAX_REQUESTS {
        return Err(AdminError::invalid(
            "requests",
            format!("name 1 to {MAX_REQUESTS} requests"),
        ));
    }
    if requests.iter().collect::<BTreeSet<_>>().len() < requests.len() {
        return Err(AdminError::invalid("requests", "name each request once"));
    }
    Ok(())
}

/// Binds the idempotency key to this list before anything of it is done: a repetition may go on with it, and with no other.
async fn claim_list(operator: &FullOperator, key: &IdempotencyKey, content: &impl Serialize) -> Answer<()> {
    let text = serde_json::to_vec(content).map_err(|error| AdminError::internal(&error))?;
    let tx = operator.begin().await?;
    match idempotency::claim(&tx, "admin.corrections", &key.0, &hex::encode(Sha256::digest(text))).await? {
        Known::New | Known::Repeated(_) => Ok(tx.commit().await?),
        Known::Mismatch => Err(AdminError::new(
            ErrorCode::IdempotencyMismatch,
            "this idempotency key belongs to another list: repeat that one unchanged, or use a new key",
        )),
    }
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(preview_correction)
        .service(create_correction)
        .service(preview_corrections)
        .service(create_corrections);
}
