//! What providers billed, to be compared with what the ledger booked for them.

use actix_web::{get, post, web::Json};
use domain::{IncidentId, StatementId};
use incidents::{NewStatement, StatementView};
use serde::{Deserialize, Serialize};
use store::Tx;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::Created,
    done_once::do_once,
    error::{AdminError, Answer},
    input::{Body, IdempotencyKey, Params},
    page::{Page, PageParams},
    wire::{Instant, Usd},
};

/// A provider's bill to enter.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProviderStatement)]
struct NewStatementInput {
    /// The provider's slug.
    provider: String,
    /// The first instant inside.
    from: Instant,
    /// The first instant outside again; not in the future, at most 366 days later.
    to: Instant,
    /// What it billed, without taxes.
    billed_usd: Usd,
    /// For people, at most 500 characters.
    #[serde(default)]
    note: String,
}

/// A provider's bill, and what came of the comparison.
#[derive(Serialize, ToSchema)]
struct ProviderStatement {
    #[schema(value_type = String, example = "stmt_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: StatementId,
    provider: String,
    from: Instant,
    to: Instant,
    billed_usd: Usd,
    note: String,
    entered_at: Instant,
    /// When the rule compared it; `null` for a moment.
    #[schema(required)]
    checked_at: Option<Instant>,
    /// What the ledger had booked for the provider and the period; absent until it was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Usd, required = false)]
    booked_usd: Option<Usd>,
    /// The incident, where the two differ by more than they may.
    #[schema(value_type = Option<String>, required)]
    incident: Option<IncidentId>,
}

impl From<StatementView> for ProviderStatement {
    fn from(view: StatementView) -> Self {
        Self {
            id: view.id,
            provider: view.provider,
            from: Instant(view.from),
            to: Instant(view.to),
            billed_usd: Usd(view.billed),
            note: view.note,
            entered_at: Instant(view.entered_at),
            checked_at: view.checked_at.map(Instant),
            booked_usd: view.booked.map(Usd),
            incident: view.incident,
        }
    }
}

/// What was entered.
#[derive(Serialize, ToSchema)]
struct EnteredStatement {
    #[schema(value_type = String)]
    id: StatementId,
}

/// Enters a bill. The same idempotency key with the same content gets the same answer and changes nothing.
#[utoipa::path(
    tag = "incidents",
    params(("Idempotency-Key" = String, Header,
        description = "1 to 255 printable characters: new for every bill, the same for every repetition of it",
        min_length = 1, max_length = 255)),
    request_body = NewStatementInput,
    responses((status = 201, body = EnteredStatement))
)]
#[post("/provider-statements")]
async fn enter_statement(
    operator: FullOperator,
    key: IdempotencyKey,
    body: Body<NewStatementInput>,
) -> Answer<Created<serde_json::Value>> {
    let input = body.0;
    let work = async |tx: &Tx| {
        let provider = catalog::get_provider_by_slug(tx.connection(), &input.provider).await?;
        let provider = provider.ok_or_else(|| AdminError::invalid("provider", "write the slug of a provider"))?;
        let new = NewStatement {
            provider: provider.slug,
            from: input.from.0,
            to: input.to.0,
            billed: input.billed_usd.0,
            note: input.note.clone(),
        };
        let id = incidents::enter_statement(tx, operator.actor(), &new).await?;
        Ok(EnteredStatement { id })
    };
    do_once(&operator, "provider statement", &key, &input, work).await
}

/// Bills, the last entered first.
#[utoipa::path(tag = "incidents", params(PageParams), responses((status = 200, body = Page<ProviderStatement>)))]
#[get("/provider-statements")]
async fn list_statements(operator: ReadOperator, params: Params<PageParams>) -> Answer<Json<Page<ProviderStatement>>> {
    let bounds = params.0.bounds::<StatementId>()?;
    let readers = operator.parts().database.readers();
    let rows = incidents::list_statements(readers, bounds.cursor, bounds.rows_to_read()).await?;
    Ok(Json(bounds.page(
        rows,
        |row| row.id.to_string(),
        ProviderStatement::from,
    )))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(enter_statement).service(list_statements);
}
