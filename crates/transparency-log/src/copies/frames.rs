//! PURE: the form of a file. A magic of 16 bytes, then frames: length, CRC-32 of the body, CRC-32 of these two (all `u32`, least
//! byte first), body. The header has a checksum of its own so that a changed length is told from a frame that a crash cut
//! off, and so that what follows damage is found again. Files of the first form, whose headers lack it, are still read; in
//! these a length that was made larger looks like a frame that was cut off, and what follows damage is left out.

use std::ops::Range;

pub const MAGIC: &[u8; 16] = b"truerelay-log/2\n";
const FIRST_MAGIC: &[u8; 16] = b"truerelay-log/1\n";
/// Longer frames are damage: a round is at most a few hundred batches.
const LONGEST_FRAME: u32 = 256 << 20;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Where the body of a whole frame is.
    Body(Range<usize>),
    /// What begins here is not what was written.
    Damaged(usize),
    /// The file ends within what begins here: a crash may have left it.
    Torn(usize),
}

/// The frame of a body; `None` for one that is too long.
pub fn frame(body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length <= LONGEST_FRAME)?;
    let mut frame = Vec::with_capacity(body.len() + 12);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_le_bytes());
    frame.extend_from_slice(body);
    Some(frame)
}

/// What a file consists of, in order.
pub fn parts(file: &[u8]) -> Vec<Part> {
    // a file that was only begun; where power failed, it may have grown by zeros
    if is_zero(file) || MAGIC.starts_with(file) || FIRST_MAGIC.starts_with(file) {
        let is_whole = file == MAGIC || file == FIRST_MAGIC;
        return if is_whole { Vec::new() } else { vec![Part::Torn(0)] };
    }
    let is_first = file.starts_with(FIRST_MAGIC);
    if !is_first && !file.starts_with(MAGIC) {
        return vec![Part::Damaged(0)];
    }
    let mut parts = Vec::new();
    let mut at = MAGIC.len();
    while at < file.len() {
        let next = if is_first { first_form(file, at) } else { next(file, at) };
        let end = match &next {
            Part::Body(body) => Some(body.end),
            Part::Damaged(_) if !is_first => {
                (at + 1..file.len()).find(|at| matches!(next_whole(file, *at), Some(Some(_))))
            }
            Part::Damaged(_) | Part::Torn(_) => None,
        };
        parts.push(next);
        at = end.unwrap_or(file.len());
    }
    parts
}

fn next(file: &[u8], at: usize) -> Part {
    match next_whole(file, at) {
        Some(Some(body)) => Part::Body(body),
        Some(None) => Part::Torn(at),
        None if is_zero(file.get(at..).unwrap_or_default()) => Part::Torn(at),
        None => Part::Damaged(at),
    }
}

/// The body of the frame at a place, `Some(None)` if the file ends within it, `None` if there is no frame.
fn next_whole(file: &[u8], at: usize) -> Option<Option<Range<usize>>> {
    let Some([length, body_sum, header_sum]) = numbers::<3>(file, at) else {
        return Some(None);
    };
    let header = file.get(at..at + 8)?;
    if crc32fast::hash(header) != header_sum || length > LONGEST_FRAME {
        return None;
    }
    whole(file, at + 12, length, body_sum)
}

fn first_form(file: &[u8], at: usize) -> Part {
    let Some([length, body_sum]) = numbers::<2>(file, at) else {
        return Part::Torn(at);
    };
    if length > LONGEST_FRAME {
        return Part::Damaged(at);
    }
    match whole(file, at + 8, length, body_sum) {
        Some(Some(body)) => Part::Body(body),
        Some(None) => Part::Torn(at),
        None => Part::Damaged(at),
    }
}

fn whole(file: &[u8], from: usize, length: u32, sum: u32) -> Option<Option<Range<usize>>> {
    let range = from..from.checked_add(usize::try_from(length).ok()?)?;
    let Some(body) = file.get(range.clone()) else {
        return Some(None);
    };
    (crc32fast::hash(body) == sum).then_some(Some(range))
}

fn numbers<const N: usize>(file: &[u8], at: usize) -> Option<[u32; N]> {
    let bytes = file.get(at..at.checked_add(N * 4)?)?;
    let mut numbers = [0; N];
    for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *number = u32::from_le_bytes(*bytes);
    }
    Some(numbers)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODIES: [&[u8]; 3] = [b"the first", b"second", b"and the third one"];

    fn file() -> (Vec<u8>, Vec<Range<usize>>) {
        let mut file = MAGIC.to_vec();
        let mut places = Vec::new();
        for body in BODIES {
            file.extend(frame(body).unwrap());
            places.push(file.len() - body.len()..file.len());
        }
        (file, places)
    }

    #[test]
    fn whatever_byte_is_changed_the_other_frames_are_read_and_the_damage_is_named() {
        let (whole, places) = file();
        let bodies: Vec<Part> = places.iter().cloned().map(Part::Body).collect();
        assert_eq!(parts(&whole), bodies);
        for (at, bit) in (16..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            let hit = places.iter().position(|place| at < place.end).unwrap();
            let mut expected = bodies.clone();
            expected[hit] = Part::Damaged(places[hit].start - 12);
            assert_eq!(parts(&damaged), expected, "byte {at}, bit {bit}");
        }
    }

    #[test]
    fn wherever_a_file_ends_early_its_end_is_torn() {
        let (whole, places) = file();
        for end in 0..whole.len() {
            let mut expected: Vec<Part> = places
                .iter()
                .filter(|place| place.end <= end)
                .cloned()
                .map(Part::Body)
                .collect();
            let read_to = places
                .iter()
                .map(|place| place.end)
                .rfind(|at| *at <= end)
                .unwrap_or(16);
            match end {
                0..16 => expected.push(Part::Torn(0)),
                _ if end > read_to => expected.push(Part::Torn(read_to)),
                _ => {}
            }
            assert_eq!(parts(&whole[..end]), expected, "{end}");
        }
    }

    #[test]
    fn files_of_the_first_form_are_read() {
        let mut file = FIRST_MAGIC.to_vec();
        for body in BODIES {
            file.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
            file.extend(crc32fast::hash(body).to_le_bytes());
            file.extend(body);
        }
        assert_eq!(parts(&file).len(), 3);
        assert_eq!(file.get(24..33), Some(BODIES[0]));
        assert_eq!(parts(&file)[0], Part::Body(24..33));
        file[30] ^= 1;
        assert_eq!(parts(&file), [Part::Damaged(16)]);
        assert_eq!(parts(b"no copy of a log at all"), [Part::Damaged(0)]);
        assert_eq!(parts(b"no copy"), [Part::Damaged(0)]);
    }
}
