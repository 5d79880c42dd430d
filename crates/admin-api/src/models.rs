//! Models: the public catalog entries and their aliases. Ids contain a slash: write it as `%2F` in a path.

use actix_web::{
    delete, get, patch, post,
    web::{Json, Path},
};
use catalog::{ModelDetails, ModelView, NewModel, UpdateModel};
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
    /// What a model does.
    ModelKind = catalog::ModelKind {
        /// Answers in text, with or without tools.
        Chat,
        /// Turns text into vectors.
        Embedding,
        /// Makes images.
        Image,
        /// Speaks text.
        Tts,
        /// Writes down speech.
        Stt,
        /// Orders documents by relevance.
        Rerank,
        /// Classifies content.
        Moderation,
    }
}

/// What is known about a model beyond its limits. It decides no price.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct ModelFacts {
    /// Kinds of content that it takes: `text`, `image`, `audio`, `video`, `pdf`.
    input: Vec<String>,
    /// Kinds of content that it makes.
    output: Vec<String>,
    /// `tools`, `vision`, `reasoning`, `json_schema`, `streaming`, `caching`, ...
    capabilities: Vec<String>,
    /// The day of its release, `YYYY-MM-DD`.
    released: Option<String>,
    /// Whether its vendor advises against new use, or has withdrawn it.
    deprecated: bool,
    /// The day on which its vendor withdraws it, `YYYY-MM-DD`, where one is known.
    deprecation_date: Option<String>,
    /// Anything else worth knowing.
    notes: Option<String>,
}

impl From<ModelDetails> for ModelFacts {
    fn from(details: ModelDetails) -> Self {
        let ModelDetails {
            input,
            output,
            capabilities,
            released,
            deprecated,
            deprecation_date,
            notes,
        } = details;
        Self {
            input,
            output,
            capabilities,
            released,
            deprecated,
            deprecation_date,
            notes,
        }
    }
}

impl From<ModelFacts> for ModelDetails {
    fn from(facts: ModelFacts) -> Self {
        let ModelFacts {
            input,
            output,
            capabilities,
            released,
            deprecated,
            deprecation_date,
            notes,
        } = facts;
        Self {
            input,
            output,
            capabilities,
            released,
            deprecated,
            deprecation_date,
            notes,
        }
    }
}

/// A model.
#[derive(Serialize, ToSchema)]
struct Model {
    /// Its public id.
    #[schema(example = "openai/gpt-4o")]
    id: String,
    name: String,
    /// Who made it.
    vendor: String,
    kind: ModelKind,
    /// Other names that clients may use.
    aliases: Vec<String>,
    /// Tokens that input and output may have together, where published.
    #[schema(required)]
    context_window: Option<u64>,
    /// Tokens that an answer may have, where published.
    #[schema(required)]
    max_output_tokens: Option<u64>,
    details: ModelFacts,
    /// Whether it is for sale.
    enabled: bool,
    created_at: Instant,
}

impl From<ModelView> for Model {
    fn from(view: ModelView) -> Self {
        Self {
            id: view.id,
            name: view.name,
            vendor: view.vendor,
            kind: view.kind.into(),
            aliases: view.aliases,
            context_window: view.context_window,
            max_output_tokens: view.max_output_tokens,
            details: view.details.into(),
            enabled: view.enabled,
            created_at: Instant(view.created_at),
        }
    }
}

/// A model to add. It starts enabled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewModel)]
struct NewModelInput {
    /// `vendor/name` in lower case; unique over all ids and aliases.
    #[schema(example = "acme/writer-1")]
    id: String,
    name: String,
    kind: ModelKind,
    /// Other names that clients may use.
    #[serde(default)]
    aliases: Vec<String>,
    /// Tokens that input and output may have together.
    context_window: Option<u64>,
    /// Tokens that an answer may have.
    max_output_tokens: Option<u64>,
    #[serde(default)]
    details: ModelFacts,
}

/// What to change of a model; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModelUpdate)]
struct ModelUpdateInput {
    name: Option<String>,
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    /// Replaces all of the details.
    details: Option<ModelFacts>,
    enabled: Option<bool>,
}

