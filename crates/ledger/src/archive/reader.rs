//! Reading a segment: from front to back in bounded memory, and single records by their place.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use super::{
    frame::{self, Found},
    record::{FORMAT, Header, Record},
};

const CHUNK_BYTES: usize = 1 << 20;

/// Where a record stands in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where its frame begins.
    pub offset: u64,
    /// How long the frame is.
    pub bytes: u32,
}

/// Goes through a segment.
pub struct SegmentReader {
    file: File,
    header: Header,
    window: Vec<u8>,
    /// Where in the window the next frame begins.
    at: usize,
    /// Where in the file the window begins.
    base: u64,
    is_at_end: bool,
    damaged: Vec<u64>,
}

impl SegmentReader {
    /// Opens a segment and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, does not begin with a header, or was written by another release.
    pub fn open(path: &Path) -> io::Result<Self> {
        let nothing = Header {
            format: FORMAT,
            node: uuid::Uuid::nil(),
            boot: uuid::Uuid::nil(),
            line: 0,
        };
        let mut reader = Self {
            file: File::open(path)?,
            header: nothing,
            window: Vec::new(),
            at: 0,
            base: 0,
            is_at_end: false,
            damaged: Vec::new(),
        };
        match reader.next()? {
            Some((_, Record::Header(header))) if reader.damaged.is_empty() => {
                if header.format != FORMAT {
                    let wrong = format!("the archive has format {}, this release reads {FORMAT}", header.format);
                    return Err(io::Error::new(io::ErrorKind::Unsupported, wrong));
                }
                reader.header = header;
                Ok(reader)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is no segment of an archive",
            )),
        }
    }

    /// Whose segment it is.
    pub const fn header(&self) -> Header {
        self.header
    }

    /// Where the damaged stretches begin that were met so far. A last frame that was cut off is none: a node that dies
    /// leaves one.
    pub fn damaged(&self) -> &[u64] {
        &self.damaged
    }

    /// The next record.
    ///
    /// # Errors
    /// What the disk says.
    pub fn next(&mut self) -> io::Result<Option<(Place, Record<'static>)>> {
        let mut damage = None;
        loop {
            let offset = self.base + self.at as u64;
            let rest = self.window.get(self.at..).unwrap_or_default();
            let (is_short, skipped) = match frame::first(rest) {
                Found::Whole(payload) => {
                    let bytes = frame::HEADER_BYTES + payload.len();
                    let record = postcard::from_bytes::<Record<'static>>(payload);
                    self.at += bytes;
                    if let Ok(record) = record {
                        self.damaged.extend(damage);
                        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                        return Ok(Some((Place { offset, bytes }, record)));
                    }
                    damage.get_or_insert(offset);
                    continue;
                }
                Found::Short(_) if rest.is_empty() && self.is_at_end => return Ok(None),
                Found::Short(_) => (true, frame::skip(rest)),
                Found::Damaged => (false, frame::skip(rest)),
            };
            if is_short && !self.is_at_end {
                self.fill()?;
                continue;
            }
            damage.get_or_insert(offset);
            self.at += skipped.min(rest.len());
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.window.drain(..self.at);
        self.base += self.at as u64;
        self.at = 0;
        let before = self.window.len();
        let mut chunk = (&mut self.file).take(CHUNK_BYTES as u64);
        self.is_at_end = chunk.read_to_end(&mut self.window)? == 0 && self.window.len() == before;
        Ok(())
    }
}

/// Reads the record at a place that a [`SegmentReader`] has named.
///
/// # Errors
/// When it is no longer there.
pub fn read_at(file: &File, place: Place) -> io::Result<Record<'static>> {
    let mut bytes = vec![0; place.bytes as usize];
    file.read_exact_at(&mut bytes, place.offset)?;
    let Found::Whole(payload) = frame::first(&bytes) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a segment changed while it was read",
        ));
    };
    postcard::from_bytes(payload).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::archive::{
        record::Fork,
        segments::{ArchiveSettings, Segments},
    };

    fn fork(from: i64) -> Record<'static> {
        Record::Fork(Fork {
            tenant: Uuid::max(),
            from,
            to: from + 1,
        })
    }

    fn segment(folder: &Path, count: i64) -> std::path::PathBuf {
        let settings = ArchiveSettings {
            folder: folder.to_path_buf(),
            keep: Duration::from_secs(3_600),
            max_bytes: u64::MAX / 2,
            segment_bytes: u64::MAX,
        };
        let mut segments = Segments::new(settings, Uuid::from_u128(7), Uuid::now_v7(), 3).unwrap();
        segments
            .append_records(&(0..count).map(fork).collect::<Vec<_>>())
            .unwrap();
        segments.path().unwrap().to_path_buf()
    }

    fn all(path: &Path) -> (Vec<Record<'static>>, Vec<u64>) {
        let mut reader = SegmentReader::open(path).unwrap();
        let mut records = Vec::new();
        while let Some((place, record)) = reader.next().unwrap() {
            assert_eq!(read_at(&File::open(path).unwrap(), place).unwrap(), record);
            records.push(record);
        }
        (records, reader.damaged().to_vec())
    }

    #[test]
    fn a_segment_is_read_as_it_was_written_over_many_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let path = segment(folder.path(), 60_000);
        assert!(path.metadata().unwrap().len() > 2 * CHUNK_BYTES as u64 - (CHUNK_BYTES as u64) / 2);
        assert_eq!(SegmentReader::open(&path).unwrap().header().node, Uuid::from_u128(7));
        assert_eq!(all(&path), ((0..60_000).map(fork).collect(), vec![]));
    }

    #[test]
    fn damage_is_named_and_a_cut_end_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = segment(folder.path(), 10);
        let mut bytes = std::fs::read(&path).unwrap();
        let frame_bytes = (bytes.len() - 40) / 10;
        let middle = bytes.len() - 5 * frame_bytes;
        bytes[middle] ^= 1;
        bytes.truncate(bytes.len() - 3);
        std::fs::write(&path, &bytes).unwrap();
        let (records, damaged) = all(&path);
        assert_eq!(damaged.len(), 1);
        assert_eq!(records.len(), 8, "one is damaged, one is cut off");
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for content in [b"".as_slice(), b"hello", &[0; 5_000]] {
            std::fs::write(&path, content).unwrap();
            assert!(SegmentReader::open(&path).is_err());
        }
    }
}
