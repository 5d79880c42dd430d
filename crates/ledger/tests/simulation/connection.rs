//! The way to the model database: latency, lost calls and acknowledgements, locks, transactions that stay under way and
//! commits that arrive when nobody waits for them any more.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use domain::{Amount, RequestId, TenantId, clock::UnixMs};
use ledger::{
    Abandoned, LedgerStore, NodeIdentity,
    batch::{Batch, Committed, Item, ItemOutcome, Locking},
    items::AbandonedHold,
    rules::HoldOutcome,
};
use sea_orm::DbErr;
use store::StoreError;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    commit::commit,
    database::Database,
    orders::Poison,
    plan::Away,
    sim::{Life, LifeId, Sim, State},
    truth::is_own_end,
};

/// A lock is waited for so long, in milliseconds, as on the real database.
const LOCK_TIMEOUT_MS: u64 = 200;
/// A transaction that nobody goes on with is undone after this, in milliseconds.
const IDLE_TIMEOUT_MS: u64 = 1_000;

/// A node's connection.
pub struct Connection {
    pub sim: Arc<Sim>,
    pub life: LifeId,
}

/// Rows that a transaction has locked. Free again when it ends in whatever way.
struct Locks {
    sim: Arc<Sim>,
    rows: BTreeSet<Uuid>,
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.sim
            .with(|s| s.database.locked.retain(|row| !self.rows.contains(row)));
    }
}

/// What will become of a transaction.
#[derive(Debug, Clone, Copy)]
struct Fate {
    fails: bool,
    /// How long the work takes before the commit is sent, in milliseconds.
    work_ms: u64,
    /// How long the commit takes, in milliseconds.
    commit_ms: u64,
    is_told: bool,
    /// A lost acknowledgement shows as silence, else as an error.
    is_silent: bool,
}

