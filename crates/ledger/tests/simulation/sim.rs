//! What all parts of one run share: time, randomness, the model database, the disks, the nodes' lives, and the truth.
//! Single-threaded; the lock is never held across a wait.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use crate::{database::Database, disks::Drive, plan::Plan, rng::Rng, trace::Trace, truth::Truth};

/// One run of a node's process.
pub type LifeId = usize;

/// What is known of it.
#[derive(Debug)]
pub struct Life {
    /// Which node.
    pub node: usize,
    /// The node's name in the database; a new one when its disk was lost.
    pub id: Uuid,
    /// The boot.
    pub boot: Uuid,
    /// Killed: nothing that it still does reaches anything.
    pub is_dead: bool,
    /// Nothing that it does reaches anything before that, in milliseconds.
    pub paused_until: u64,
    /// What was queued before may take longer than usual to become durable, in milliseconds.
    pub disturbed_at: u64,
    /// A synchronisation of its disk has failed: its writer must end.
    pub has_broken_disk: bool,
    /// It is killed in the middle of this many writes from now.
    pub writes_until_death: Option<u64>,
    /// Tells the kill.
    pub killed: Arc<Notify>,
    /// Holds that its clients have in hands.
    pub holds_in_hand: u32,
    /// When the database last told it that there is too little credit, in milliseconds.
    pub refused_at: Option<u64>,
}

/// Everything.
pub struct State {
    pub now: u64,
    pub rng: Rng,
    pub trace: Trace,
    pub plan: Plan,
    pub database: Database,
    pub drives: Vec<Drive>,
    pub lives: Vec<Life>,
    pub truth: Truth,
    /// The first thing that must not have happened.
    pub violation: Option<String>,
}

impl State {
    /// Something happened that must never.
    pub fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.trace.note(self.now, &what, 0, 0);
        self.violation.get_or_insert(what);
    }

    /// Demands something.
    pub fn demand(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violate(what());
        }
    }

    /// Adds a step to the trace.
    pub fn note(&mut self, what: &str, about: impl TryInto<u64>, number: i64) {
        self.trace
            .note(self.now, what, about.try_into().unwrap_or(u64::MAX), number);
    }

    /// The life of a boot.
    pub fn life_of(&self, boot: Uuid) -> Option<LifeId> {
        self.lives.iter().position(|life| life.boot == boot)
    }

    /// What was queued by this life may take longer than usual from now on.
    pub fn disturb(&mut self, life: LifeId) {
        let disturbed_at = &mut self.lives[life].disturbed_at;
        *disturbed_at = self.now.max(*disturbed_at);
    }
}

/// One run.
pub struct Sim {
    state: Mutex<State>,
    started: Instant,
}

impl Sim {
    /// Begins now.
    pub fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            started: Instant::now(),
        })
    }

    /// Since the beginning, in milliseconds.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    /// Looks at and changes everything at once.
    pub fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        // a panic elsewhere is reported by itself
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = self.now();
        change(&mut state)
    }

    /// Waits until an instant.
    pub async fn until(&self, at_ms: u64) {
        sleep_until(self.started + Duration::from_millis(at_ms)).await;
    }

    /// Waits.
    pub async fn pause(&self, for_ms: u64) {
        self.until(self.now() + for_ms).await;
    }

    /// Waits as long as the node is paused, and for ever once it is dead.
    pub async fn gate(&self, life: LifeId) {
        loop {
            let (is_dead, until) = self.with(|s| (s.lives[life].is_dead, s.lives[life].paused_until));
            if is_dead {
                std::future::pending::<()>().await;
            }
            if until <= self.now() {
                return;
            }
            self.until(until).await;
        }
    }

    /// Waits some time, of a living node.
    pub async fn spend(&self, life: LifeId, for_ms: u64) {
        self.pause(for_ms).await;
        self.gate(life).await;
    }
}
