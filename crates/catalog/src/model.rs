//! Models: the public catalog entries, seeded or added by operators.

use domain::clock::UnixMs;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use store::{Tx, audit::Actor};

use crate::{CatalogError, alias, change, entities::model, page::page_length, sales, wording};

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
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

impl ModelKind {
    const ALL: [Self; 7] = [
        Self::Chat,
        Self::Embedding,
        Self::Image,
        Self::Tts,
        Self::Stt,
        Self::Rerank,
        Self::Moderation,
    ];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
            Self::Image => "image",
            Self::Tts => "tts",
            Self::Stt => "stt",
            Self::Rerank => "rerank",
            Self::Moderation => "moderation",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What is known about a model beyond its limits. For people and filters; it decides no price.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelDetails {
    /// Kinds of content that it takes: `text`, `image`, `audio`, `video`, `pdf`.
    pub input: Vec<String>,
    /// Kinds of content that it makes.
    pub output: Vec<String>,
    /// `tools`, `vision`, `reasoning`, `json_schema`, `streaming`, `caching`, ...
    pub capabilities: Vec<String>,
    /// The day of its release, `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// Whether its vendor advises against new use, or has withdrawn it.
    pub deprecated: bool,
    /// The day on which its vendor withdraws it, `YYYY-MM-DD`, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecation_date: Option<String>,
    /// Anything else worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// A model as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelView {
    /// Its public id, `vendor/name`.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Who made it.
    pub vendor: String,
    /// What it does.
    pub kind: ModelKind,
    /// Other names that clients may use.
    pub aliases: Vec<String>,
    /// Tokens that input and output may have together, where published.
    pub context_window: Option<u64>,
    /// Tokens that an answer may have, where published.
    pub max_output_tokens: Option<u64>,
    /// What else is known.
    pub details: ModelDetails,
    /// Whether it is for sale.
    pub enabled: bool,
    /// When it was added.
    pub created_at: UnixMs,
}

/// A model to add. It starts enabled.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// `vendor/name` in lower case; unique over all ids and aliases.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// What it does.
    pub kind: ModelKind,
    /// Other names that clients may use.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Tokens that input and output may have together.
    #[serde(default)]
    pub context_window: Option<u64>,
    /// Tokens that an answer may have.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// What else is known.
    #[serde(default)]
    pub details: ModelDetails,
}

/// What to change of a model; what is `None` stays.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateModel {
    /// Its name for people.
    pub name: Option<String>,
    /// Tokens that input and output may have together.
    pub context_window: Option<u64>,
    /// Tokens that an answer may have.
    pub max_output_tokens: Option<u64>,
    /// What else is known, as a whole.
    pub details: Option<ModelDetails>,
    /// Whether it is for sale.
    pub enabled: Option<bool>,
}

impl ModelView {
    pub(crate) fn from_row(row: model::Model, aliases: Vec<String>) -> Result<Self, CatalogError> {
        let damaged = || CatalogError::damaged(format!("model {}", row.id));
        let tokens = |count: Option<i64>| count.map(u64::try_from).transpose().map_err(|_| damaged());
        Ok(Self {
            kind: ModelKind::from_stored(&row.kind).ok_or_else(damaged)?,
            context_window: tokens(row.context_window)?,
            max_output_tokens: tokens(row.max_output_tokens)?,
            details: serde_json::from_str(&row.details_json).map_err(|_| damaged())?,
            aliases,
            id: row.id,
            name: row.name,
            vendor: row.vendor,
            enabled: row.enabled,
            created_at: UnixMs(row.created_at_ms),
        })
    }

    fn to_row(&self) -> Result<model::Model, CatalogError> {
        Ok(model::Model {
            id: self.id.clone(),
            name: self.name.clone(),
            vendor: self.vendor.clone(),
            kind: self.kind.as_str().to_owned(),
            context_window: stored_tokens("context_window", self.context_window)?,
            max_output_tokens: stored_tokens("max_output_tokens", self.max_output_tokens)?,
            details_json: details_text(&self.details)?,
            enabled: self.enabled,
            created_at_ms: self.created_at.0,
        })
    }
}

