//! What this node may send before the database has confirmed the hold.
//!
//! It knows each tenant's available credit as of the last commit or reading here, and what has been queued since. A
//! rich tenant's request may go at once; anybody else's waits for the commit. It never refuses by itself what the
//! database has not just refused: a view may be old.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    time::Duration,
};

use domain::{Amount, TenantId};
use tokio::time::Instant;

const MAX_TENANTS: usize = 100_000;
const SHARDS: usize = 16;
/// So many holds must be left for a request to go before its hold is durable.
const RICH: i64 = 20;
/// A view that is older says nothing: other nodes spend too.
const MAX_AGE: Duration = Duration::from_secs(10);
/// How long a refusal by the database is remembered.
const REFUSAL_MEMORY: Duration = Duration::from_secs(1);

/// Whether a request may be sent before its hold is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Send now; give out nothing of the answer before the hold is durable.
    AtOnce,
    /// Wait for the hold: the balance is near, or not known.
    AfterCommit,
}

/// What admission says to a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Queue it.
    Queue(Pace),
    /// The database has just refused as much: there was so much available.
    JustRefused(Amount),
}

#[derive(Debug, Clone, Copy)]
struct Known {
    available: Amount,
    read_at: Instant,
    /// Holds that are queued and not committed yet.
    queued: Amount,
    refused: Option<Refused>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    available: Amount,
    at: Instant,
}

/// The last known credit by tenant. Bounded: it forgets rather than grow.
#[derive(Debug, Default)]
pub struct AdmissionView {
    shards: [Mutex<HashMap<TenantId, Known>>; SHARDS],
}

impl AdmissionView {
    /// What the tenant had available as of the last commit or reading here; `None` when it is not known.
    pub fn available(&self, tenant: TenantId) -> Option<Amount> {
        Some(self.shard(tenant).lock().ok()?.get(&tenant)?.available)
    }

    /// Remembers a reading.
    pub fn set(&self, tenant: TenantId, available: Amount) {
        let Ok(mut shard) = self.shard(tenant).lock() else {
            return;
        };
        if shard.len() >= MAX_TENANTS / SHARDS && !shard.contains_key(&tenant) {
            shard.clear();
        }
        let read_at = Instant::now();
        let known = shard.entry(tenant).or_insert(Known {
            available,
            read_at,
            queued: Amount::ZERO,
            refused: None,
        });
        // credit that came back may cover what was refused
        if available > known.available {
            known.refused = None;
        }
        known.available = available;
        known.read_at = read_at;
    }

    pub(crate) fn update(&self, available: &BTreeMap<TenantId, Amount>) {
        for (tenant, amount) in available {
            self.set(*tenant, *amount);
        }
    }

    /// Counts a hold that is about to be queued, and says at which pace its request may go.
    pub(crate) fn admit(&self, tenant: TenantId, amount: Amount) -> Admitted {
        let Ok(mut shard) = self.shard(tenant).lock() else {
            return Admitted::Queue(Pace::AfterCommit);
        };
        let Some(known) = shard.get_mut(&tenant) else {
            return Admitted::Queue(Pace::AfterCommit);
        };
        if let Some(refused) = known.refused
            && refused.at.elapsed() < REFUSAL_MEMORY
            && amount > refused.available
        {
            return Admitted::JustRefused(refused.available);
        }
        let left = known.available.less(known.queued);
        let is_rich = left.nanos() / RICH >= amount.nanos() && known.read_at.elapsed() < MAX_AGE;
        known.queued = known.queued.checked_add(amount).unwrap_or(Amount::MAX);
        Admitted::Queue(if is_rich { Pace::AtOnce } else { Pace::AfterCommit })
    }

    /// A hold that was counted has been committed, refused or rejected.
    pub(crate) fn hold_ended(&self, tenant: TenantId, amount: Amount) {
        self.change(tenant, |known| known.queued = known.queued.less(amount));
    }

    /// The database refused a hold for want of credit.
    pub(crate) fn refused(&self, tenant: TenantId, available: Amount) {
        let refused = Refused {
            available,
            at: Instant::now(),
        };
        self.change(tenant, |known| known.refused = Some(refused));
    }

    fn change(&self, tenant: TenantId, change: impl FnOnce(&mut Known)) {
        if let Ok(mut shard) = self.shard(tenant).lock()
            && let Some(known) = shard.get_mut(&tenant)
        {
            change(known);
        }
    }

    fn shard(&self, tenant: TenantId) -> &Mutex<HashMap<TenantId, Known>> {
        let byte = tenant.as_uuid().as_bytes()[15];
        &self.shards[usize::from(byte) % SHARDS]
    }
}
