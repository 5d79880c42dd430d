//! Three nodes and their database are killed at random, again and again, while customers never pause. Nobody is charged
//! above what the provider counted, nor more than a progress interval below it (`customers`); the books are clean; and
//! every closed request has its receipt, in a log of which every head that anybody saw is a beginning (`proof`).
//!
//! `make test` runs it for less than a minute, `make faults` for twenty; `TRUERELAY_CRASH_LOOP_S` sets another time for the latter,
//! `TRUERELAY_TEST_SEED` repeats the order of disasters.

mod customers;
mod proof;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use fault_proxy::CutKind;
use futures_util::future::join_all;
use support::{Client, Dice, KeyOptions, SecondNode};

use crate::faults::OwnDatabase;

const CUSTOMERS: u64 = 12;
const SHORT: Duration = Duration::from_secs(45);
const LONG_S: u64 = 1_200;

/// What goes on while customers ask.
struct World {
    database: OwnDatabase,
    others: Vec<SecondNode>,
    /// Where customers with credit reach each node.
    rich: Vec<Client>,
    /// The same for one who has none.
    poor: Vec<Client>,
    poor_tenant: String,
}

#[derive(Debug, Clone, Copy)]
enum Disaster {
    DatabaseKilled,
    NodeKilled,
    ConnectionsBroken,
    NodeKilledDuringOutage,
}

impl Disaster {
    const ALL: [Self; 4] = [
        Self::DatabaseKilled,
        Self::NodeKilled,
        Self::ConnectionsBroken,
        Self::NodeKilledDuringOutage,
    ];

    /// Each kind once, then whatever comes.
    fn of(number: usize, dice: &mut Dice) -> Self {
        Self::ALL.get(number).copied().unwrap_or_else(|| match dice.below(6) {
            0..3 => Self::NodeKilled,
            3 => Self::DatabaseKilled,
            4 => Self::ConnectionsBroken,
            _ => Self::NodeKilledDuringOutage,
        })
    }
}

impl World {
    async fn start() -> Option<Self> {
        let mut database = OwnDatabase::start(&[]).await?;
        let (second, third) = tokio::join!(database.app.start_second_node(), database.app.start_second_node());
        let (poor_tenant, poor_key) = database.app.tenant_with("0", KeyOptions::default()).await;
        let on_each = |app: &support::TestApp, key: &str| {
            vec![app.client_with(key), second.client_with(key), third.client_with(key)]
        };
        let rich = on_each(&database.app, &database.app.seeded.key);
        let poor = on_each(&database.app, &poor_key);
        let tenant = database.app.seeded.tenant.clone();
        database.app.admin.grant(&tenant, "900").await;
        for rule in customers::answers() {
            database.app.simulator.script(rule).unwrap();
        }
        Some(Self {
            database,
            others: vec![second, third],
            rich,
            poor,
            poor_tenant,
        })
    }

    fn kill(&mut self, node: u64) {
        match node {
            0 => self.database.app.kill(),
            node => self.others[usize::try_from(node - 1).unwrap()].kill(),
        }
    }

    async fn restart(&mut self, node: u64) {
        match node {
            0 => self.database.app.supervise().await,
            node => self.others[usize::try_from(node - 1).unwrap()].supervise().await,
        }
    }

    /// One disaster, and its end.
    async fn strike(&mut self, disaster: Disaster, dice: &mut Dice) {
        let node = dice.below(3);
        match disaster {
            Disaster::DatabaseKilled => {
                self.database.postgres.kill();
                dice.pause(5_000).await;
                self.database.postgres.restart().await;
            }
            Disaster::NodeKilled => {
                self.kill(node);
                dice.pause(2_000).await;
                self.restart(node).await;
            }
            Disaster::ConnectionsBroken => {
                self.database.network.handle().break_open(CutKind::Rst);
            }
            Disaster::NodeKilledDuringOutage => {
                self.database.postgres.kill();
                dice.pause(6_000).await;
                self.kill(node);
                self.database.postgres.restart().await;
                self.restart(node).await;
            }
        }
    }
}

async fn killed_for(whole_time: Duration) {
    let Some(mut world) = World::start().await else {
        return;
    };
    let seed = Dice::seed_of_run();
    eprintln!("TRUERELAY_TEST_SEED={seed}");
    let (rich, poor) = (world.rich.clone(), world.poor.clone());
    let nodes = proof::public_addresses(&world);
    let is_over = AtomicBool::new(false);
    let disasters = async {
        let mut dice = Dice::from_seed(seed);
        let started = Instant::now();
        let mut strikes = 0;
        while strikes < Disaster::ALL.len() || started.elapsed() < whole_time {
            dice.pause(6_000).await;
            let disaster = Disaster::of(strikes, &mut dice);
            world.strike(disaster, &mut dice).await;
            strikes += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        strikes
    };
    let askers = (0..CUSTOMERS).map(|number| customers::ask(&rich, &poor, number, seed, &is_over));
    let heads = proof::keep_heads(&nodes, &is_over);
    let (seen, strikes, heads) = tokio::join!(join_all(askers), disasters, heads);
    let seen: Vec<customers::Seen> = seen.into_iter().flatten().collect();
    world.database.wait_for_database().await;
    world.database.app.wait_for_holds(0).await;
    let recovered = customers::assert_each_is_charged_right(&world.database.app, &seen).await;
    eprintln!(
        "{strikes} disasters, {} requests sent to the provider, {} answers read, {recovered} of these closed by recovery",
        world.database.app.simulator.log().len(),
        seen.len()
    );
    proof::assert_all_is_proved(&world, &heads).await;
    for node in world.others {
        world.database.app.finish_second_node(node).await;
    }
    world.database.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_database_killed_at_random_leave_clean_books_and_a_receipt_for_everything() {
    killed_for(SHORT).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes twenty minutes: make faults"]
async fn nodes_and_database_killed_for_long_leave_clean_books_and_a_receipt_for_everything() {
    let seconds = std::env::var("TRUERELAY_CRASH_LOOP_S").map_or(LONG_S, |value| value.parse().expect("a number"));
    killed_for(Duration::from_secs(seconds)).await;
}