/// Adds a model with its aliases.
///
/// # Errors
/// [`CatalogError::Invalid`], [`CatalogError::Taken`] when a name stands for a model already.
pub async fn create_model(tx: &Tx, actor: &Actor, new: NewModel) -> Result<ModelView, CatalogError> {
    wording::check_model_id("id", &new.id)?;
    wording::check_name("name", &new.name)?;
    change::take_turn(tx).await?;
    alias::refuse_taken(tx, "id", &new.id).await?;
    let vendor = new
        .id
        .split_once('/')
        .map(|(vendor, _)| vendor.to_owned())
        .unwrap_or_default();
    let view = ModelView {
        id: new.id,
        name: new.name,
        vendor,
        kind: new.kind,
        aliases: Vec::new(),
        context_window: new.context_window,
        max_output_tokens: new.max_output_tokens,
        details: new.details,
        enabled: true,
        created_at: tx.now().await?,
    };
    model::Entity::insert(view.to_row()?.into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    for name in &new.aliases {
        alias::insert_alias(tx, &view.id, name).await?;
    }
    let view = get_model(tx.connection(), &view.id).await?;
    change::record(tx, actor, "model.create", &view.id, None, Some(&view)).await?;
    Ok(view)
}

/// One model, by its id.
///
/// # Errors
/// [`CatalogError::NotFound`].
pub async fn get_model(connection: &impl ConnectionTrait, id: &str) -> Result<ModelView, CatalogError> {
    let row = model::Entity::find_by_id(id).one(connection).await?;
    let row = row.ok_or_else(|| CatalogError::not_found("model", id))?;
    let mut aliases = alias::aliases_of(connection, vec![id.to_owned()]).await?;
    ModelView::from_row(row, aliases.remove(id).unwrap_or_default())
}

/// Models in the order of their ids, from the one after `after` on.
///
/// # Errors
/// What the database says.
pub async fn list_models(
    connection: &impl ConnectionTrait,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<ModelView>, CatalogError> {
    let mut query = model::Entity::find()
        .order_by_asc(model::Column::Id)
        .limit(page_length(limit));
    if let Some(after) = after {
        query = query.filter(model::Column::Id.gt(after));
    }
    let rows = query.all(connection).await?;
    let mut aliases = alias::aliases_of(connection, rows.iter().map(|row| row.id.clone()).collect()).await?;
    rows.into_iter()
        .map(|row| {
            let own = aliases.remove(&row.id).unwrap_or_default();
            ModelView::from_row(row, own)
        })
        .collect()
}

/// Changes a model.
///
/// # Errors
/// [`CatalogError::NotFound`], [`CatalogError::Invalid`].
pub async fn update_model(tx: &Tx, actor: &Actor, id: &str, update: UpdateModel) -> Result<ModelView, CatalogError> {
    change::take_turn(tx).await?;
    let before = get_model(tx.connection(), id).await?;
    let mut after = before.clone();
    if let Some(name) = update.name {
        wording::check_name("name", &name)?;
        after.name = name;
    }
    after.context_window = update.context_window.or(after.context_window);
    after.max_output_tokens = update.max_output_tokens.or(after.max_output_tokens);
    after.details = update.details.unwrap_or(after.details);
    after.enabled = update.enabled.unwrap_or(after.enabled);
    after
        .to_row()?
        .into_active_model()
        .reset_all()
        .update(tx.connection())
        .await?;
    sales::note_first_sales(tx).await?;
    change::record(tx, actor, "model.update", id, Some(&before), Some(&after)).await?;
    Ok(after)
}

pub(crate) fn details_text(details: &ModelDetails) -> Result<String, CatalogError> {
    serde_json::to_string(details).map_err(|_| CatalogError::damaged("details of a model"))
}

fn stored_tokens(field: &'static str, tokens: Option<u64>) -> Result<Option<i64>, CatalogError> {
    // far above any context window, and low enough that no product with a price overflows
    const MOST_TOKENS: u64 = 1_000_000_000;
    if tokens.is_some_and(|count| count == 0 || count > MOST_TOKENS) {
        return Err(CatalogError::invalid(
            field,
            "write a number from 1 to 1,000,000,000, or leave it out",
        ));
    }
    Ok(tokens.and_then(|count| i64::try_from(count).ok()))
}
