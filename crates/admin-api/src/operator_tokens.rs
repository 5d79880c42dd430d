//! Operator tokens. Only operators who may change everything see them.

use accounts::operator_tokens;
use actix_web::{get, post, web::Json};
use domain::OperatorTokenId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::FullOperator,
    answer::Created,
    error::Answer,
    input::{Body, Params, PathId},
    page::{Page, PageParams},
    wire::{Instant, wire_enum},
};

wire_enum! {
    /// What an operator may do.
    OperatorRole = accounts::OperatorRole {
        /// See and change everything.
        Full,
        /// See everything but operator tokens, change nothing.
        ReadOnly,
    }
}

/// An operator token, without its secret.
#[derive(Serialize, ToSchema)]
struct OperatorToken {
    #[schema(value_type = String, example = "opt_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: OperatorTokenId,
    name: String,
    role: OperatorRole,
    /// The last four characters of the secret.
    last4: String,
    #[schema(required)]
    revoked_at: Option<Instant>,
    created_at: Instant,
}

impl From<accounts::OperatorToken> for OperatorToken {
    fn from(token: accounts::OperatorToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role.into(),
            last4: token.last4,
            revoked_at: token.revoked_at.map(Instant),
            created_at: Instant(token.created_at),
        }
    }
}

/// A new operator token with its secret.
#[derive(Serialize, ToSchema)]
struct CreatedOperatorToken {
    /// The record.
    token: OperatorToken,
    /// The token itself, `op-tr-...`. It is shown this once: keep it.
    secret: String,
}

/// An operator token to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOperatorToken)]
struct NewOperatorTokenInput {
    /// 1 to 120 characters.
    name: String,
    role: OperatorRole,
}

/// Operator tokens, newest first.
#[utoipa::path(
    tag = "operator tokens",
    params(PageParams),
    security(("operator_token" = ["full"])),
    responses((status = 200, body = Page<OperatorToken>))
)]
#[get("/operator-tokens")]
async fn list_operator_tokens(operator: FullOperator, page: Params<PageParams>) -> Answer<Json<Page<OperatorToken>>> {
    let bounds = page.0.bounds::<OperatorTokenId>()?;
    let readers = operator.parts().database.readers();
    let rows = operator_tokens::list(readers, bounds.cursor, bounds.rows_to_read().into()).await?;
    Ok(Json(bounds.page(rows, |row| row.id.to_string(), OperatorToken::from)))
}

/// Creates an operator token. Its secret is in this answer only.
#[utoipa::path(
    tag = "operator tokens",
    request_body = NewOperatorTokenInput,
    responses((status = 201, body = CreatedOperatorToken))
)]
#[post("/operator-tokens")]
async fn create_operator_token(
    operator: FullOperator,
    body: Body<NewOperatorTokenInput>,
) -> Answer<Created<CreatedOperatorToken>> {
    let NewOperatorTokenInput { name, role } = body.0;
    let tx = operator.begin().await?;
    let pepper = &operator.parts().keyring.pepper;
    let (token, plain) = operator_tokens::create(&tx, operator.actor(), pepper, &name, role.into()).await?;
    operator.commit_operators(tx).await?;
    Ok(Created(CreatedOperatorToken {
        token: token.into(),
        secret: plain.expose().to_owned(),
    }))
}

/// Takes an operator token back for good. Doing it again changes nothing.
#[utoipa::path(
    tag = "operator tokens",
    params(("operator_token_id" = String, Path)),
    responses((status = 200, body = OperatorToken))
)]
#[post("/operator-tokens/{operator_token_id}/revoke")]
async fn revoke_operator_token(operator: FullOperator, id: PathId<OperatorTokenId>) -> Answer<Json<OperatorToken>> {
    let tx = operator.begin().await?;
    let token = operator_tokens::revoke(&tx, operator.actor(), id.0).await?;
    operator.commit_operators(tx).await?;
    Ok(Json(token.into()))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_operator_tokens)
        .service(create_operator_token)
        .service(revoke_operator_token);
}
