//! What was synced survives every crash, what was not may, and nothing else does.

use proptest::prelude::*;

use super::{
    super::{Contents, SpoolError},
    BOOT, Spool, any_payload, contents, is_subsequence,
    platter::Platter,
};

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Sync,
    Clear,
    /// Somebody frees space, or takes it.
    Room(usize),
    /// Power is lost and nothing is kept of it: only what would be read is looked at.
    Look(Vec<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any_payload().prop_map(Step::Append),
        1 => (100_000_usize..300_000).prop_map(|length| Step::Append(vec![7; length])),
        5 => Just(Step::Sync),
        2 => Just(Step::Clear),
        1 => (0_usize..500_000).prop_map(Step::Room),
        4 => fates().prop_map(Step::Look),
    ]
}

fn fates() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 1..12)
}

#[derive(Default)]
struct Generation {
    appended: Vec<Vec<u8>>,
    /// How many of them were synced.
    synced: usize,
}

/// What the spool promised.
struct Promises {
    generations: Vec<Generation>,
    /// Nothing from before this one may come back.
    durable: usize,
}

impl Promises {
    fn current(&mut self) -> &mut Generation {
        self.generations.last_mut().expect("there is a generation")
    }

    fn synced(&mut self) {
        let current = self.current();
        current.synced = current.appended.len();
        self.durable = self.generations.len() - 1;
    }

    fn allow(&self, found: &Contents) -> bool {
        let current = self.generations.last().expect("there is a generation");
        let begun = found.payloads.get(..current.synced) == Some(&current.appended[..current.synced]);
        let lost: u64 = found.damaged.iter().map(|damage| damage.lost).sum();
        let unsynced = current.appended.len() - current.synced;
        let as_promised = begun
            && is_subsequence(&found.payloads, &current.appended)
            && (unsynced > 0 || found.damaged.is_empty())
            && lost as usize + found.payloads.len() <= current.appended.len();
        // an earlier generation is in the database, so any part of it may come back until the next one is durable
        let earlier = &self.generations[self.durable..self.generations.len() - 1];
        as_promised
            || earlier
                .iter()
                .any(|generation| is_subsequence(&found.payloads, &generation.appended))
    }
}

/// Takes the steps until the disk breaks; every look must see what was promised.
fn follow(platter: &Platter, reserved: usize, steps: &[Step]) -> Result<Promises, TestCaseError> {
    let mut spool = Spool::new(Box::new(platter.clone()), BOOT, reserved as u64);
    let mut promises = Promises {
        generations: vec![Generation::default()],
        durable: 0,
    };
    for step in steps {
        let result = match step {
            Step::Append(payload) => {
                let appended = spool.append(payload);
                // a disk that broke may have taken it
                if matches!(appended, Ok(()) | Err(SpoolError::Failed(_))) {
                    promises.current().appended.push(payload.clone());
                }
                appended
            }
            Step::Sync => spool.sync().map(|()| promises.synced()),
            Step::Clear => {
                promises.generations.push(Generation::default());
                // while it is going on, the opening that hides what was cleared before may be torn
                promises.durable = 0;
                spool.clear().map(|()| promises.synced())
            }
            Step::Room(room) => {
                platter.state().room = reserved + room;
                Ok(())
            }
            Step::Look(fates) => {
                let found = contents(&platter.lose_power(fates));
                prop_assert!(promises.allow(&found), "{found:?}");
                Ok(())
            }
        };
        match result {
            Ok(()) | Err(SpoolError::Full) => {}
            Err(SpoolError::Failed(_)) => break,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        prop_assert_eq!(spool.is_empty(), promises.current().appended.is_empty());
    }
    Ok(promises)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_crash_loses_nothing_that_was_synced(
        reserved in prop_oneof![Just(0_usize), 1..4_000_usize, Just(1_000_000)],
        room in prop_oneof![Just(0_usize), 1..6_000_usize, Just(10_000_000)],
        steps in proptest::collection::vec(step(), 1..40),
        fates in fates(),
    ) {
        let platter = Platter::new(reserved, room);
        let promises = follow(&platter, reserved, &steps)?;
        let found = contents(&platter.lose_power(&fates));
        prop_assert!(promises.allow(&found), "{found:?}");
    }

    #[test]
    fn a_disk_that_breaks_in_the_middle_keeps_its_promises(
        reserved in prop_oneof![Just(0_usize), Just(3_000), Just(1_000_000)],
        steps in proptest::collection::vec(step(), 1..40),
        calls in 0_usize..12,
        fates in fates(),
    ) {
        let platter = Platter::new(reserved, 10_000_000);
        platter.state().calls_left = Some(calls);
        let promises = follow(&platter, reserved, &steps)?;
        let found = contents(&platter.lose_power(&fates));
        prop_assert!(promises.allow(&found), "{found:?}");
    }
}

#[test]
fn a_cleared_spool_is_empty_after_a_crash() {
    let platter = Platter::new(1_000, 0);
    let mut spool = Spool::new(Box::new(platter.clone()), BOOT, 1_000);
    for _ in 0..3 {
        spool.append(b"an end").expect("there is room");
    }
    spool.sync().expect("the disk works");
    assert!(!spool.is_empty());
    assert_eq!(contents(&platter.lose_power(&[0])).payloads.len(), 3);
    spool.clear().expect("the disk works");
    assert!(spool.is_empty());
    assert_eq!(contents(&platter.lose_power(&[0])), Contents::default());

    spool.append(b"a later end").expect("there is room");
    spool.sync().expect("the disk works");
    let found = contents(&platter.lose_power(&[0]));
    assert_eq!(found.payloads, [b"a later end"]);
    assert_eq!(found.damaged, []);
    assert!(!found.tail_cut, "what is left of the first generation is no tail");
}

#[test]
fn nothing_is_done_to_a_disk_that_failed() {
    for failing_call in 0..2 {
        let platter = Platter::new(1_000, 0);
        let mut spool = Spool::new(Box::new(platter.clone()), BOOT, 1_000);
        spool.append(b"an end").expect("there is room");
        platter.state().calls_left = Some(failing_call);
        assert!(matches!(spool.sync(), Err(SpoolError::Failed(_))));
        platter.state().calls_left = None;
        let calls = platter.state().calls;
        assert!(matches!(spool.append(b"another"), Err(SpoolError::Failed(_))));
        assert!(matches!(spool.sync(), Err(SpoolError::Failed(_))));
        assert!(matches!(spool.clear(), Err(SpoolError::Failed(_))));
        assert_eq!(platter.state().calls, calls);
    }
}
