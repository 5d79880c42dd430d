//! Providers: who runs models, and where.

use actix_web::{get, patch, post, web::Json};
use catalog::{NewProvider, ProviderView, UpdateProvider};
use domain::{ProviderId, request::Dialect};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    access::{FullOperator, ReadOperator},
    answer::Created,
    error::Answer,
    input::{Body, Params, PathId},
    page::{Page, PageParams},
    wire::{Instant, wire_enum},
};

wire_enum! {
    /// A wire format.
    WireFormat = Dialect {
        /// OpenAI Chat Completions.
        OpenaiChat,
        /// Anthropic Messages.
        AnthropicMessages,
    }
}

/// A provider.
#[derive(Serialize, ToSchema)]
pub(crate) struct Provider {
    #[schema(value_type = String, example = "prov_0193a1c2e4f87d50a1b2c3d4e5f60718")]
    id: ProviderId,
    /// Its short name; chooses the price templates and never changes.
    slug: String,
    /// Its name for people.
    name: String,
    /// The wire formats that it answers.
    formats: Vec<WireFormat>,
    /// Where it is, without a slash at the end.
    base_url: String,
    /// Whether its address may be private, and plain http used.
    allow_private_address: bool,
    /// Whether anything of it is for sale.
    enabled: bool,
    created_at: Instant,
}

impl From<ProviderView> for Provider {
    fn from(view: ProviderView) -> Self {
        Self {
            id: view.id,
            slug: view.slug,
            name: view.name,
            formats: view.formats.into_iter().map(WireFormat::from).collect(),
            base_url: view.base_url.to_string(),
            allow_private_address: view.allow_private_address,
            enabled: view.enabled,
            created_at: Instant(view.created_at),
        }
    }
}

/// A provider to add. It starts enabled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProvider)]
struct NewProviderInput {
    /// 1 to 63 of `a-z`, `0-9`, `-`, `_`; unique.
    #[schema(example = "openai")]
    slug: String,
    /// Its name for people.
    name: String,
    /// At least one wire format.
    formats: Vec<WireFormat>,
    /// An absolute https URL (http where private addresses are allowed) without user, query and fragment.
    #[schema(example = "https://api.openai.com/v1")]
    base_url: String,
    /// Whether its address may be private, and plain http used.
    #[serde(default)]
    allow_private_address: bool,
}

/// What to change of a provider; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProviderUpdate)]
struct ProviderUpdateInput {
    name: Option<String>,
    formats: Option<Vec<WireFormat>>,
    /// Another host, port or scheme is refused while the provider has enabled credentials.
    base_url: Option<String>,
    allow_private_address: Option<bool>,
    enabled: Option<bool>,
}

fn dialects(formats: Vec<WireFormat>) -> Vec<Dialect> {
    formats.into_iter().map(Dialect::from).collect()
}

/// Providers, oldest first.
#[utoipa::path(tag = "providers", params(PageParams), responses((status = 200, body = Page<Provider>)))]
#[get("/providers")]
async fn list_providers(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<Provider>>> {
    let bounds = page.0.bounds::<ProviderId>()?;
    let readers = operator.parts().database.readers();
    let rows = catalog::list_providers(readers, bounds.cursor, bounds.rows_to_read().into()).await?;
    Ok(Json(bounds.page(rows, |row| row.id.to_string(), Provider::from)))
}

/// One provider.
#[utoipa::path(tag = "providers", params(("provider_id" = String, Path)), responses((status = 200, body = Provider)))]
#[get("/providers/{provider_id}")]
async fn get_provider(operator: ReadOperator, id: PathId<ProviderId>) -> Answer<Json<Provider>> {
    Ok(Json(
        catalog::get_provider(operator.parts().database.readers(), id.0)
            .await?
            .into(),
    ))
}

/// Adds a provider.
#[utoipa::path(tag = "providers", request_body = NewProviderInput, responses((status = 201, body = Provider)))]
#[post("/providers")]
async fn create_provider(operator: FullOperator, body: Body<NewProviderInput>) -> Answer<Created<Provider>> {
    let new = NewProvider {
        slug: body.0.slug,
        name: body.0.name,
        formats: dialects(body.0.formats),
        base_url: body.0.base_url,
        allow_private_address: body.0.allow_private_address,
    };
    let tx = operator.begin().await?;
    let view = catalog::create_provider(&tx, operator.actor(), new).await?;
    operator.commit_catalog(tx).await?;
    Ok(Created(view.into()))
}

/// Changes a provider.
#[utoipa::path(
    tag = "providers",
    params(("provider_id" = String, Path)),
    request_body = ProviderUpdateInput,
    responses((status = 200, body = Provider))
)]
#[patch("/providers/{provider_id}")]
async fn update_provider(
    operator: FullOperator,
    id: PathId<ProviderId>,
    body: Body<ProviderUpdateInput>,
) -> Answer<Json<Provider>> {
    let update = UpdateProvider {
        name: body.0.name,
        formats: body.0.formats.map(dialects),
        base_url: body.0.base_url,
        allow_private_address: body.0.allow_private_address,
        enabled: body.0.enabled,
    };
    let tx = operator.begin().await?;
    let view = catalog::update_provider(&tx, operator.actor(), id.0, update).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(view.into()))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_providers)
        .service(create_provider)
        .service(get_provider)
        .service(update_provider);
}
