//! Withdrawals: credit that an operator takes out of a lot, to be paid back or to be suspended, and the release of
//! what was suspended. Each is posted once, however often it is sent.

use actix_web::post;
use domain::{LotId, TenantId, WithdrawalId};
use ledger::{
    archive::Movement,
    claims,
    movements::{self, Release, Withdrawal},
};
use serde::{Deserialize, Serialize};
use store::{Tx, audit::Actor};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::FullOperator,
    answer::Created,
    error::{AdminError, Answer},
    input::{Body, IdempotencyKey, PathId},
    moved_once::{Moved, Wanted, move_once},
    wire::{Instant, Usd},
};

const MAX_REFERENCE_CHARS: usize = 200;
const MAX_REASON_CHARS: usize = 500;

/// What is done with a lot's credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum WithdrawalPurpose {
    /// It is to be paid back, which is done outside: the books say that it is owed. Paid credit only.
    Refund,
    /// It must not be used for now.
    Suspension,
    /// What was suspended comes back.
    Release,
}

/// Credit to take out of a lot, or to bring back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWithdrawal)]
struct NewWithdrawalInput {
    #[schema(value_type = String)]
    lot_id: LotId,
    /// More than zero, and no more than is left of the lot and not claimed; of a release, than is suspended.
    amount_usd: Usd,
    purpose: WithdrawalPurpose,
    /// What it belongs to outside, such as a case or a bank transfer: 1 to 200 characters without line breaks.
    reference: String,
    /// Why, for people and the audit log: at most 500 characters without line breaks.
    #[serde(default)]
    reason: String,
}

/// What a withdrawal did.
#[derive(Serialize, ToSchema)]
struct PostedWithdrawal {
    /// Also the reference of the ledger transactions.
    #[schema(value_type = String, example = "wdr_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: WithdrawalId,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    lot_id: LotId,
    purpose: WithdrawalPurpose,
    amount_usd: Usd,
    reference: String,
    reason: String,
    /// How much left the lot at once; of a release, how much came back into it.
    moved_usd: Usd,
    /// How much is claimed: it leaves when requests under way end, less what they spend of the lot. Of a release, how much
    /// need not leave any more.
    claimed_usd: Usd,
    /// What is left of the lot, claims included.
    remaining_usd: Usd,
    /// The tenant's available credit afterwards.
    available_usd: Usd,
    created_at: Instant,
}

/// Takes credit out of a lot, or releases what was suspended. What requests under way have reserved leaves when they
/// end. The same idempotency key with the same content gets the same answer and changes nothing.
#[utoipa::path(
    tag = "grants",
    params(
        ("tenant_id" = String, Path),
        ("Idempotency-Key" = String, Header,
            description = "1 to 255 printable characters: new for every withdrawal, the same for every repetition of it",
            min_length = 1, max_length = 255)
    ),
    request_body = NewWithdrawalInput,
    responses((status = 201, body = PostedWithdrawal))
)]
#[post("/tenants/{tenant_id}/withdrawals")]
async fn create_withdrawal(
    operator: FullOperator,
    tenant: PathId<TenantId>,
    key: IdempotencyKey,
    body: Body<NewWithdrawalInput>,
) -> Answer<Created<serde_json::Value>> {
    let input = body.0;
    check_texts(&input)?;
    let NewWithdrawalInput {
        lot_id,
        amount_usd,
        purpose,
        ..
    } = input;
    let wanted = Wanted {
        kind: "withdrawal",
        tenant: tenant.0,
        key: &key,
        content: (lot_id, amount_usd, purpose, &input.reference, &input.reason),
    };
    let post = async |tx: &Tx| post_withdrawal(tx, operator.actor(), tenant.0, &input).await;
    move_once(&operator, &wanted, post).await
}

async fn post_withdrawal(
    tx: &Tx,
    actor: &Actor,
    tenant: TenantId,
    input: &NewWithdrawalInput,
) -> Answer<Moved<PostedWithdrawal>> {
    let id = WithdrawalId::generate();
    let ([moved, claimed, remaining, available], movement) = move_credit(tx, actor, tenant, input, id).await?;
    let posted = PostedWithdrawal {
        id,
        tenant,
        lot_id: input.lot_id,
        purpose: input.purpose,
        amount_usd: input.amount_usd,
        reference: input.reference.clone(),
        reason: input.reason.clone(),
        moved_usd: moved,
        claimed_usd: claimed,
        remaining_usd: remaining,
        available_usd: available,
        created_at: Instant(tx.now().await?),
    };
    Ok(Moved {
        id: id.to_string(),
        posted,
        movement,
    })
}

/// Answers what moved, what is (or is no more) claimed, what is left of the lot, and what the tenant has available.
async fn move_credit(
    tx: &Tx,
    actor: &Actor,
    tenant: TenantId,
    input: &NewWithdrawalInput,
    id: WithdrawalId,
) -> Answer<([Usd; 4], Movement)> {
    let (lot, amount, source) = (input.lot_id, input.amount_usd.0, id.to_string());
    let purpose = match input.purpose {
        WithdrawalPurpose::Refund => claims::Purpose::Refund,
        WithdrawalPurpose::Suspension => claims::Purpose::Suspension,
        WithdrawalPurpose::Release => {
            let release = Release {
                tenant,
                lot,
                amount,
                source,
            };
            let done = movements::release(tx, actor, &release).await?;
            let amounts = [done.returned, done.unclaimed, done.remaining, done.available];
            return Ok((amounts.map(Usd), done.movement));
        }
    };
    let withdrawal = Withdrawal {
        tenant,
        lot,
        purpose,
        amount,
        source,
    };
    let done = movements::withdraw(tx, actor, &withdrawal).await?;
    let amounts = [done.taken, done.claimed, done.remaining, done.available];
    Ok((amounts.map(Usd), done.movement))
}

fn check_texts(input: &NewWithdrawalInput) -> Answer<()> {
    if input.reference.trim().is_empty() {
        return Err(AdminError::invalid("reference", "say what the withdrawal belongs to"));
    }
    for (field, text, most) in [
        ("reference", &input.reference, MAX_REFERENCE_CHARS),
        ("reason", &input.reason, MAX_REASON_CHARS),
    ] {
        if text.chars().count() > most || text.chars().any(char::is_control) {
            let advice = format!("write at most {most} characters without line breaks");
            return Err(AdminError::invalid(field, advice));
        }
    }
    Ok(())
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(create_withdrawal);
}
