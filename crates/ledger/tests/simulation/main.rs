//! A deterministic simulation of the ledger: several nodes, their disks and one database in one thread, with everything
//! that can go wrong between them, from a seed. The product's own code runs; see docs/simulation.md.
//!
//! `TRUERELAY_SIM_SEEDS=N` runs so many seeds, `TRUERELAY_SIM_SEED=N` replays one and tells what happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(missing_docs, clippy::cast_possible_wrap)]

mod books;
mod client;
mod commit;
mod connection;
mod crash;
mod credit;
mod database;
mod disks;
mod node;
mod orders;
mod plan;
mod rng;
mod run;
mod sim;
mod trace;
mod traffic;
mod truth;
mod verdict;

use std::{
    collections::BTreeMap,
    panic::catch_unwind,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use run::{Outcome, run};

const SEEDS: u64 = 10_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// A run; whatever panics in it is its violation.
fn outcome_of(seed: u64) -> Outcome {
    catch_unwind(|| run(seed, false)).unwrap_or_else(|_| Outcome {
        violation: Some("the simulation has panicked, see above".to_owned()),
        hash: 0,
        steps: 0,
        counts: BTreeMap::new(),
    })
}

#[derive(Default)]
struct Report {
    failed: BTreeMap<u64, String>,
    counts: BTreeMap<&'static str, u64>,
    steps: u64,
}

#[test]
fn the_invariants_hold_for_every_seed() {
    if let Some(seed) = setting("TRUERELAY_SIM_SEED") {
        let outcome = run(seed, true);
        eprintln!("{} steps, trace {:016x}", outcome.steps, outcome.hash);
        assert_eq!(outcome.violation, None, "seed {seed}");
        return;
    }
    let seeds = setting("TRUERELAY_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let report = Mutex::new(Report::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = outcome_of(seed);
                    let mut report = report.lock().unwrap();
                    report.steps += outcome.steps;
                    for (what, count) in outcome.counts {
                        *report.counts.entry(what).or_default() += count;
                    }
                    if let Some(violation) = outcome.violation {
                        report.failed.insert(seed, violation);
                    }
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    eprintln!("{seeds} seeds, {} steps: {:?}", report.steps, report.counts);
    for (seed, violation) in report.failed.iter().take(5) {
        eprintln!("seed {seed}: {violation}");
    }
    let Some(first) = report.failed.keys().next() else {
        return;
    };
    let replay = format!("TRUERELAY_SIM_SEED={first} cargo test -p ledger --test simulation -- --nocapture every_seed");
    panic!(
        "{} of {seeds} seeds fail. Replay the first with: {replay}",
        report.failed.len()
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 500, 77_777, u64::MAX] {
        let first = run(seed, false);
        assert!(first.steps > 50, "seed {seed} does next to nothing");
        assert_eq!(first, run(seed, false), "seed {seed}");
    }
    assert_ne!(run(1, false).hash, run(2, false).hash);
}
