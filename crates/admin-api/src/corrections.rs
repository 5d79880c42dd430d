//! Corrections of charges, one by one or many at once: true-ups, refunds of requests, goodwill. Each is posted once, however
//! often it is sent; the charge's own rows stay as they were written.

use std::collections::BTreeSet;

use actix_web::{post, web::Json};
use domain::{LotId, RequestId, TenantId};
use ledger::{
    chart::LotKind,
    corrections::CorrectionKind,
    movements::{Corrected, GivenBack},
    reading::{self, CorrectionView},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::idempotency::{self, Known};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::FullOperator,
    answer::Created,
    correcting::{self, Done, Wish},
    error::{AdminError, Answer, ErrorCode},
    input::{Body, IdempotencyKey, PathId},
    moved_once::{Moved, Wanted, move_once},
    wire::{Instant, Usd, wire_enum},
};

const MAX_REASON_CHARS: usize = 500;
/// Requests in one list. Each is a transaction of its own.
const MAX_REQUESTS: usize = 500;

wire_enum! {
    /// Why something goes back after the charge.
    CorrectionPurpose = CorrectionKind {
        /// The provider's later count is lower: the difference.
        TrueUp,
        /// The charge is taken back, in part or in full.
        Refund,
        /// Promotional credit to make up for the request, no more than was held for it. The charge stands.
        Goodwill,
    }
}

wire_enum! {
    /// What kind of credit comes back: what paid for the request.
    CorrectedCredit = LotKind {
        /// Bought.
        Paid,
        /// Given.
        Promo,
    }
}

/// A correction of one request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCorrection)]
struct NewCorrectionInput {
    kind: CorrectionPurpose,
    /// More than zero, and no more than is left of the charge; absent for all of it, which only a refund may be.
    #[serde(default)]
    amount_usd: Option<Usd>,
    /// Why, for people and the audit log: 1 to 500 characters without line breaks.
    reason: String,
}

/// The same correction of many requests.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCorrections)]
struct NewCorrectionsInput {
    /// 1 to 500 requests, each once.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 500)]
    requests: Vec<RequestId>,
    kind: CorrectionPurpose,
    /// Of each request: more than zero; absent for all that is left of its charge, which only a refund may be.
    #[serde(default)]
    amount_usd: Option<Usd>,
    /// Why, for people and the audit log: 1 to 500 characters without line breaks.
    reason: String,
}

/// Credit that went back.
#[derive(Serialize, ToSchema)]
struct ReturnedCredit {
    #[schema(value_type = String)]
    lot_id: LotId,
    kind: CorrectedCredit,
    amount_usd: Usd,
    /// When the lot expires; `null` for never.
    #[schema(required)]
    expires_at: Option<Instant>,
    /// Whether the lot is new: the one that had paid has expired or soon will, or it is goodwill.
    is_new: bool,
}

impl From<GivenBack> for ReturnedCredit {
    fn from(given: GivenBack) -> Self {
        Self {
            lot_id: given.lot,
            kind: given.kind.into(),
            amount_usd: Usd(given.amount),
            expires_at: given.expires_at.map(Instant),
            is_new: given.is_new,
        }
    }
}

/// What a correction does.
#[derive(Serialize, ToSchema)]
struct PostedCorrection {
    /// Its ledger transaction, whose reference is the request.
    transaction: uuid::Uuid,
    #[schema(value_type = String)]
    request: RequestId,
    #[schema(value_type = String)]
    tenant: TenantId,
    kind: CorrectionPurpose,
    amount_usd: Usd,
    reason: String,
    /// What had been charged.
    charged_usd: Usd,
    /// What is left of the charge after all corrections.
    net_charge_usd: Usd,
    /// How much paid off debt.
    paid_debt_usd: Usd,
    /// Where the rest is.
    credit: Vec<ReturnedCredit>,
    /// The tenant's available credit afterwards.
    available_usd: Usd,
}

impl PostedCorrection {
    fn of(request: RequestId, wish: &Wish, corrected: &Corrected) -> Self {
        Self {
            transaction: corrected.transaction,
            request,
            tenant: corrected.tenant,
            kind: wish.kind.into(),
            amount_usd: Usd(corrected.amount),
            reason: wish.reason.clone(),
            charged_usd: Usd(corrected.charged),
            net_charge_usd: Usd(corrected.net_charge),
            paid_debt_usd: Usd(corrected.paid_debt),
            credit: corrected.credit.iter().copied().map(ReturnedCredit::from).collect(),
            available_usd: Usd(corrected.available),
        }
    }
}

/// A correction that was made, as requests show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RequestCorrection {
    /// Its ledger transaction.
    transaction: uuid::Uuid,
    kind: CorrectionPurpose,
    amount_usd: Usd,
    /// Who made it.
    actor: String,
    created_at: Instant,
}

impl From<CorrectionView> for RequestCorrection {
    fn from(made: CorrectionView) -> Self {
        Self {
            transaction: made.transaction,
            kind: made.kind.into(),
            amount_usd: Usd(made.amount),
            actor: made.actor,
            created_at: Instant(made.at),
        }
    }
}

/// What became of a request of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ListedOutcome {
    /// It was corrected by this call (or would be, in a preview).
    Corrected,
    /// An earlier call with this idempotency key had corrected it.
    Repeated,
    /// It cannot be corrected so; `problem` says why.
    Refused,
}

/// One request of a list.
#[derive(Serialize, ToSchema)]
struct ListedCorrection {
    #[schema(value_type = String)]
    request: RequestId,
    outcome: ListedOutcome,
    /// Its ledger transaction; `null` if it was refused.
    #[schema(required)]
    transaction: Option<uuid::Uuid>,
    /// How much was given; nothing if it was refused.
    amount_usd: Usd,
    /// Why it was refused; `null` otherwise.
    #[schema(required)]
    problem: Option<String>,
}

/// What became of a list.
#[derive(Serialize, ToSchema)]
struct ListedCorrections {
    corrected: usize,
    repeated: usize,
    refused: usize,
    /// What was given, by this call and by earlier ones with its idempotency key.
    amount_usd: Usd,
    /// Every request, in the order in which they were named.
    results: Vec<ListedCorrection>,
}

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
    Ok(Json(listed(results)))
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
    Ok(Json(listed(results)))
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

fn listed(done: Vec<(RequestId, Done)>) -> ListedCorrections {
    let mut list = ListedCorrections {
        corrected: 0,
        repeated: 0,
        refused: 0,
        amount_usd: Usd(domain::Amount::ZERO),
        results: Vec::with_capacity(done.len()),
    };
    for (request, done) in done {
        let (outcome, transaction, amount, problem) = match done {
            Done::Corrected(corrected) => {
                list.corrected += 1;
                (
                    ListedOutcome::Corrected,
                    Some(corrected.transaction),
                    corrected.amount,
                    None,
                )
            }
            Done::Repeated(earlier) => {
                list.repeated += 1;
                (ListedOutcome::Repeated, Some(earlier.transaction), earlier.amount, None)
            }
            Done::Refused(error) => {
                list.refused += 1;
                (
                    ListedOutcome::Refused,
                    None,
                    domain::Amount::ZERO,
                    Some(error.to_string()),
                )
            }
        };
        let total = list.amount_usd.0.checked_add(amount);
        list.amount_usd = Usd(total.unwrap_or(domain::Amount::MAX));
        list.results.push(ListedCorrection {
            request,
            outcome,
            transaction,
            amount_usd: Usd(amount),
            problem,
        });
    }
    list
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(preview_correction)
        .service(create_correction)
        .service(preview_corrections)
        .service(create_corrections);
}
