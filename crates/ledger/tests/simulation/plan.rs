//! What a seed decides beforehand: how large the world is, and which kinds of trouble it has. Every kind is missing in
//! about half of the seeds, so that each meets quiet surroundings as well as all others.

use crate::rng::Rng;

/// When the troubles end; after that everything must come right, in milliseconds.
pub const LONGEST_CHAOS_MS: u64 = 150_000;
/// The longest request, in milliseconds: a hold is closed by age a minute later.
pub const MAX_REQUEST_MS: u64 = 60_000;

/// How the database is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It has crashed: what was not committed is undone, calls fail.
    Crashed,
    /// It stands still: calls hang and go on afterwards.
    Frozen,
    /// One node cannot reach it: its calls hang, and fail in the end.
    CutOff(usize),
}

/// A time in which the database is away.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How.
    pub away: Away,
    /// From when, in milliseconds.
    pub from: u64,
    /// Until when, in milliseconds.
    pub until: u64,
}

/// How often something happens, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// A commit whose acknowledgement is lost.
    pub lost_acknowledgement: u64,
    /// A transaction that fails before it commits.
    pub failed: u64,
    /// A commit that takes seconds, up to longer than the caller waits.
    pub slow_commit: u64,
    /// A transaction that stays under way for long, with its locks.
    pub slow_work: u64,
    /// An item that the database will never take.
    pub poison: u64,
    /// A node's life that ends by a kill.
    pub kill: u64,
    /// A kill that comes in the middle of a write to the disk.
    pub kill_in_write: u64,
    /// A commit after which its node is killed; ten times as often when something waits on its disk.
    pub kill_after_commit: u64,
    /// A life with a pause in it, long enough for others to close its holds.
    pub pause: u64,
    /// A synchronisation of the disk that fails.
    pub broken_disk: u64,
    /// A crash that also damages what was on the disk.
    pub damage: u64,
    /// A crash after which the disk is empty.
    pub wipe: u64,
    /// A grant, in each second.
    pub grant: u64,
    /// A node that an operator retires when its disk is gone.
    pub retire: u64,
    /// A withdrawal (a refund, an expiry, a suspension), in each second.
    pub withdraw: u64,
}

/// Troubles that are made to meet, because chance alone seldom brings them together. Each comes with an outage of the
/// database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// All nodes are killed in its midst.
    Kill,
    /// All nodes are drained in its midst.
    Drain,
    /// As before, and no disk takes anything.
    DrainWithoutDisk,
}

/// What one seed decides.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// What each tenant begins with, in nano-USD; and its budget in each period.
    pub tenants: Vec<(i64, Option<i64>)>,
    /// When the troubles end, in milliseconds.
    pub chaos_ms: u64,
    /// Between two requests of one node on average, in milliseconds.
    pub request_every_ms: u64,
    /// How many requests come at the same time.
    pub burst: u64,
    /// Places in the writer's queue.
    pub queue_capacity: u32,
    /// A call to the database takes at most so long, in milliseconds.
    pub latency_ms: u64,
    /// When the database is away.
    pub outages: Vec<Outage>,
    /// When which node's disk has no room.
    pub full: Vec<(usize, u64, u64)>,
    /// A disk without room cannot even be overwritten, as where blocks are copied on write.
    pub copies_on_write: bool,
    /// Room that a spool takes beforehand, in bytes.
    pub reserved_bytes: u64,
    /// How often what happens.
    pub rates: Rates,
    /// When all nodes are killed.
    pub all_killed_at: Option<u64>,
    /// When all nodes are drained.
    pub all_drained_at: Option<u64>,
}

