//! Which credential to use next: round robin over a pool, leaving out those that a provider has just refused.
//!
//! In the memory of one node. A healthy credential costs a read lock and an atomic counter; only faults, and the first
//! success after one, take the write lock. It outlives snapshots.

mod rule;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::{CredentialId, PoolId, clock::UnixMs};
use parking_lot::RwLock;
pub use rule::{Fault, Outage};

use crate::snapshot::{CredentialEntry, PoolEntry, Snapshot};

/// What a node has learnt about credentials.
#[derive(Debug, Default)]
pub struct CredentialHealth {
    /// Only credentials that were refused since their last success.
    outages: RwLock<HashMap<CredentialId, Outage>>,
    turns: RwLock<HashMap<PoolId, AtomicUsize>>,
}

impl CredentialHealth {
    /// The next credential of a pool that is not resting and not excluded, in turn. `None` when there is none.
    pub fn pick(&self, pool: &PoolEntry, now: UnixMs, exclude: &[CredentialId]) -> Option<Arc<CredentialEntry>> {
        let count = pool.credentials.len();
        if count == 0 {
            return None;
        }
        let turn = self.next_turn(pool.id) % count;
        let outages = self.outages.read();
        let is_usable = |credential: &&Arc<CredentialEntry>| {
            !exclude.contains(&credential.id)
                && !outages.get(&credential.id).is_some_and(|outage| outage.is_resting(now))
        };
        let (before, from) = pool.credentials.split_at(turn);
        from.iter().chain(before).find(is_usable).cloned()
    }

    /// When the first resting credential of a pool may be used again; `None` when one may be used now.
    pub fn usable_from(&self, pool: &PoolEntry, now: UnixMs) -> Option<UnixMs> {
        let outages = self.outages.read();
        let mut earliest: Option<UnixMs> = None;
        for credential in &pool.credentials {
            let until = outages
                .get(&credential.id)
                .filter(|outage| outage.is_resting(now))?
                .until;
            earliest = Some(earliest.map_or(until, |earliest| earliest.min(until)));
        }
        earliest
    }

    /// Remembers that a provider refused a credential, and answers what follows.
    pub fn report(&self, credential: CredentialId, fault: Fault, now: UnixMs) -> Outage {
        let mut outages = self.outages.write();
        let outage = Outage::after(outages.get(&credential).copied(), fault, now);
        outages.insert(credential, outage);
        outage
    }

    /// Forgets the faults of a credential that works. A success during its rest is one of a request that began before,
    /// and says nothing.
    pub fn report_success(&self, credential: CredentialId, now: UnixMs) {
        let may_forget = |outage: &Outage| !outage.is_resting(now);
        // almost always there is nothing to forget
        if !self.outages.read().get(&credential).is_some_and(may_forget) {
            return;
        }
        let mut outages = self.outages.write();
        if outages.get(&credential).is_some_and(may_forget) {
            outages.remove(&credential);
        }
    }

    /// The credentials that are resting, for metrics and operators.
    pub fn outages(&self, now: UnixMs) -> Vec<(CredentialId, Outage)> {
        let mut resting: Vec<_> = self
            .outages
            .read()
            .iter()
            .filter(|(_, outage)| outage.is_resting(now))
            .map(|(id, outage)| (*id, *outage))
            .collect();
        resting.sort_by_key(|(id, _)| *id);
        resting
    }

    /// Follows a change of the catalog: a rotated secret starts afresh, and what is gone is forgotten.
    pub(crate) fn follow(&self, previous: &Snapshot, next: &Snapshot) {
        let credentials = |snapshot: &Snapshot| -> HashMap<CredentialId, Arc<CredentialEntry>> {
            let all = snapshot.pools().iter().flat_map(|pool| &pool.credentials);
            all.map(|credential| (credential.id, Arc::clone(credential))).collect()
        };
        let (old, new) = (credentials(previous), credentials(next));
        let is_same = |id: &CredentialId| match (old.get(id), new.get(id)) {
            (Some(old), Some(new)) => old.secret.expose() == new.secret.expose(),
            _ => false,
        };
        self.outages.write().retain(|id, _| is_same(id));
        let pools: HashSet<PoolId> = next.pools().iter().map(|pool| pool.id).collect();
        self.turns.write().retain(|pool, _| pools.contains(pool));
    }

