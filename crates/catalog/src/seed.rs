//! The seed: models and offer templates that are compiled in, as of the date written in them.
//!
//! Models are written to the database once; from then on they are the operator's. Offers stay templates: a source of
//! defaults for an operator who attaches a model to a pool.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use domain::pricing::{
    BasePrice, Card, ContextStep, Multiplier, PinnedRegion, PriceEntry, PriceEntryParts, Promotion, ScheduledCard,
    ServiceTier, TimeWindow,
};
use sea_orm::{EntityTrait, QuerySelect};
use serde::{Deserialize, Serialize};
use store::{Tx, audit::Actor, bulk::Rows};

use crate::{
    CatalogError, change,
    entities::{model, model_alias},
    model::{ModelDetails, ModelKind, details_text},
    wording,
};

/// Constant data, read on first use. A test reads all of it, so the error is for a build that went wrong.
static SEED: LazyLock<Result<Seed, String>> = LazyLock::new(|| read_seed(include_str!("../seed/models.json")));

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    #[serde(rename = "schema_version")]
    _schema_version: u32,
    #[serde(rename = "catalog_date")]
    _catalog_date: String,
    #[serde(rename = "newest_evidence")]
    _newest_evidence: String,
    currency: String,
    token_unit: u64,
    #[serde(rename = "sources")]
    _sources: Vec<SeedSource>,
    models: Vec<SeedModel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedSource {
    #[serde(rename = "code")]
    _code: String,
    #[serde(rename = "repo")]
    _repo: String,
    #[serde(rename = "commit")]
    _commit: Option<String>,
    #[serde(rename = "snapshot")]
    _snapshot: String,
    #[serde(rename = "licence")]
    _licence: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedModel {
    id: String,
    name: String,
    vendor: String,
    kind: ModelKind,
    aliases: Vec<String>,
    modality: Modality,
    context_window: Option<i64>,
    max_output_tokens: Option<i64>,
    capabilities: Vec<String>,
    released: Option<String>,
    deprecated: bool,
    deprecation_date: Option<String>,
    notes: Option<String>,
    offers: Vec<SeedOffer>,
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "source_date")]
    _source_date: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modality {
    input: Vec<String>,
    output: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedOffer {
    provider: String,
    upstream_model_id: String,
    apis: Vec<String>,
    regions: Vec<String>,
    price: BasePrice,
    #[serde(default)]
    tiers: Vec<ContextStep>,
    #[serde(default)]
    time_windows: Vec<TimeWindow>,
    #[serde(default)]
    service_tiers: BTreeMap<ServiceTier, Card>,
    #[serde(default)]
    scheduled: Vec<ScheduledCard>,
    promotion: Option<Promotion>,
    #[serde(default)]
    region_multipliers: BTreeMap<PinnedRegion, Multiplier>,
    #[serde(default)]
    retired: bool,
    usage_profile: String,
    source: String,
    source_date: String,
}

/// What the seed knows about a model at a provider. Not for sale by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferTemplate {
    /// The provider's slug.
    pub provider: String,
    /// The provider's name for the model.
    pub upstream_model_id: String,
    /// Wire formats that it answers, best first.
    pub formats: Vec<String>,
    /// How to read the usage object of the first format.
    pub usage_profile: String,
    /// Where the price holds: `global`, or a geography.
    pub regions: Vec<String>,
    /// The list price.
    pub price: PriceEntry,
    /// Whether the provider no longer answers.
    pub retired: bool,
    /// Where the price came from.
    pub source: String,
    /// As of which day.
    pub source_date: String,
}

/// What seeding added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Seeded {
    /// Models that were not there before.
    pub models: usize,
    /// Aliases of those models.
    pub aliases: usize,
}

/// Adds the models of the seed that the database does not have, with their aliases. What is there stays as it is, and
/// so does a name that stands for something else by now.
///
/// # Errors
/// What the database says.
pub async fn seed_models(tx: &Tx) -> Result<Seeded, CatalogError> {
    let seed = seed()?;
    // usually there is nothing to do: look before taking a turn
    if Names::read(tx).await?.missing(seed).is_empty() {
        return Ok(Seeded::default());
    }
    change::take_turn(tx).await?;
    let names = Names::read(tx).await?;
    let models = names.missing(seed);
    if models.is_empty() {
        return Ok(Seeded::default());
    }
    let mut taken = names.all();
    taken.extend(models.iter().map(|model| model.id.clone()));
    let mut aliases = Vec::new();
    for model in &models {
        for alias in &model.aliases {
            let folded = wording::folded(alias).into_owned();
            if taken.insert(folded.clone()) {
                aliases.push((folded, alias.clone(), model.id.clone()));
            }
        }
    }
    insert_models(tx, &models).await?;
    insert_aliases(tx, &aliases).await?;
    let seeded = Seeded {
        models: models.len(),
        aliases: aliases.len(),
    };
    let actor = Actor::system("seed");
    change::record(tx, &actor, "catalog.seed", "models", None, Some(&seeded)).await?;
    Ok(seeded)
}

/// What the seed knows about who sells a model; the first is its vendor's own API where there is one. Empty for a model
/// that the seed does not have.
///
/// # Errors
/// Only when the compiled-in seed is unreadable.
pub fn seed_offers(model_id: &str) -> Result<Vec<OfferTemplate>, CatalogError> {
    let model = seed()?.models.iter().find(|model| model.id == model_id);
    model
        .into_iter()
        .flat_map(|model| &model.offers)
        .map(SeedOffer::template)
        .collect()
}

/// The names under which the seed knows a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SeedNames {
    /// What clients may call it, its snapshots among them.
    pub aliases: Vec<String>,
    /// What its vendor's own API calls it.
    pub vendors_own: Option<String>,
}