impl Plan {
    /// The plan of a seed. What was added later is drawn from a stream of its own, so that older seeds mean what they meant.
    pub fn new(rng: &mut Rng, later: &mut Rng) -> Self {
        let nodes = rng.index(3) + 1;
        let chaos_ms = rng.mostly_small(10_000, LONGEST_CHAOS_MS);
        let tenants = (0..=rng.index(3)).map(|_| tenant(rng)).collect();
        let capacity = if rng.chance(200) { rng.between(4, 60) } else { 4_000 };
        let mut plan = Self {
            nodes,
            tenants,
            chaos_ms,
            request_every_ms: rng.between(300, 2_500),
            burst: 1,
            queue_capacity: u32::try_from(capacity).unwrap(),
            latency_ms: rng.mostly_small(2, 120),
            outages: Vec::new(),
            full: Vec::new(),
            copies_on_write: rng.chance(300),
            reserved_bytes: if rng.chance(500) { 64 } else { rng.between(100, 20_000) },
            rates: rates(rng),
            all_killed_at: None,
            all_drained_at: None,
        };
        if rng.chance(600) {
            plan.outages = outages(rng, nodes, chaos_ms);
        }
        if rng.chance(300) {
            plan.full = (0..nodes)
                .map(|node| (node, span(rng, chaos_ms)))
                .map(|(node, (from, until))| (node, from, until))
                .collect();
        }
        if later.chance(250) {
            plan.rates.withdraw = later.between(20, 400);
        }
        if later.chance(40) {
            plan.burst = later.between(3, 8);
            plan.request_every_ms *= 2;
        }
        let meetings = [Meeting::Kill, Meeting::Drain, Meeting::DrainWithoutDisk];
        if later.chance(150) {
            plan.meet(meetings[later.index(meetings.len())], later);
        }
        plan
    }

    fn meet(&mut self, meeting: Meeting, rng: &mut Rng) {
        const OUTAGE_MS: u64 = 30_000;
        self.chaos_ms = self.chaos_ms.max(60_000);
        let from = rng.between(3_000, self.chaos_ms - OUTAGE_MS);
        let until = from + OUTAGE_MS;
        let away = if rng.chance(500) { Away::Crashed } else { Away::Frozen };
        self.outages.push(Outage { away, from, until });
        let at = Some(from + rng.between(500, OUTAGE_MS - 500));
        match meeting {
            Meeting::Kill => self.all_killed_at = at,
            Meeting::Drain => self.all_drained_at = at,
            Meeting::DrainWithoutDisk => {
                self.all_drained_at = at;
                self.full.extend((0..self.nodes).map(|node| (node, from, until)));
                self.copies_on_write = true;
                self.reserved_bytes = 20_000;
            }
        }
    }

    /// How the database is away for a node at an instant, and until when.
    pub fn away(&self, node: usize, now: u64) -> Option<Outage> {
        let is_away = |outage: &&Outage| {
            let concerns = !matches!(outage.away, Away::CutOff(other) if other != node);
            concerns && (outage.from..outage.until).contains(&now)
        };
        self.outages.iter().find(is_away).copied()
    }

    /// Whether a node's disk has no room beyond what was reserved.
    pub fn is_full(&self, node: usize, now: u64) -> bool {
        self.full
            .iter()
            .any(|(of, from, until)| *of == node && (*from..*until).contains(&now))
    }
}

fn tenant(rng: &mut Rng) -> (i64, Option<i64>) {
    let credit = if rng.chance(500) {
        rng.between(0, 300_000)
    } else {
        500_000_000
    };
    let budget = rng.chance(300).then(|| rng.between(20_000, 400_000).cast_signed());
    (credit.cast_signed(), budget)
}

fn rates(rng: &mut Rng) -> Rates {
    let mut sometimes = |most: u64| if rng.chance(500) { rng.between(1, most) } else { 0 };
    Rates {
        lost_acknowledgement: sometimes(100),
        failed: sometimes(100),
        slow_commit: sometimes(40),
        slow_work: sometimes(60),
        poison: sometimes(60),
        kill: sometimes(1_000),
        kill_in_write: sometimes(1_000),
        kill_after_commit: sometimes(12),
        pause: sometimes(500),
        broken_disk: sometimes(60),
        damage: sometimes(500),
        wipe: sometimes(300),
        grant: sometimes(100),
        retire: sometimes(1_000),
        withdraw: 0,
    }
}

fn outages(rng: &mut Rng, nodes: usize, chaos_ms: u64) -> Vec<Outage> {
    (0..rng.between(1, 3))
        .map(|_| {
            let away = match rng.index(3) {
                0 => Away::Crashed,
                1 => Away::Frozen,
                _ => Away::CutOff(rng.index(nodes)),
            };
            let (from, until) = span(rng, chaos_ms);
            Outage { away, from, until }
        })
        .collect()
}

fn span(rng: &mut Rng, chaos_ms: u64) -> (u64, u64) {
    let from = rng.between(0, chaos_ms);
    (from, (from + rng.between(500, 60_000)).min(chaos_ms))
}
