//! Answers of the database by full key hash, kept for a short while.
//!
//! An answer carries the generation in which its lookup began and counts only within it, so a lookup that was
//! under way when the cache was invalidated can never bring an old answer back. Answers for unknown hashes live in a
//! space of their own, so that a flood of made-up keys cannot push real ones out.

use std::{
    collections::{HashMap, hash_map},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use parking_lot::Mutex;
use store::StoreError;
use tokio::sync::OnceCell;

use crate::KeyHash;

const FOUND_TTL: Duration = Duration::from_secs(10);
const UNKNOWN_TTL: Duration = Duration::from_secs(2);
const MAX_FOUND: u64 = 100_000;
const MAX_UNKNOWN: u64 = 20_000;

/// What a lookup came to: the record, or nothing for an unknown hash.
pub(crate) type Answer<T> = Option<Arc<T>>;
type Flight<T> = Arc<OnceCell<Result<Answer<T>, Arc<StoreError>>>>;
type Slot = (KeyHash, u64);

pub(crate) struct LookupCache<T> {
    generation: AtomicU64,
    found: Cache<KeyHash, (u64, Arc<T>)>,
    unknown: Cache<KeyHash, u64>,
    flights: Mutex<HashMap<Slot, Flight<T>>>,
}

impl<T: Send + Sync + 'static> LookupCache<T> {
    pub(crate) fn new() -> Self {
        Self::with_ttl(FOUND_TTL, UNKNOWN_TTL)
    }

    fn with_ttl(found: Duration, unknown: Duration) -> Self {
        Self {
            generation: AtomicU64::new(0),
            found: Cache::builder().max_capacity(MAX_FOUND).time_to_live(found).build(),
            unknown: Cache::builder().max_capacity(MAX_UNKNOWN).time_to_live(unknown).build(),
            flights: Mutex::new(HashMap::new()),
        }
    }

    /// The answer if it is at hand.
    pub(crate) fn lookup(&self, hash: &KeyHash) -> Option<Answer<T>> {
        let current = self.generation.load(Ordering::Acquire);
        if let Some((generation, record)) = self.found.get(hash)
            && generation == current
        {
            return Some(Some(record));
        }
        let known_unknown = self.unknown.get(hash).is_some_and(|generation| generation == current);
        known_unknown.then_some(None)
    }

    /// The answer at hand, or the one that `load` brings. Whoever asks for the same hash meanwhile shares it.
    pub(crate) async fn resolve<F>(
        &self,
        hash: KeyHash,
        load: impl FnOnce() -> F + Send,
    ) -> Result<Answer<T>, Arc<StoreError>>
    where
        F: Future<Output = Result<Option<T>, StoreError>> + Send,
    {
        if let Some(answer) = self.lookup(&hash) {
            return Ok(answer);
        }
        // read before the load begins: what is invalidated from here on is not kept
        let generation = self.generation.load(Ordering::Acquire);
        let boarding = self.board((hash, generation));
        let outcome = boarding
            .flight
            .get_or_init(|| async {
                let answer = load().await.map_err(Arc::new)?.map(Arc::new);
                self.keep(hash, generation, answer.as_ref());
                Ok(answer)
            })
            .await;
        outcome.clone()
    }

    /// Forgets everything, lookups under way included.
    pub(crate) fn invalidate_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.found.invalidate_all();
        self.unknown.invalidate_all();
    }

    fn keep(&self, hash: KeyHash, generation: u64, answer: Option<&Arc<T>>) {
        match answer {
            Some(record) => self.found.insert(hash, (generation, Arc::clone(record))),
            None => self.unknown.insert(hash, generation),
        }
    }

    fn board(&self, slot: Slot) -> Boarding<'_, T> {
        let flight = Arc::clone(self.flights.lock().entry(slot).or_default());
        Boarding {
            cache: self,
            slot,
            flight,
        }
    }
}

/// A place in a shared lookup. Whoever leaves, even by being cancelled, closes the flight to newcomers: by then the
/// cache has the answer, or somebody has to try again.
struct Boarding<'a, T> {
    cache: &'a LookupCache<T>,
    slot: Slot,
    flight: Flight<T>,
}

