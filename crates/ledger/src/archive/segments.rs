//! The files of an archive: `<boot>-<number>.archive`, appended to and never synchronised, begun anew when large, and
//! removed when old or when all of them together are too much.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use super::{
    frame,
    record::{FORMAT, Header, Record},
};

const EXTENSION: &str = "archive";

/// Where an archive is kept, and how much of it.
#[derive(Debug, Clone)]
pub struct ArchiveSettings {
    /// The folder; made when it is not there.
    pub folder: PathBuf,
    /// Segments that were last written to longer ago are removed.
    pub keep: Duration,
    /// What all segments together may take, in bytes. The oldest go first.
    pub max_bytes: u64,
    /// When a new segment begins, in bytes.
    pub segment_bytes: u64,
}

/// A segment's place in its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// Boots sort by time.
    pub boot: Uuid,
    /// Counts from 0 in a boot.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
}

/// The segments of a folder, oldest first. A folder that is not there has none.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<SegmentFile>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        found.extend(parse_name(&path).map(|(boot, number)| SegmentFile { boot, number, path }));
    }
    found.sort();
    Ok(found)
}

fn parse_name(path: &Path) -> Option<(Uuid, u32)> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let (boot, number) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    Some((Uuid::try_parse(boot).ok()?, number.parse().ok()?))
}

/// Writes the segments of one boot. Nothing is made before there is something to write, so that a segment proves that
/// its boot is in the database.
pub struct Segments {
    settings: ArchiveSettings,
    header: Header,
    current: Option<Current>,
    next_number: u32,
}

struct Current {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Segments {
    /// Of a boot that has not written yet.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(settings: ArchiveSettings, node: Uuid, boot: Uuid, line: i64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&settings.folder)?;
        let header = Header {
            format: FORMAT,
            node,
            boot,
            line,
        };
        Ok(Self {
            settings,
            header,
            current: None,
            next_number: 0,
        })
    }

    /// Appends frames that belong together; they stand in one segment. After an error the segment is left alone and the
    /// next frames go into a new one.
    ///
    /// # Errors
    /// What the disk says; what was to be written is then lost.
    pub fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let is_full = |current: &Current| current.bytes >= self.settings.segment_bytes;
        let mut current = match self.current.take().filter(|current| !is_full(current)) {
            Some(current) => current,
            None => self.begin()?,
        };
        current.file.write_all(frames)?;
        current.bytes += frames.len() as u64;
        self.current = Some(current);
        Ok(())
    }

    /// Appends records.
    ///
    /// # Errors
    /// As [`Segments::append`].
    pub fn append_records(&mut self, records: &[Record<'_>]) -> io::Result<()> {
        self.append(&frames_of(records)?)
    }

    /// Makes everything durable: for what is written once and by hand.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        if let Some(current) = &self.current {
            current.file.sync_all()?;
            File::open(&self.settings.folder)?.sync_all()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<Current> {
        let name = format!("{}-{}.{EXTENSION}", self.header.boot.as_simple(), self.next_number);
        self.next_number += 1;
        let path = self.settings.folder.join(name);
        let mut file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path)?;
        let opening = frames_of(&[Record::Header(self.header)])?;
        if let Err(error) = file.write_all(&opening) {
            // or a full disk would be filled with empty segments
            std::fs::remove_file(&path).ok();
            return Err(error);
        }
        if let Err(error) = remove_surplus(&self.settings, &path) {
            tracing::warn!(%error, "old segments of the ledger's archive cannot be removed");
        }
        Ok(Current {
            file,
            path,
            bytes: opening.len() as u64,
        })
    }

    /// The segment that is being written, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.current.as_ref().map(|current| current.path.as_path())
    }
}

fn frames_of(records: &[Record<'_>]) -> io::Result<Vec<u8>> {
    let mut frames = Vec::new();
    for record in records {
        if !frame::append(&mut frames, record) {
            return Err(io::Error::other("a record of the archive is too long"));
        }
    }
    Ok(frames)
}

/// Removes segments that are too old or too much, never the one that was just begun.
fn remove_surplus(settings: &ArchiveSettings, current: &Path) -> io::Result<()> {
    let mut kept_bytes = 0_u64;
    let oldest = SystemTime::now().checked_sub(settings.keep);
    for segment in list(&settings.folder)?
        .into_iter()
        .rev()
        .filter(|segment| segment.path != current)
    {
        let metadata = segment.path.metadata()?;
        kept_bytes += metadata.len();
        let is_old = oldest.is_some_and(|oldest| metadata.modified().is_ok_and(|modified| modified < oldest));
        if is_old || kept_bytes.saturating_add(settings.segment_bytes) > settings.max_bytes {
            std::fs::remove_file(&segment.path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::record::Fork;

    fn settings(folder: &Path) -> ArchiveSettings {
        ArchiveSettings {
            folder: folder.to_path_buf(),
            keep: Duration::from_secs(3_600),
            max_bytes: 1_000,
            segment_bytes: 100,
        }
    }

    fn fork(from: i64) -> Record<'static> {
        Record::Fork(Fork {
            tenant: Uuid::nil(),
            from,
            to: from + 1,
        })
    }

    #[test]
    fn nothing_is_made_before_something_is_written_and_the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = Segments::new(settings(folder.path()), Uuid::nil(), Uuid::now_v7(), 0).unwrap();
        assert_eq!(list(folder.path()).unwrap(), vec![]);
        for number in 0..200 {
            segments.append_records(&[fork(number)]).unwrap();
        }
        let left = list(folder.path()).unwrap();
        let bytes: u64 = left.iter().map(|segment| segment.path.metadata().unwrap().len()).sum();
        assert!(left.len() > 2 && bytes <= 1_200, "{left:?} {bytes}");
        assert!(left[0].number > 0, "the oldest went");
        assert!(
            left.windows(2).all(|pair| pair[0].number + 1 == pair[1].number),
            "{left:?}"
        );
        assert_eq!(segments.path(), Some(left.last().unwrap().path.as_path()));
    }

    #[test]
    fn what_is_too_old_goes_however_little_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let settings = ArchiveSettings {
            max_bytes: 1 << 30,
            ..settings(folder.path())
        };
        let mut earlier = Segments::new(settings.clone(), Uuid::nil(), Uuid::now_v7(), 0).unwrap();
        earlier.append_records(&[fork(1)]).unwrap();
        let path = earlier.path().unwrap().to_path_buf();
        let long_ago = SystemTime::now() - Duration::from_secs(7_200);
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let mut later = Segments::new(settings, Uuid::nil(), Uuid::now_v7(), 0).unwrap();
        later.append_records(&[fork(1)]).unwrap();
        assert!(!path.exists());
        assert_eq!(list(folder.path()).unwrap().len(), 1);
    }
}
