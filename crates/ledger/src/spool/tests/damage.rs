//! Damage costs the records that it hits, and no other.

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    super::{Contents, Damage, read_all},
    BOOT, OVERHEAD_BYTES, Spool, any_payload, contents, frame_of,
    platter::Platter,
};

/// A file whose last generation holds `payloads`, over an earlier one.
fn file_with(earlier: &[Vec<u8>], payloads: &[Vec<u8>]) -> Vec<u8> {
    let platter = Platter::new(100, 1_000_000);
    let mut spool = Spool::new(Box::new(platter.clone()), BOOT, 1_000_000);
    let fill = |spool: &mut Spool, payloads: &[Vec<u8>]| {
        for payload in payloads {
            spool.append(payload).expect("there is room");
        }
        spool.sync().expect("the disk works");
    };
    if !earlier.is_empty() {
        fill(&mut spool, earlier);
        spool.clear().expect("the disk works");
    }
    fill(&mut spool, payloads);
    platter.lose_power(&[0])
}

/// Where the opening frame and those of the payloads begin, and where the last one ends.
fn borders(payloads: &[Vec<u8>]) -> Vec<usize> {
    let mut borders = vec![0, OVERHEAD_BYTES];
    for payload in payloads {
        borders.push(borders[borders.len() - 1] + OVERHEAD_BYTES + payload.len());
    }
    borders
}

/// What must be found if the bytes at `hit` are not as they were written.
fn without(payloads: &[Vec<u8>], hit: &[usize]) -> Contents {
    let borders = borders(payloads);
    let is_hit = |frame: usize| hit.iter().any(|at| (borders[frame]..borders[frame + 1]).contains(at));
    let mut expected = Contents::default();
    let mut open: Option<Damage> = None;
    for frame in 0..=payloads.len() {
        if is_hit(frame) {
            let damage = open.get_or_insert(Damage {
                from: borders[frame] as u64,
                to: 0,
                lost: 0,
            });
            damage.to = borders[frame + 1] as u64;
            damage.lost += u64::from(frame > 0);
        } else {
            expected.damaged.extend(open.take());
            if frame > 0 {
                expected.payloads.push(payloads[frame - 1].clone());
            }
        }
    }
    let end = open.map_or(usize::MAX, |damage| damage.from as usize);
    expected.tail_cut = end != usize::MAX && !hit.contains(&end);
    expected
}

fn some_payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(any_payload(), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_was_written_is_read(
        earlier in proptest::collection::vec(any_payload(), 0..8),
        payloads in some_payloads(),
    ) {
        let mut found = contents(&file_with(&earlier, &payloads));
        // what is left of an earlier generation may by chance look like the beginning of a record
        found.tail_cut &= earlier.is_empty();
        prop_assert_eq!(found, without(&payloads, &[]));
    }

    #[test]
    fn flipped_bits_cost_the_records_that_they_are_in(
        earlier in proptest::collection::vec(any_payload(), 0..8),
        payloads in some_payloads(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0_u8..8), 1..6),
    ) {
        let mut file = file_with(&earlier, &payloads);
        let end = *borders(&payloads).last().expect("there is a border");
        let mut hit = Vec::new();
        for (index, bit) in flips {
            let at = index.index(end);
            if !hit.contains(&at) {
                file[at] ^= 1 << bit;
                hit.push(at);
            }
        }
        let expected = without(&payloads, &hit);
        let found = contents(&file);
        let opened = !hit.iter().any(|at| *at < OVERHEAD_BYTES);
        if expected.payloads.is_empty() && !opened {
            // no frame of the last generation is left; what comes back is in the database
            prop_assert!(found.payloads.iter().all(|payload| earlier.contains(payload)));
        } else {
            prop_assert_eq!(&found.payloads, &expected.payloads);
            prop_assert_eq!(&found.damaged, &expected.damaged);
        }
    }
}

fn three_payloads() -> Vec<Vec<u8>> {
    let forged = [b"x".as_slice(), &frame_of(9, 9, b"forged"), b"y"].concat();
    vec![b"first".to_vec(), forged, b"third".to_vec()]
}

#[test]
fn every_single_bit_may_flip() {
    for earlier in [vec![], vec![b"earlier".to_vec(); 9]] {
        let payloads = three_payloads();
        let file = file_with(&earlier, &payloads);
        let end = *borders(&payloads).last().expect("there is a border");
        for bit in 0..end * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = contents(&damaged);
            let expected = without(&payloads, &[bit / 8]);
            assert_eq!(found.payloads, expected.payloads, "bit {bit}");
            assert_eq!(found.damaged, expected.damaged, "bit {bit}");
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_holds_what_was_whole() {
    for earlier in [vec![], vec![b"earlier".to_vec(); 9]] {
        let payloads = three_payloads();
        let file = file_with(&earlier, &payloads);
        let borders = borders(&payloads);
        let end = borders[borders.len() - 1];
        for length in 0..=file.len() {
            let found = contents(&file[..length]);
            let whole = borders[2..].iter().filter(|border| **border <= length).count();
            assert_eq!(found.payloads, payloads[..whole], "cut at {length}");
            assert_eq!(found.damaged, [], "cut at {length}");
            let torn = length < end && !borders.contains(&length);
            assert_eq!(found.tail_cut, torn, "cut at {length}");
        }
    }
}

#[test]
fn a_record_torn_at_any_byte_uncovers_nothing_older() {
    // the earlier generation's frames lie where the torn one and its follower would
    let earlier = vec![b"the same length".to_vec(); 4];
    let written = file_with(&earlier, &[b"THE SAME LENGTH".to_vec()]);
    let next = frame_of(2, 2, b"THE SAME LENGTH");
    let begin = 2 * OVERHEAD_BYTES + 15;
    for length in 0..=next.len() {
        let mut file = written.clone();
        file[begin..begin + length].copy_from_slice(&next[..length]);
        let found = contents(&file);
        let whole = if file[begin..begin + next.len()] == next[..] {
            2
        } else {
            1
        };
        assert_eq!(
            found.payloads,
            vec![b"THE SAME LENGTH".to_vec(); whole],
            "torn at {length}"
        );
        assert_eq!(found.damaged, [], "torn at {length}");
    }
}

#[test]
fn a_missing_record_is_reported_though_no_byte_is_damaged() {
    let payloads = three_payloads();
    let mut file = file_with(&[], &payloads);
    let borders = borders(&payloads);
    file.drain(borders[2]..borders[3]);
    let found = contents(&file);
    assert_eq!(found.payloads, [&payloads[0][..], &payloads[2][..]]);
    let at = borders[2] as u64;
    let gap = Damage {
        from: at,
        to: at,
        lost: 1,
    };
    assert_eq!(found.damaged, [gap]);
}

#[test]
fn another_boots_records_are_not_taken() {
    let file = file_with(&[], &three_payloads());
    let found = read_all(&file, Uuid::from_u128(2)).expect("memory can be read");
    assert_eq!(found.payloads, Vec::<Vec<u8>>::new());
    assert!(found.tail_cut);
}
