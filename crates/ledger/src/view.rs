//! What this node last knew of each tenant's available credit. A hint for choosing limits; never a decision:
//! a refusal is always the database's own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use domain::{Amount, TenantId};

const MAX_TENANTS: usize = 100_000;
const SHARDS: usize = 16;

/// The last known available credit by tenant. Bounded: it forgets rather than grow.
#[derive(Debug, Default)]
pub struct BalanceView {
    shards: [Mutex<HashMap<TenantId, Amount>>; SHARDS],
}

impl BalanceView {
    /// What the tenant had available as of the last batch or reading here; `None` when it is not known.
    pub fn available(&self, tenant: TenantId) -> Option<Amount> {
        self.shard(tenant).lock().ok()?.get(&tenant).copied()
    }

    /// Remembers a reading.
    pub fn set(&self, tenant: TenantId, available: Amount) {
        let Ok(mut known) = self.shard(tenant).lock() else {
            return;
        };
        if known.len() >= MAX_TENANTS / SHARDS && !known.contains_key(&tenant) {
            known.clear();
        }
        known.insert(tenant, available);
    }

    pub(crate) fn update(&self, available: &BTreeMap<TenantId, Amount>) {
        for (tenant, amount) in available {
            self.set(*tenant, *amount);
        }
    }

    fn shard(&self, tenant: TenantId) -> &Mutex<HashMap<TenantId, Amount>> {
        let byte = tenant.as_uuid().as_bytes()[15];
        &self.shards[usize::from(byte) % SHARDS]
    }
}