/// Another name for a model.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAlias)]
struct NewAliasInput {
    /// Unique over all ids and aliases, compared without case.
    alias: String,
}

/// Models, in the order of their ids.
#[utoipa::path(tag = "models", params(PageParams), responses((status = 200, body = Page<Model>)))]
#[get("/models")]
async fn list_models(operator: ReadOperator, page: Params<PageParams>) -> Answer<Json<Page<Model>>> {
    let bounds = page.0.bounds::<String>()?;
    let readers = operator.parts().database.readers();
    let rows = catalog::list_models(readers, bounds.cursor.as_deref(), bounds.rows_to_read().into()).await?;
    Ok(Json(bounds.page(rows, |row| row.id.clone(), Model::from)))
}

/// One model, by its id.
#[utoipa::path(tag = "models", params(("model_id" = String, Path)), responses((status = 200, body = Model)))]
#[get("/models/{model_id}")]
async fn get_model(operator: ReadOperator, id: PathId<String>) -> Answer<Json<Model>> {
    Ok(Json(
        catalog::get_model(operator.parts().database.readers(), &id.0)
            .await?
            .into(),
    ))
}

/// Adds a model with its aliases.
#[utoipa::path(tag = "models", request_body = NewModelInput, responses((status = 201, body = Model)))]
#[post("/models")]
async fn create_model(operator: FullOperator, body: Body<NewModelInput>) -> Answer<Created<Model>> {
    let new = NewModel {
        id: body.0.id,
        name: body.0.name,
        kind: body.0.kind.into(),
        aliases: body.0.aliases,
        context_window: body.0.context_window,
        max_output_tokens: body.0.max_output_tokens,
        details: body.0.details.into(),
    };
    let tx = operator.begin().await?;
    let view = catalog::create_model(&tx, operator.actor(), new).await?;
    operator.commit_catalog(tx).await?;
    Ok(Created(view.into()))
}

/// Changes a model.
#[utoipa::path(
    tag = "models",
    params(("model_id" = String, Path)),
    request_body = ModelUpdateInput,
    responses((status = 200, body = Model))
)]
#[patch("/models/{model_id}")]
async fn update_model(operator: FullOperator, id: PathId<String>, body: Body<ModelUpdateInput>) -> Answer<Json<Model>> {
    let update = UpdateModel {
        name: body.0.name,
        context_window: body.0.context_window,
        max_output_tokens: body.0.max_output_tokens,
        details: body.0.details.map(ModelDetails::from),
        enabled: body.0.enabled,
    };
    let tx = operator.begin().await?;
    let view = catalog::update_model(&tx, operator.actor(), &id.0, update).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(view.into()))
}

/// Gives a model another name.
#[utoipa::path(
    tag = "models",
    params(("model_id" = String, Path)),
    request_body = NewAliasInput,
    responses((status = 201, body = Model))
)]
#[post("/models/{model_id}/aliases")]
async fn add_alias(operator: FullOperator, id: PathId<String>, body: Body<NewAliasInput>) -> Answer<Created<Model>> {
    let tx = operator.begin().await?;
    let view = catalog::add_alias(&tx, operator.actor(), &id.0, &body.0.alias).await?;
    operator.commit_catalog(tx).await?;
    Ok(Created(view.into()))
}

/// Takes a name away from a model.
#[utoipa::path(
    tag = "models",
    params(("model_id" = String, Path), ("alias" = String, Path)),
    responses((status = 200, body = Model))
)]
#[delete("/models/{model_id}/aliases/{alias}")]
async fn remove_alias(operator: FullOperator, path: Path<(String, String)>) -> Answer<Json<Model>> {
    let (id, alias) = path.into_inner();
    let tx = operator.begin().await?;
    let view = catalog::remove_alias(&tx, operator.actor(), &id, &alias).await?;
    operator.commit_catalog(tx).await?;
    Ok(Json(view.into()))
}

pub(crate) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_models)
        .service(create_model)
        .service(get_model)
        .service(update_model)
        .service(add_alias)
        .service(remove_alias);
}