/// The names of a model; none for one that the seed does not have.
pub(crate) fn seed_names(model_id: &str) -> Result<SeedNames, CatalogError> {
    let model = seed()?.models.iter().find(|model| model.id == model_id);
    Ok(model.map_or_else(SeedNames::default, |model| SeedNames {
        aliases: model.aliases.clone(),
        vendors_own: model
            .offers
            .iter()
            .find(|offer| offer.provider == model.vendor && !offer.retired)
            .map(|offer| offer.upstream_model_id.clone()),
    }))
}

#[cfg(test)]
pub(crate) fn seed_model_ids() -> Result<Vec<String>, CatalogError> {
    Ok(seed()?.models.iter().map(|model| model.id.clone()).collect())
}

fn seed() -> Result<&'static Seed, CatalogError> {
    SEED.as_ref()
        .map_err(|problem| CatalogError::damaged(format!("compiled-in seed: {problem}")))
}

fn read_seed(text: &str) -> Result<Seed, String> {
    let seed: Seed = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if seed.currency != "USD" || seed.token_unit != 1_000_000 {
        return Err("prices are not in USD per 1,000,000 tokens".to_owned());
    }
    Ok(seed)
}

/// The names that stand for a model in the database.
struct Names {
    ids: HashSet<String>,
    aliases: HashSet<String>,
}

impl Names {
    async fn read(tx: &Tx) -> Result<Self, CatalogError> {
        let ids = model::Entity::find().select_only().column(model::Column::Id);
        let aliases = model_alias::Entity::find()
            .select_only()
            .column(model_alias::Column::Alias);
        let ids: Vec<String> = ids.into_tuple().all(tx.connection()).await?;
        let aliases: Vec<String> = aliases.into_tuple().all(tx.connection()).await?;
        Ok(Self {
            ids: ids.into_iter().collect(),
            aliases: aliases.into_iter().collect(),
        })
    }

    /// Models of the seed that are not there. An operator's alias may have the name of a model that a newer seed
    /// brings: the alias stays, and the model is left out.
    fn missing(&self, seed: &'static Seed) -> Vec<&'static SeedModel> {
        let is_new = |model: &&SeedModel| !self.ids.contains(&model.id) && !self.aliases.contains(&model.id);
        seed.models.iter().filter(is_new).collect()
    }

    fn all(self) -> HashSet<String> {
        self.ids.into_iter().chain(self.aliases).collect()
    }
}

async fn insert_models(tx: &Tx, models: &[&SeedModel]) -> Result<(), CatalogError> {
    let now = tx.now().await?;
    let details = models
        .iter()
        .map(|model| details_text(&model.details()))
        .collect::<Result<Vec<_>, _>>()?;
    // 0 stands for "not published": no window and no limit is 0 tokens long
    let rows = Rows::new()
        .texts("id", models.iter().map(|model| model.id.clone()))
        .texts("name", models.iter().map(|model| model.name.clone()))
        .texts("vendor", models.iter().map(|model| model.vendor.clone()))
        .texts("kind", models.iter().map(|model| model.kind.as_str().to_owned()))
        .numbers(
            "context_window",
            models.iter().map(|model| model.context_window.unwrap_or(0)),
        )
        .numbers(
            "max_output_tokens",
            models.iter().map(|model| model.max_output_tokens.unwrap_or(0)),
        )
        .texts("details_json", details)
        .numbers("created_at_ms", models.iter().map(|_| now.0));
    tx.execute_rows(
        "INSERT INTO model (id, name, vendor, kind, context_window, max_output_tokens, details_json, enabled, \
         created_at_ms) SELECT r.id, r.name, r.vendor, r.kind, NULLIF(r.context_window, 0), \
         NULLIF(r.max_output_tokens, 0), r.details_json, TRUE, r.created_at_ms FROM {rows}",
        &rows,
    )
    .await?;
    Ok(())
}

async fn insert_aliases(tx: &Tx, aliases: &[(String, String, String)]) -> Result<(), CatalogError> {
    let rows = Rows::new()
        .texts("alias", aliases.iter().map(|(alias, _, _)| alias.clone()))
        .texts("spelling", aliases.iter().map(|(_, spelling, _)| spelling.clone()))
        .texts("model_id", aliases.iter().map(|(_, _, model)| model.clone()));
    tx.execute_rows(
        "INSERT INTO model_alias (alias, spelling, model_id) SELECT r.alias, r.spelling, r.model_id FROM {rows}",
        &rows,
    )
    .await?;
    Ok(())
}

impl SeedModel {
    fn details(&self) -> ModelDetails {
        ModelDetails {
            input: self.modality.input.clone(),
            output: self.modality.output.clone(),
            capabilities: self.capabilities.clone(),
            released: self.released.clone(),
            deprecated: self.deprecated,
            deprecation_date: self.deprecation_date.clone(),
            notes: self.notes.clone(),
        }
    }
}

impl SeedOffer {
    fn template(&self) -> Result<OfferTemplate, CatalogError> {
        let parts = PriceEntryParts {
            price: self.price.clone(),
            tiers: self.tiers.clone(),
            time_windows: self.time_windows.clone(),
            service_tiers: self.service_tiers.clone(),
            scheduled: self.scheduled.clone(),
            promotion: self.promotion.clone(),
            region_multipliers: self.region_multipliers.clone(),
        };
        Ok(OfferTemplate {
            provider: self.provider.clone(),
            upstream_model_id: self.upstream_model_id.clone(),
            formats: self.apis.clone(),
            usage_profile: self.usage_profile.clone(),
            regions: self.regions.clone(),
            price: PriceEntry::try_from(parts)?,
            retired: self.retired,
            source: self.source.clone(),
            source_date: self.source_date.clone(),
        })
    }
}
