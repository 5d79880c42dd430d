//! PURE: how a record stands in a segment. A frame is, little endian: [`MARKER`], the CRC-32 (IEEE) of everything
//! behind this field, the length of the payload (below 2^24), the payload.
//!
//! Frames follow each other without a space. Where one is damaged, reading goes on at the next marker that begins a
//! whole frame. The spool's frames do more than is wanted here: they tell apart the fillings of one file that is
//! written again and again; a segment is written once.

use memchr::memmem;
use postcard::ser_flavors::Flavor;
use serde::Serialize;

const MARKER: [u8; 4] = [0xfe, b'A', b'R', 0xc1];
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 12;
/// The longest payload of a frame.
pub const MAX_PAYLOAD_BYTES: usize = (1 << 24) - 1;

/// Appends a frame with a record. `false`, and nothing is appended, when the record is too long.
#[must_use]
pub fn append(into: &mut Vec<u8>, record: &impl Serialize) -> bool {
    let begin = into.len();
    into.extend_from_slice(&MARKER);
    into.extend_from_slice(&[0; HEADER_BYTES - MARKER.len()]);
    let is_written = postcard::serialize_with_flavor(record, Behind(into)).is_ok();
    let payload = into.get(begin + HEADER_BYTES..).unwrap_or_default();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let is_short = payload.len() <= MAX_PAYLOAD_BYTES;
    let checksum = checksum(length, payload).to_le_bytes();
    let fields = into.get_mut(begin + MARKER.len()..begin + HEADER_BYTES);
    if let Some(fields) = fields.filter(|_| is_written && is_short) {
        let (first, second) = fields.split_at_mut(checksum.len());
        first.copy_from_slice(&checksum);
        second.copy_from_slice(&length);
        return true;
    }
    into.truncate(begin);
    false
}

/// Writes behind what is in a buffer.
struct Behind<'a>(&'a mut Vec<u8>);

impl Flavor for Behind<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

/// What the first bytes of a buffer are.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole frame with this payload.
    Whole(&'a [u8]),
    /// The beginning of a frame that needs so many bytes in all, which are not there.
    Short(usize),
    /// No frame.
    Damaged,
}

/// Looks at the frame with which `bytes` begin.
pub fn first(bytes: &[u8]) -> Found<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        let is_beginning = MARKER.starts_with(bytes.get(..MARKER.len().min(bytes.len())).unwrap_or_default());
        return if is_beginning || bytes.starts_with(&MARKER) {
            Found::Short(HEADER_BYTES)
        } else {
            Found::Damaged
        };
    };
    let field = |at: usize| -> [u8; 4] {
        let mut field = [0; 4];
        field.copy_from_slice(&header[at..at + 4]);
        field
    };
    let length = u32::from_le_bytes(field(8)) as usize;
    if field(0) != MARKER || length > MAX_PAYLOAD_BYTES {
        return Found::Damaged;
    }
    let Some(payload) = rest.get(..length) else {
        return Found::Short(HEADER_BYTES + length);
    };
    if checksum(field(8), payload) == u32::from_le_bytes(field(4)) {
        Found::Whole(payload)
    } else {
        Found::Damaged
    }
}

/// How many bytes to leave out until the next one at which a frame may begin; at least one.
pub fn skip(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    match memmem::find(rest, &MARKER) {
        Some(at) => at + 1,
        // a marker may begin in the last bytes
        None => rest.len().saturating_sub(MARKER.len() - 1) + 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The form of short bytes is one byte with their number, then the bytes.
    fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            assert!(append(&mut bytes, payload));
        }
        bytes
    }

    /// Every whole frame in order, as a reader with the whole file in memory finds them.
    fn read(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            bytes = match first(bytes) {
                Found::Whole(payload) => {
                    found.push(postcard::from_bytes(payload).unwrap());
                    &bytes[HEADER_BYTES + payload.len()..]
                }
                Found::Short(_) | Found::Damaged => &bytes[skip(bytes).min(bytes.len())..],
            };
        }
        found
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
            prop_assert_eq!(read(&framed(&payloads)), payloads);
        }

        #[test]
        fn damage_costs_the_damaged_frames_and_no_other(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 3..8),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut bytes = framed(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let mut end = 0;
            let kept: Vec<Vec<u8>> = payloads.into_iter().filter(|payload| {
                let begin = end;
                end += HEADER_BYTES + 1 + payload.len();
                !(begin..end).contains(&at)
            }).collect();
            prop_assert_eq!(read(&bytes), kept);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }

        #[test]
        fn a_cut_costs_the_last_frame_only(payload in proptest::collection::vec(any::<u8>(), 1..60), cut in 1_usize..12) {
            let bytes = framed(&[b"first".to_vec(), payload]);
            prop_assert_eq!(read(&bytes[..bytes.len() - cut]), vec![b"first".to_vec()]);
        }
    }

    #[test]
    fn a_payload_that_is_too_long_is_not_written() {
        let mut bytes = Vec::new();
        assert!(append(&mut bytes, &1));
        let before = bytes.clone();
        assert!(!append(&mut bytes, &vec![0_u8; MAX_PAYLOAD_BYTES]));
        assert_eq!(bytes, before);
    }
}
