//! The catalog: providers, pools, credentials and their health, models, offers, and the price book.
//!
//! Owns its tables and the immutable [`Snapshot`] that the request path reads. Writes take the caller's transaction,
//! leave an audit row and a change notice in it, and never commit. What comes out shows no secret, except the
//! credentials of a snapshot, which are opened in memory. Nothing here speaks to a provider.

mod alias;
mod base_url;
mod cache;
mod change;
mod credential;
mod entities;
mod error;
mod health;
mod model;
mod offer;
mod offer_defaults;
mod offer_names;
mod page;
mod pool;
mod price_book;
mod provider;
mod reading;
mod sales;
mod seed;
mod snapshot;
mod wording;

pub use alias::{add_alias, find_model, remove_alias};
pub use base_url::origin_of;
pub use cache::CatalogCache;
pub use credential::{
    Basis, CredentialView, NewCredential, UpdateCredential, create_credential, get_credential, list_credentials,
    remove_credential, rotate_credential, update_credential,
};
pub use error::CatalogError;
pub use health::{CredentialHealth, Fault, Outage};
pub use model::{
    ModelDetails, ModelKind, ModelView, NewModel, UpdateModel, create_model, get_model, list_models, update_model,
};
pub use offer::{
    NewOffer, OfferFilter, OfferView, UpdateOffer, create_offer, create_offers, get_offer, list_offers, put_back_at,
    update_offer,
};
pub use page::MAX_PAGE;
pub use pool::{NewPool, PoolView, UpdatePool, create_pool, get_pool, list_pools, update_pool};
pub use price_book::{
    CancellationView, HistoryOffer, HistoryPrice, ListedModel, ListedOffer, ListedPrice, ListedTier,
    MIN_CANCEL_LEAD_MS, MIN_LEAD_MS, ModelOverride, ModelPriceHistory, NoticePeriod, OfferPrice, PoolMultiplier,
    PriceBookView, PriceChange, PriceItemView, PriceKind, PriceListing, PricePreview, PriceVersionView, TierMultiplier,
    cancel_version, get_price_version, list_price_versions, listing_at, model_price_history, preview_prices, price_at,
    price_history, publish,
};
pub use provider::{
    NewProvider, ProviderView, UpdateProvider, create_provider, get_provider, get_provider_by_slug, list_providers,
    update_provider,
};
pub use seed::{OfferTemplate, Seeded, seed_models, seed_offers};
pub use snapshot::{CONFIRM_MS, CredentialEntry, ModelEntry, OfferEntry, PoolEntry, ProviderEntry, Snapshot};
