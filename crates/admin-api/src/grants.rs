//! Grants: credit that an operator gives a tenant. Each is posted once, however often it is sent.

use actix_web::post;
use domain::{GrantId, LotId, TenantId};
use ledger::movements::{self, Grant};
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
    wire::{Instant, Usd, wire_enum},
};

const MAX_NOTE_CHARS: usize = 500;

wire_enum! {
    /// Why credit is given.
    GrantKind = ledger::movements::GrantKind {
        /// Paid for outside the card flow, such as by bank transfer: paid credit. It pays off debt first.
        Payment,
        /// A sign-up bonus or promotion: promotional credit.
        Promotion,
        /// To make up for something: promotional credit.
        Goodwill,
    }
}

/// Credit to give.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewGrant)]
struct NewGrantInput {
    kind: GrantKind,
    /// More than zero.
    amount_usd: Usd,
    /// Why, for people and the audit log: at most 500 characters without line breaks.
    #[serde(default)]
    note: String,
    /// When what is left of the credit expires: an instant in the future. Never when left out.
    expires_at: Option<Instant>,
}

/// Credit that was given.
#[derive(Serialize, ToSchema)]
struct PostedGrant {
    /// Also the reference of the ledger transaction.
    #[schema(value_type = String, example = "grant_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: GrantId,
    #[schema(value_type = String)]
    tenant: TenantId,
    kind: GrantKind,
    amount_usd: Usd,
    note: String,
    /// When what is left of it expires; `null` for never.
    #[schema(required)]
    expires_at: Option<Instant>,
    /// How much of it paid off debt.
    paid_debt_usd: Usd,
    /// The lot that holds the rest; `null` when all of it paid off debt.
    #[schema(value_type = Option<String>, required)]
    lot: Option<LotId>,
    /// The tenant's available credit afterwards.
    available_usd: Usd,
    created_at: Instant,
}

/// Gives a tenant credit. The same idempotency key with the same content gets the same answer and changes nothing.
#[utoipa::path(
    tag = "grants",
    params(
        ("tenant_id" = String, Path),
        ("Idempotency-Key" = String, Header,
            description = "1 to 255 printable characters: new for every grant, the same for every repetition of it",
            min_length = 1, max_length = 255)
    ),
    request_body = NewGrantInput,
    responses((status = 201, body = PostedGrant))
)]
#[post("/tenants/{tenant_id}/grants")]
async fn create_grant(
    operator: FullOperator,
    tenant: PathId<TenantId>,
    key: IdempotencyKey,
    body: Body<NewGrantInput>,
) -> Answer<Created<serde_json::Value>> {
    let input = body.0;
    check_note(&input.note)?;
    let wanted = Wanted {
        kind: "grant",
        tenant: tenant.0,
        key: &key,
        content: (input.kind, input.amount_usd, &input.note, input.expires_at),
    };
    let post = async |tx: &Tx| post_grant(tx, operator.actor(), tenant.0, &input).await;
    move_once(&operator, &wanted, post).await
}

async fn post_grant(tx: &Tx, actor: &Actor, tenant: TenantId, input: &NewGrantInput) -> Answer<Moved<PostedGrant>> {
    let id = GrantId::generate();
    let grant = Grant {
        tenant,
        amount: input.amount_usd.0,
        kind: input.kind.into(),
        expires_at: input.expires_at.map(|at| at.0),
        source: id.to_string(),
    };
    let granted = movements::grant(tx, actor, &grant).await?;
    let posted = PostedGrant {
        id,
        tenant,
        kind: input.kind,
        amount_usd: input.amount_usd,
        note: input.note.clone(),
        expires_at: input.expires_at,
        paid_debt_usd: Usd(granted.paid_debt),
        lot: granted.lot,
        available_usd: Usd(granted.available),
        created_at: Instant(tx.now().await?),
    };
    Ok(Moved {
        id: id.to_string(),
        posted,
        movement: granted.movement,
    })
}

fn check_note(note: &str) -> Answer<()> {
    if note.chars().count() <= MAX_NOTE_CHARS && !note.chars().any(char::is_control) {
        return Ok(());
    }
    Err(AdminError::invalid(
        "note",
        format!("write at most {MAX_NOTE_CHARS} characters without line breaks"),
    ))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(create_grant);
}
