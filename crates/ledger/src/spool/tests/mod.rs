//! The spool against crashes, damage and full disks.

mod any_bytes;
mod crash;
mod damage;
mod files;
mod platter;
mod room;

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    Contents, Spool,
    frame::{MARKER, OVERHEAD_BYTES, Seal, encode},
    read_all,
};

const BOOT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

/// A whole frame that this boot could have written.
fn frame_of(generation: u64, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(&mut frame, &Seal::new(BOOT), generation, sequence, payload);
    frame
}

/// A payload as it may come, and as somebody would choose it who wants to confuse the reader.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(MARKER.to_vec()),
        (1..MARKER.len()).prop_map(|length| MARKER[..length].to_vec()),
        (1..MARKER.len()).prop_map(|from| MARKER[from..].to_vec()),
        proptest::collection::vec(Just(0), 0..12),
        (1_u64..9, 0_u64..40).prop_map(|(generation, sequence)| frame_of(generation, sequence, b"forged")),
    ];
    prop_oneof![
        8 => proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()),
        1 => (any::<u8>(), 600_usize..3_000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn contents(bytes: &[u8]) -> Contents {
    read_all(bytes, BOOT).expect("memory can be read")
}

/// Whether `part` can be had from `whole` by leaving out.
fn is_subsequence(part: &[Vec<u8>], whole: &[Vec<u8>]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|payload| rest.any(|other| other == payload))
}
