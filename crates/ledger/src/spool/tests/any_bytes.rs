//! Whatever a file holds: no panic, and no record that was not appended.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use proptest::prelude::*;

use super::{
    super::{Found, MAX_PAYLOAD_BYTES, SpoolError, read},
    BOOT, MARKER, Spool, any_payload, contents, frame_of,
    platter::Platter,
};

/// Fields of a header that may lead the reader astray.
fn header_field() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..50),
        Just(MARKER.to_vec()),
        any::<u8>().prop_map(|byte| vec![byte, 0, 0, 0]),
        Just(vec![0; 4]),
        Just(vec![0xff; 4]),
        Just(vec![1, 0, 0, 0, 0, 0, 0, 0]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bytes_that_nobody_wrote_are_no_record(pieces in proptest::collection::vec(header_field(), 0..30)) {
        let found = contents(&pieces.concat());
        prop_assert!(found.payloads.is_empty());
        prop_assert!(found.damaged.is_empty());
    }

    #[test]
    fn frames_in_any_order_give_only_what_they_hold(
        frames in proptest::collection::vec((1_u64..4, 0_u64..6, any_payload(), any::<bool>()), 0..12),
    ) {
        let mut file = Vec::new();
        for (generation, sequence, payload, cut) in &frames {
            let frame = frame_of(*generation, *sequence, payload);
            file.extend_from_slice(&frame[..if *cut { frame.len() / 2 } else { frame.len() }]);
        }
        let last = frames.iter().filter(|frame| !frame.3).map(|frame| frame.0).max();
        for payload in contents(&file).payloads {
            let written = |frame: &(u64, u64, Vec<u8>, bool)| !frame.3 && Some(frame.0) == last && frame.2 == payload;
            prop_assert!(frames.iter().any(written));
        }
    }

    #[test]
    fn a_marker_stands_only_where_a_frame_begins(
        generation in 1_u64..1 << 56,
        sequence in 0_u64..1 << 56,
        payload in any_payload(),
        following in any_payload(),
    ) {
        let first = frame_of(generation, sequence, &payload);
        let both = [first.clone(), frame_of(generation, sequence, &following)].concat();
        let places: Vec<usize> = memchr::memmem::find_iter(&both, &MARKER).collect();
        prop_assert_eq!(places, vec![0, first.len()]);
    }
}

#[test]
fn a_payload_of_markers_alone_is_read_back() {
    for markers in [1, 2, 1_000] {
        let payload = MARKER.repeat(markers);
        let file = [frame_of(1, 0, b""), frame_of(1, 1, &payload)].concat();
        assert_eq!(contents(&file).payloads, [payload]);
    }
}

#[test]
fn a_link_that_leads_back_ends_nothing_but_its_frame() {
    use super::super::frame::{Header, Seal};

    let mut frame = frame_of(1, 1, &[MARKER, MARKER].concat());
    let seal = Seal::new(BOOT);
    let second_link = frame.len() - 1 - 4;
    frame[second_link] = 1;
    let crc = crc_of(&frame);
    frame[8..12].copy_from_slice(&crc.to_le_bytes());
    let header = Header::parse(&frame).expect("the header is as it was");
    assert!(!header.is_whole(&frame, &seal));
    assert_eq!(contents(&frame).payloads, Vec::<Vec<u8>>::new());
}

fn crc_of(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(BOOT.as_bytes());
    hasher.update(&frame[12..]);
    hasher.finalize()
}

#[test]
fn records_are_read_across_the_pieces_in_which_a_file_is_read() {
    let platter = Platter::new(0, usize::MAX / 2);
    let mut spool = Spool::new(Box::new(platter.clone()), BOOT, 0);
    let lengths = [
        0, 1, 262_000, 262_144, 70_000, 600_000, 131_000, 131_072, 1_000_000, 37, 262_100, 3,
    ];
    let payloads: Vec<Vec<u8>> = lengths
        .iter()
        .enumerate()
        .map(|(index, length)| vec![index as u8; *length])
        .collect();
    for payload in &payloads {
        spool.append(payload).expect("there is room");
    }
    spool.sync().expect("the disk works");
    assert_eq!(contents(&platter.lose_power(&[0])).payloads, payloads);
}

#[test]
fn the_longest_payload_is_kept_and_a_longer_one_refused() {
    let platter = Platter::new(0, usize::MAX / 2);
    let mut spool = Spool::new(Box::new(platter.clone()), BOOT, 0);
    let mut longest = vec![0; MAX_PAYLOAD_BYTES];
    longest[MAX_PAYLOAD_BYTES - MARKER.len()..].copy_from_slice(&MARKER);
    spool.append(&longest).expect("it fits");
    longest.push(0);
    let refused = spool.append(&longest);
    assert!(matches!(refused, Err(SpoolError::TooLong(length)) if length == MAX_PAYLOAD_BYTES + 1));
    spool.append(b"behind").expect("the spool goes on");
    spool.sync().expect("the disk works");
    longest.pop();
    assert_eq!(
        contents(&platter.lose_power(&[0])).payloads,
        [longest, b"behind".to_vec()]
    );
}

/// Fails from the given offset on.
struct BadSector(Cursor<Vec<u8>>, u64);

impl Read for BadSector {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.1.saturating_sub(self.0.position());
        if left == 0 {
            return Err(io::Error::other("bad sector"));
        }
        let length = into.len().min(left as usize);
        self.0.read(&mut into[..length])
    }
}

impl Seek for BadSector {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_not_an_empty_spool() {
    let file = [frame_of(1, 0, b""), frame_of(1, 1, b"an end")].concat();
    let whole = file.len() as u64;
    assert!(read(BadSector(Cursor::new(file.clone()), 40), BOOT).is_err());
    let reading = read(Cursor::new(file), BOOT).expect("memory can be read");
    assert_eq!(reading.records(), 1);
    assert!(whole > 40);
    let found: Vec<Found> = reading.map(|found| found.expect("memory can be read")).collect();
    assert_eq!(found, [Found::Record(b"an end".to_vec())]);
}