impl<T> Drop for Boarding<'_, T> {
    fn drop(&mut self) {
        if let hash_map::Entry::Occupied(entry) = self.cache.flights.lock().entry(self.slot)
            && Arc::ptr_eq(entry.get(), &self.flight)
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use store::keyring::ServerKey;
    use tokio::sync::Notify;

    use super::*;
    use crate::PlainKey;

    fn some_hash() -> KeyHash {
        PlainKey::generate().hash(&ServerKey::generate())
    }

    /// A cache whose answers outlast the slowest test machine.
    fn lasting() -> LookupCache<u32> {
        LookupCache::with_ttl(Duration::from_secs(3_600), Duration::from_secs(3_600))
    }

    #[tokio::test]
    async fn answers_grow_old() {
        let cache = LookupCache::<u32>::with_ttl(Duration::from_nanos(1), Duration::from_nanos(1));
        for (hash, answer) in [(some_hash(), Some(1)), (some_hash(), None)] {
            cache.resolve(hash, || async { Ok(answer) }).await.unwrap();
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(cache.lookup(&hash), None);
        }
    }

    #[tokio::test]
    async fn a_found_and_an_unknown_answer_are_kept_until_invalidated() {
        let cache = lasting();
        let (known, unknown) = (some_hash(), some_hash());
        assert_eq!(cache.lookup(&known), None);
        assert_eq!(
            cache.resolve(known, || async { Ok(Some(7)) }).await.unwrap().as_deref(),
            Some(&7)
        );
        assert_eq!(cache.resolve(unknown, || async { Ok(None) }).await.unwrap(), None);
        assert_eq!(cache.lookup(&known), Some(Some(Arc::new(7))));
        assert_eq!(cache.lookup(&unknown), Some(None));
        cache.invalidate_all();
        assert_eq!(cache.lookup(&known), None);
        assert_eq!(cache.lookup(&unknown), None);
        assert!(cache.flights.lock().is_empty());
    }

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_load() {
        let cache = Arc::new(lasting());
        let hash = some_hash();
        let loads = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Notify::new());
        let ask = |value: u32| {
            let (cache, loads, gate) = (Arc::clone(&cache), Arc::clone(&loads), Arc::clone(&gate));
            tokio::spawn(async move {
                let load = || async {
                    loads.fetch_add(1, Ordering::SeqCst);
                    gate.notified().await;
                    Ok(Some(value))
                };
                cache.resolve(hash, load).await.unwrap()
            })
        };
        let asked: Vec<_> = (0..50).map(ask).collect();
        // each has run up to its wait before this task runs again: the test runtime has one thread
        tokio::task::yield_now().await;
        gate.notify_waiters();
        for task in asked {
            assert_eq!(task.await.unwrap().as_deref(), Some(&0));
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert!(cache.flights.lock().is_empty());
    }

    #[tokio::test]
    async fn what_is_invalidated_during_its_load_does_not_come_back() {
        let cache = lasting();
        let hash = some_hash();
        let load = || async {
            cache.invalidate_all();
            Ok(Some(1))
        };
        assert_eq!(cache.resolve(hash, load).await.unwrap().as_deref(), Some(&1));
        assert_eq!(cache.lookup(&hash), None);
        assert_eq!(
            cache.resolve(hash, || async { Ok(Some(2)) }).await.unwrap().as_deref(),
            Some(&2)
        );
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let cache = lasting();
        let hash = some_hash();
        assert!(cache.resolve(hash, || async { Err(StoreError::Busy) }).await.is_err());
        assert_eq!(cache.lookup(&hash), None);
        assert_eq!(
            cache.resolve(hash, || async { Ok(Some(3)) }).await.unwrap().as_deref(),
            Some(&3)
        );
    }

    #[tokio::test]
    async fn a_load_that_is_cancelled_is_taken_over() {
        let cache = Arc::new(lasting());
        let hash = some_hash();
        let first = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.resolve(hash, std::future::pending).await })
        };
        tokio::task::yield_now().await;
        let second = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.resolve(hash, || async { Ok(Some(5)) }).await })
        };
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap().unwrap().as_deref(), Some(&5));
    }

    #[tokio::test]
    async fn a_flood_of_unknown_hashes_is_bounded_and_spares_the_found() {
        let cache = lasting();
        let real = some_hash();
        cache.resolve(real, || async { Ok(Some(1)) }).await.unwrap();
        let pepper = ServerKey::generate();
        for _ in 0..MAX_UNKNOWN + 5_000 {
            let made_up = PlainKey::generate().hash(&pepper);
            cache.keep(made_up, 0, None);
        }
        cache.unknown.run_pending_tasks();
        assert!(cache.unknown.entry_count() <= MAX_UNKNOWN);
        assert_eq!(cache.found.get(&real), Some((0, Arc::new(1))));
    }
}
