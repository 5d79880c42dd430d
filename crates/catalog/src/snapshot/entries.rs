//! What a snapshot consists of.

use std::sync::Arc;

use domain::{
    CredentialId, OfferId, PoolId, ProviderId, clock::UnixMs, request::Dialect, secret::SecretText,
    served_names::ServedNames,
};
use url::Url;

use crate::{
    credential::Basis,
    model::{ModelDetails, ModelKind},
    price_book::{Terms, Timeline},
};

/// An enabled model with the offers that can serve it.
#[derive(Debug)]
pub struct ModelEntry {
    /// Its public id.
    pub id: Arc<str>,
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
    /// When it was added.
    pub created_at: UnixMs,
    /// Offers by rising priority. An offer among them may still lack a price and so not be for sale.
    pub offers: Vec<Arc<OfferEntry>>,
}

/// A model served by a pool; everything on the way to the provider is enabled.
#[derive(Debug)]
pub struct OfferEntry {
    /// The offer.
    pub id: OfferId,
    /// The model's id.
    pub model: Arc<str>,
    /// The pool that serves it, with at least one credential.
    pub pool: Arc<PoolEntry>,
    /// Whose pool it is.
    pub provider: Arc<ProviderEntry>,
    /// The provider's name for the model.
    pub upstream_model_id: String,
    /// The wire format that is spoken.
    pub format: Dialect,
    /// How the provider's usage object is read.
    pub usage_profile: String,
    /// Offers with a lower number are tried first.
    pub priority: u32,
    /// The share of requests among offers of the same priority.
    pub weight: u32,
    /// The names that its upstream may report.
    pub served_names: ServedNames,
    pub(crate) terms: Timeline<Option<Terms>>,
}

/// An enabled pool with its enabled credentials.
#[derive(Debug)]
pub struct PoolEntry {
    /// The pool.
    pub id: PoolId,
    /// Its name.
    pub name: String,
    /// Whose credentials it holds.
    pub provider: Arc<ProviderEntry>,
    /// What it can use, in the order in which they were added.
    pub credentials: Vec<Arc<CredentialEntry>>,
}

/// An enabled provider.
#[derive(Debug)]
pub struct ProviderEntry {
    /// The provider.
    pub id: ProviderId,
    /// Its short name.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// The wire formats that it answers.
    pub formats: Vec<Dialect>,
    /// Where it is, without a slash at the end of the path.
    pub base_url: Url,
    /// Whether its address may be private.
    pub allow_private_address: bool,
}

/// An enabled credential with its secret, opened in memory.
#[derive(Debug)]
pub struct CredentialEntry {
    /// The credential.
    pub id: CredentialId,
    /// The pool that it serves.
    pub pool: PoolId,
    /// Its name for people.
    pub name: String,
    /// On what ground it may be used.
    pub basis: Basis,
    /// What the provider knows the account by.
    pub secret: SecretText,
}
