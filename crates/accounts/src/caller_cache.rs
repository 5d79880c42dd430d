//! From the hash of a presented key to what is known of it, without the database on most requests.

use std::sync::Arc;

use domain::scope::TenantScope;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use store::{Database, StoreError};

use crate::{
    AccountsError, Caller, KeyHash, KnownKey, Tenant, VirtualKey,
    entities::{tenant, virtual_key},
    lookup_cache::{Answer, LookupCache},
};

/// What is known of a presented key.
#[derive(Debug, Clone)]
pub enum CachedLookup {
    /// It was issued once; whether it may be used now is for [`KnownKey::admit`] to say.
    Known(Arc<KnownKey>),
    /// It was never issued.
    Unknown,
}

/// Records of virtual keys by full hash: at most 10 seconds old (2 for unknown keys), bounded, and emptied by
/// [`CallerCache::invalidate_all`] whenever the version of [`store::changes::Topic::Keys`] has moved.
pub struct CallerCache {
    keys: LookupCache<KnownKey>,
}

impl Default for CallerCache {
    fn default() -> Self {
        Self::new()
    }
}

impl CallerCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            keys: LookupCache::new(),
        }
    }

    /// The answer if it is at hand; otherwise ask [`CallerCache::resolve`].
    pub fn lookup(&self, hash: &KeyHash) -> Option<CachedLookup> {
        self.keys.lookup(hash).map(CachedLookup::from)
    }

    /// The answer at hand, or the database's. Those who ask for the same key at once share one query.
    ///
    /// # Errors
    /// [`AccountsError::Lookup`] when the database failed; nothing is remembered then.
    pub async fn resolve(&self, database: &Database, hash: KeyHash) -> Result<CachedLookup, AccountsError> {
        let answer = self.keys.resolve(hash, || load(database, hash)).await;
        answer.map(CachedLookup::from).map_err(AccountsError::Lookup)
    }

    /// Forgets everything, lookups under way included.
    pub fn invalidate_all(&self) {
        self.keys.invalidate_all();
    }
}

impl From<Answer<KnownKey>> for CachedLookup {
    fn from(answer: Answer<KnownKey>) -> Self {
        answer.map_or(Self::Unknown, Self::Known)
    }
}

async fn load(database: &Database, hash: KeyHash) -> Result<Option<KnownKey>, StoreError> {
    let found = virtual_key::Entity::find()
        .filter(virtual_key::Column::Hash.eq(hash.to_hex()))
        .find_also_related(tenant::Entity)
        .one(database.readers())
        .await?;
    let Some((key, tenant)) = found else { return Ok(None) };
    let key = VirtualKey::try_from(key)?;
    let tenant = tenant.ok_or_else(|| StoreError::damaged(format!("tenant of {}", key.id)))?;
    let tenant = Tenant::try_from(tenant)?;
    let standing = key.standing(tenant.enabled);
    let caller = Caller {
        scope: TenantScope::authenticated(key.tenant),
        key: key.id,
        limits: key.limits(),
        key_name: key.name,
        key_last4: key.last4,
        tenant_name: tenant.name,
        tier: tenant.tier,
        tenant_budget: tenant.budget,
        expires_at: key.expires_at,
    };
    Ok(Some(KnownKey::new(Arc::new(caller), standing)))
}
