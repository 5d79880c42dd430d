//! PURE: how a record looks in a spool. A frame is, little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MARKER`] |
//! | 4 | CRC-32 (IEEE) of the boot's 16 bytes and of everything behind this field |
//! | 4 | length of the payload, below 2^24 |
//! | 8 | generation, from 1, below 2^56 |
//! | 8 | sequence, below 2^56: 0 opens a generation, records count from 1 |
//! | 4 | where the first marker was taken out of the payload, plus one; 0: nowhere |
//! | n | the payload, without any marker |
//! | 1 | zero |
//!
//! A marker stands at the beginning of a frame and nowhere else, whatever a payload holds: one inside a payload is
//! replaced by four zeros and a link to the next replaced one. It contains no zero and its first byte does not occur
//! in it again, and every field of the header ends with a zero byte or is followed by too few others, so that none
//! can arise from neighbours either. A scan can therefore go from marker to marker, and never meets a frame that is
//! part of somebody's data.

use crc32fast::Hasher;
use memchr::memmem;
use uuid::Uuid;

/// What every frame begins with. Not UTF-8; no zero byte; the first byte occurs once.
pub(super) const MARKER: [u8; 8] = [0xff, b'S', b'P', b'O', b'O', b'L', b'1', 0xfe];

/// Bytes before the payload.
const HEADER_BYTES: usize = 36;

/// Bytes that a frame has beside its payload.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + 1;

/// Where the bytes begin that the checksum covers.
const CHECKED_FROM: usize = 12;

/// The longest payload of a frame in bytes: a length and a link must fit into three bytes.
pub const MAX_PAYLOAD_BYTES: usize = (1 << 24) - MARKER.len() - 1;

/// Generations and sequences are below this.
const COUNT_LIMIT: u64 = 1 << 56;

/// The checksum of one boot's frames: a frame of another boot is not whole.
pub(super) struct Seal(Hasher);

impl Seal {
    /// The seal of a boot.
    pub(super) fn new(boot: Uuid) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(boot.as_bytes());
        Self(hasher)
    }

    fn of(&self, checked: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(checked);
        hasher.finalize()
    }
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    crc: u32,
    length: u32,
    /// Which filling of the file the frame belongs to.
    pub(super) generation: u64,
    /// Its place in the generation; 0 opens it and carries nothing.
    pub(super) sequence: u64,
    first_taken: u32,
}

impl Header {
    /// Reads a header; none if the bytes are too few or cannot have been written.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MARKER)?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (first_taken, _) = rest.split_first_chunk::<4>()?;
        let header = Self {
            crc: u32::from_le_bytes(*crc),
            length: u32::from_le_bytes(*length),
            generation: u64::from_le_bytes(*generation),
            sequence: u64::from_le_bytes(*sequence),
            first_taken: u32::from_le_bytes(*first_taken),
        };
        let possible = header.length as usize <= MAX_PAYLOAD_BYTES
            && (1..COUNT_LIMIT).contains(&header.generation)
            && header.sequence < COUNT_LIMIT
            && header.first_taken as usize <= MAX_PAYLOAD_BYTES;
        possible.then_some(header)
    }

    /// How long the whole frame is, in bytes.
    pub(super) fn frame_bytes(&self) -> usize {
        self.length as usize + OVERHEAD_BYTES
    }

    /// Whether `frame`, exactly [`Self::frame_bytes`] long and begun by this header, is what this boot wrote.
    pub(super) fn is_whole(&self, frame: &[u8], seal: &Seal) -> bool {
        let checked = frame.get(CHECKED_FROM..).unwrap_or_default();
        seal.of(checked) == self.crc && links(self.first_taken, payload_of(frame)).all(|link| link.is_some())
    }

    /// The payload of a whole frame as it was given to [`encode`].
    pub(super) fn payload(&self, frame: &[u8]) -> Vec<u8> {
        let stored = payload_of(frame);
        let mut payload = stored.to_vec();
        for at in links(self.first_taken, stored).flatten() {
            if let Some(place) = payload.get_mut(at..at + MARKER.len()) {
                place.copy_from_slice(&MARKER);
            }
        }
        payload
    }
}

fn payload_of(frame: &[u8]) -> &[u8] {
    frame
        .get(HEADER_BYTES..frame.len().saturating_sub(1))
        .unwrap_or_default()
}

/// The places where a marker was taken out, in order; a `None` if a link leads nowhere or back, and then no more.
fn links(first_taken: u32, stored: &[u8]) -> impl Iterator<Item = Option<usize>> {
    let mut next = Some(first_taken);
    std::iter::from_fn(move || {
        let link = next.take()?;
        let at = (link as usize).checked_sub(1)?;
        let place = stored.get(at..at + MARKER.len());
        let following = place.and_then(|place| place.last_chunk::<4>().copied().map(u32::from_le_bytes));
        match following {
            Some(following) if following == 0 || following > link => {
                next = Some(following);
                Some(Some(at))
            }
            _ => Some(None),
        }
    })
}

/// Appends a frame to `into`. The payload is at most [`MAX_PAYLOAD_BYTES`] long; the caller has checked.
pub(super) fn encode(into: &mut Vec<u8>, seal: &Seal, generation: u64, sequence: u64, payload: &[u8]) {
    let begin = into.len();
    let taken: Vec<usize> = memmem::find_iter(payload, &MARKER).collect();
    let link = |index: usize| taken.get(index).map_or(0, |at| narrow(at + 1));
    into.reserve(payload.len() + OVERHEAD_BYTES);
    into.extend_from_slice(&MARKER);
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&narrow(payload.len()).to_le_bytes());
    into.extend_from_slice(&generation.to_le_bytes());
    into.extend_from_slice(&sequence.to_le_bytes());
    into.extend_from_slice(&link(0).to_le_bytes());
    let mut copied = 0;
    for (index, at) in taken.iter().enumerate() {
        into.extend_from_slice(payload.get(copied..*at).unwrap_or_default());
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&link(index + 1).to_le_bytes());
        copied = at + MARKER.len();
    }
    into.extend_from_slice(payload.get(copied..).unwrap_or_default());
    into.push(0);
    let crc = seal.of(into.get(begin + CHECKED_FROM..).unwrap_or_default());
    if let Some(place) = into.get_mut(begin + MARKER.len()..begin + CHECKED_FROM) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Lengths and links are below 2^24.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