fn fate(s: &mut State) -> Fate {
    let (rates, latency) = (s.plan.rates, s.plan.latency_ms);
    let is_calm = s.now >= s.plan.chaos_ms;
    let mut often = |rate: u64| !is_calm && s.rng.chance(rate);
    let (fails, is_slow, works_long) = (often(rates.failed), often(rates.slow_commit), often(rates.slow_work));
    let (is_told, is_silent) = (!often(rates.lost_acknowledgement), often(500));
    Fate {
        fails,
        work_ms: if works_long {
            s.rng.between(200, 8_000)
        } else {
            s.rng.mostly_small(0, latency)
        },
        commit_ms: if is_slow {
            s.rng.mostly_small(1_000, 45_000)
        } else {
            s.rng.mostly_small(0, latency)
        },
        is_told,
        is_silent,
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(DbErr::Custom(why.to_owned()))
}

impl Connection {
    /// A call that reaches the database, after a while; or does not.
    async fn reach(&self) -> Result<(), StoreError> {
        let sim = &self.sim;
        sim.gate(self.life).await;
        let latency = sim.with(|s| s.rng.mostly_small(0, s.plan.latency_ms));
        sim.spend(self.life, latency).await;
        while let Some(outage) = sim.with(|s| s.plan.away(s.lives[self.life].node, s.now)) {
            let (refuses, wait_ms) = sim.with(|s| (s.rng.chance(500), s.rng.between(1, 300)));
            if outage.away == Away::Crashed || (outage.away != Away::Frozen && refuses) {
                sim.spend(self.life, wait_ms).await;
                return Err(unavailable("the database is away"));
            }
            sim.until(outage.until).await;
            sim.gate(self.life).await;
            if outage.away != Away::Frozen {
                return Err(unavailable("the connection was lost"));
            }
        }
        Ok(())
    }

    /// From now on the node may refuse a while by itself.
    fn note_refusals(&self, committed: &Committed) {
        let is_refusal = |outcome: &ItemOutcome| matches!(outcome, ItemOutcome::Hold(HoldOutcome::Refused(_)));
        if committed.outcomes.iter().any(is_refusal) {
            self.sim.with(|s| s.lives[self.life].refused_at = Some(s.now));
        }
    }

    async fn lock_row(&self, row: Uuid, locks: &mut Locks, waits_ms: u64) -> bool {
        let give_up_at = self.sim.now() + waits_ms;
        loop {
            if self.sim.with(|s| s.database.locked.insert(row)) {
                locks.rows.insert(row);
                return true;
            }
            if self.sim.now() >= give_up_at {
                return false;
            }
            self.sim.pause(20).await;
        }
    }

    /// Locks as everybody does: node, then accounts in order. Answers who was left out.
    async fn lock(&self, batch: &Batch, locking: Locking) -> Result<(Locks, BTreeSet<TenantId>), StoreError> {
        let mut locks = Locks {
            sim: Arc::clone(&self.sim),
            rows: BTreeSet::new(),
        };
        if !self.lock_row(batch.name.boot, &mut locks, LOCK_TIMEOUT_MS).await {
            return Err(StoreError::Busy);
        }
        let tenants: BTreeSet<TenantId> = batch.items.iter().map(Item::tenant).collect();
        let mut left_out = BTreeSet::new();
        let waits_ms = if locking == Locking::Wait { LOCK_TIMEOUT_MS } else { 0 };
        for tenant in tenants {
            if self.lock_row(tenant.as_uuid(), &mut locks, waits_ms).await {
                continue;
            }
            if locking == Locking::Wait {
                return Err(StoreError::Busy);
            }
            self.sim.with(|s| s.disturb(self.life));
            left_out.insert(tenant);
        }
        Ok((locks, left_out))
    }

    /// Between the last statement and the commit. A node that is stopped here loses its transaction.
    async fn work(&self, work_ms: u64) -> Result<(), StoreError> {
        let sim = &self.sim;
        sim.pause(work_ms).await;
        let now = sim.now();
        let (until, is_dead) = sim.with(|s| (s.lives[self.life].paused_until, s.lives[self.life].is_dead));
        if is_dead || until > now + IDLE_TIMEOUT_MS {
            sim.pause(IDLE_TIMEOUT_MS).await;
            return Err(unavailable("the transaction was idle for too long"));
        }
        Ok(())
    }

    /// The commit is on its way: whoever has sent it, it arrives.
    fn send_commit(&self, batch: &Batch, transaction: (Locks, BTreeSet<TenantId>), fate: Fate) -> Answer {
        let (sim, batch, life) = (Arc::clone(&self.sim), batch.clone(), self.life);
        let (answer, answered) = oneshot::channel();
        let silent = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&silent);
        tokio::spawn(async move {
            let (locks, left_out) = transaction;
            sim.pause(fate.commit_ms).await;
            let result = loop {
                let away = sim.with(|s| s.plan.away(s.lives[life].node, s.now));
                match away.filter(|outage| !matches!(outage.away, Away::CutOff(_))) {
                    Some(outage) if outage.away == Away::Frozen => sim.until(outage.until).await,
                    Some(_) => break Err(unavailable("the database crashed before the commit")),
                    None => {
                        break sim.with(|s| {
                            let committed = commit(s, &batch, &left_out);
                            kill_after_commit(s, life);
                            committed
                        });
                    }
                }
            };
            drop(locks);
            let is_cut_off = sim.with(|s| s.plan.away(s.lives[life].node, s.now)).is_some();
            if fate.is_told && !is_cut_off {
                drop(answer.send(result));
            } else if fate.is_silent {
                // nobody ever answers: the channel stays open
                *kept.lock().unwrap() = Some(answer);
            }
        });
        Answer { answered, silent }
    }
}

/// The worst instant of all: written, and nobody knows.
fn kill_after_commit(s: &mut State, life: LifeId) {
    let Life { node, boot, .. } = s.lives[life];
    let is_kept = s.drives[node].files.get(&boot).is_some_and(|file| file.keeps_something);
    let rate = s.plan.rates.kill_after_commit * if is_kept { 10 } else { 1 };
    if s.now < s.plan.chaos_ms && s.rng.chance(rate) && !s.lives[life].is_dead {
        s.note("killed after a commit", node, 0);
        s.lives[life].is_dead = true;
        s.lives[life].killed.notify_one();
    }
}

type Outcome = Result<Committed, StoreError>;

