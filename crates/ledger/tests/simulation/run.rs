//! One run from its seed: the world, its nodes, the end of all trouble, and the verdict.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{runtime::Builder, task::JoinSet, time::timeout};

use crate::{
    database::Database,
    disks::Drive,
    node::{judge_panic, keep, keep_last},
    orders::tenant_id,
    plan::Plan,
    rng::Rng,
    sim::{Sim, State},
    trace::Trace,
    traffic::{grant, withdraw},
    truth::Truth,
    verdict::judge,
};

/// No run needs more, in the time of its world.
const LIMIT: Duration = Duration::from_secs(7_200);

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What must not have happened and did.
    pub violation: Option<String>,
    /// The same for the same steps.
    pub hash: u64,
    /// How many steps there were.
    pub steps: u64,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed.
pub fn run(seed: u64, is_told: bool) -> Outcome {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let sim = Sim::new(world(seed, is_told));
        if timeout(LIMIT, play(&sim)).await.is_err() {
            sim.with(|s| s.violate("it does not come to an end"));
        }
        sim.with(|s| Outcome {
            violation: s.violation.clone(),
            hash: s.trace.hash(),
            steps: s.trace.steps(),
            counts: std::mem::take(&mut s.truth.counts),
        })
    })
}

fn world(seed: u64, is_told: bool) -> State {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng, &mut Rng::new(!seed));
    if is_told {
        eprintln!("{plan:#?}");
    }
    let mut database = Database::default();
    let mut truth = Truth::default();
    for (index, (credit, _)) in plan.tenants.iter().enumerate() {
        let lot = database.grant(tenant_id(index), rng.id(), *credit);
        truth.books.grant(tenant_id(index), &lot);
    }
    let drives = (0..plan.nodes).map(|_| Drive {
        name: rng.id(),
        ..Drive::default()
    });
    State {
        now: 0,
        drives: drives.collect(),
        rng,
        trace: Trace::new(is_told),
        plan,
        database,
        lives: Vec::new(),
        truth,
        violation: None,
    }
}

async fn play(sim: &Arc<Sim>) {
    let mut tasks = JoinSet::new();
    for node in 0..sim.with(|s| s.plan.nodes) {
        tasks.spawn(keep(Arc::clone(sim), node));
    }
    tasks.spawn(grant(Arc::clone(sim)));
    tasks.spawn(withdraw(Arc::clone(sim)));
    while let Some(joined) = tasks.join_next().await {
        judge_panic(sim, joined);
    }
    keep_last(sim).await;
    sim.with(judge);
}