    fn next_turn(&self, pool: PoolId) -> usize {
        if let Some(turn) = self.turns.read().get(&pool) {
            return turn.fetch_add(1, Ordering::Relaxed);
        }
        self.turns
            .write()
            .entry(pool)
            .or_default()
            .fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use domain::{ProviderId, secret::SecretText};

    use super::*;
    use crate::{credential::Basis, snapshot::ProviderEntry};

    fn pool_of(count: usize) -> PoolEntry {
        let id = PoolId::generate();
        let credential = |number: usize| {
            Arc::new(CredentialEntry {
                id: CredentialId::generate(),
                pool: id,
                name: number.to_string(),
                basis: Basis::Simulated,
                secret: SecretText::new("s".to_owned()),
            })
        };
        let provider = Arc::new(ProviderEntry {
            id: ProviderId::generate(),
            slug: "p".to_owned(),
            name: "p".to_owned(),
            formats: Vec::new(),
            base_url: "https://p.example".parse().unwrap(),
            allow_private_address: false,
        });
        PoolEntry {
            id,
            name: "pool".to_owned(),
            provider,
            credentials: (0..count).map(credential).collect(),
        }
    }

    fn names(health: &CredentialHealth, pool: &PoolEntry, now: UnixMs, times: usize) -> String {
        (0..times)
            .map(|_| health.pick(pool, now, &[]).map_or("-".to_owned(), |c| c.name.clone()))
            .collect()
    }

    #[test]
    fn credentials_take_turns_and_refused_ones_rest() {
        let (health, pool, now) = (CredentialHealth::default(), pool_of(3), UnixMs(0));
        assert_eq!(names(&health, &pool, now, 6), "012012");
        health.report(pool.credentials[1].id, Fault::Unauthorized, now);
        assert!(!names(&health, &pool, now, 30).contains('1'));
        assert!(names(&health, &pool, UnixMs(300_000), 3).contains('1'));
        assert_eq!(health.usable_from(&pool, now), None);
        assert_eq!(health.outages(now).len(), 1);
        assert!(health.outages(UnixMs(300_000)).is_empty());
    }

    #[test]
    fn excluded_and_exhausted_pools_give_none() {
        let (health, pool, now) = (CredentialHealth::default(), pool_of(2), UnixMs(0));
        let first = health.pick(&pool, now, &[]).unwrap();
        let second = health.pick(&pool, now, &[first.id]).unwrap();
        assert_ne!(first.id, second.id);
        assert!(health.pick(&pool, now, &[first.id, second.id]).is_none());
        for (credential, ms) in [(first.id, 9_000), (second.id, 4_000)] {
            health.report(
                credential,
                Fault::RateLimited {
                    retry_after_ms: Some(ms),
                },
                now,
            );
        }
        assert!(health.pick(&pool, now, &[]).is_none());
        assert_eq!(health.usable_from(&pool, now), Some(UnixMs(4_000)));
        assert!(health.pick(&pool_of(0), now, &[]).is_none());
    }

    #[test]
    fn success_after_the_rest_forgets_and_during_it_does_not() {
        let (health, pool) = (CredentialHealth::default(), pool_of(1));
        let id = pool.credentials[0].id;
        let limited = Fault::RateLimited { retry_after_ms: None };
        health.report(id, limited, UnixMs(0));
        health.report_success(id, UnixMs(10));
        assert!(health.pick(&pool, UnixMs(20), &[]).is_none());
        assert_eq!(health.report(id, limited, UnixMs(5_000)).until, UnixMs(15_000));
        health.report_success(id, UnixMs(15_000));
        assert_eq!(health.report(id, limited, UnixMs(20_000)).until, UnixMs(25_000));
    }
}