struct Answer {
    answered: oneshot::Receiver<Outcome>,
    silent: Arc<Mutex<Option<oneshot::Sender<Outcome>>>>,
}

/// Whether the database will never take an item of the batch.
fn has_poison(s: &State, batch: &Batch) -> bool {
    let is_poison = |item: &Item| match (s.truth.poison(item.request()), item) {
        (Some(Poison::Hold), Item::Hold(_)) | (Some(Poison::Progress), Item::Progress(_)) => true,
        (Some(Poison::Record), Item::Close(closing)) => closing.record.is_some(),
        (Some(Poison::End), Item::Close(closing)) => is_own_end(closing),
        _ => false,
    };
    batch.items.iter().any(is_poison)
}

#[async_trait]
impl LedgerStore for Connection {
    async fn register_boot(&self, node: &NodeIdentity) -> Result<UnixMs, StoreError> {
        self.reach().await?;
        let now = self.sim.with(|s| {
            s.database.register(node.boot);
            Database::clock(s.now)
        });
        self.reach().await?;
        Ok(now)
    }

    async fn apply(&self, batch: &Batch, locking: Locking) -> Result<Committed, StoreError> {
        self.reach().await?;
        let fate = self.sim.with(|s| {
            s.note("a batch arrives", self.life, batch.name.number);
            fate(s)
        });
        let transaction = self.lock(batch, locking).await?;
        let refuses = self.sim.with(|s| {
            let refuses = has_poison(s, batch) && s.database.nodes[&batch.name.boot].batch_no < batch.name.number;
            if refuses {
                s.disturb(self.life);
            }
            refuses
        });
        if refuses {
            return Err(StoreError::Contradiction("poison".to_owned()));
        }
        self.work(fate.work_ms).await?;
        if fate.fails {
            return Err(unavailable("the connection was lost before the commit"));
        }
        let answer = self.send_commit(batch, transaction, fate);
        let result = answer.answered.await;
        drop(answer.silent);
        self.sim.gate(self.life).await;
        let result = result.unwrap_or_else(|_| Err(unavailable("the acknowledgement was lost")));
        if let Ok(committed) = &result {
            self.note_refusals(committed);
        }
        result
    }

    async fn quarantine(&self, _: &NodeIdentity, item: &Item, _: &StoreError) -> Result<(), StoreError> {
        // what cannot be written is not tried again, so that it is left open is known before the call may fail
        self.sim.with(|s| {
            s.disturb(self.life);
            let is_poison = s
                .truth
                .poison(item.request())
                .is_some_and(|poison| poison != Poison::Record);
            s.demand(is_poison, || {
                format!("{} is in quarantine and nothing is wrong with it", item.request())
            });
            s.database.quarantined.insert(item.request());
        });
        self.reach().await?;
        self.sim.with(|s| s.disturb(self.life));
        Ok(())
    }

    async fn abandoned(
        &self,
        which: Abandoned,
        after: RequestId,
        limit: u32,
    ) -> Result<Vec<AbandonedHold>, StoreError> {
        self.reach().await?;
        let page = self.sim.with(|s| {
            let now = s.now;
            let rows = s.database.holds.iter().filter(|(request, _)| **request > after);
            rows.filter(|(_, row)| match which {
                Abandoned::EarlierBoots(node) => (row.node == node.id.as_uuid()) && row.boot != node.boot,
                Abandoned::OlderThan(age) => Duration::from_millis(now - row.created_at) > age,
                Abandoned::Retired => s.database.nodes[&row.boot]
                    .retired_at
                    .is_some_and(|at| at >= row.created_at),
            })
            .take(limit as usize)
            .map(|(_, row)| AbandonedHold {
                hold: row.open.clone(),
                progress: row.progress.clone(),
            })
            .collect()
        });
        self.reach().await?;
        Ok(page)
    }

    async fn available(&self, tenant: TenantId) -> Result<Amount, StoreError> {
        self.reach().await?;
        Ok(self
            .sim
            .with(|s| s.database.balances.get(&tenant).copied().unwrap_or_default().available))
    }

    async fn now(&self) -> Result<UnixMs, StoreError> {
        self.reach().await?;
        Ok(self.sim.with(|s| Database::clock(s.now)))
    }
}
