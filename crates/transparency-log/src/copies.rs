//! The second durable place: files to which every round of the sequencer is appended, and made durable, before its head is
//! signed. After a restore from backup they say what had been published.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use transparency::{BatchContents, Hash, Head};
use uuid::Uuid;

use crate::{draft::StoredBatch, rows::LogRow};

const MAGIC: &[u8; 16] = b"truerelay-log/1\n";
const EXTENSION: &str = "logcopy";
/// Longer frames are damage: a round is at most a few hundred batches.
const LONGEST_FRAME: u32 = 256 << 20;

/// Where copies are kept and for how long.
#[derive(Debug, Clone)]
pub struct CopySettings {
    /// Made when it is not there; only its owner may read it.
    pub folder: PathBuf,
    /// For longer than the oldest backup that would be restored.
    pub keep: Duration,
    /// How large one file may grow.
    pub file_bytes: u64,
}

/// What one round added to a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedRound {
    /// The log's number, its id, when and why it began.
    log: (i64, Uuid, i64, String),
    /// The index of the first batch.
    pub first: u64,
    /// Id, instant, root, and ids, salts and values of the leaves.
    batches: Vec<CopiedBatch>,
    /// Size, root and instant of the head.
    head: (u64, [u8; 32], i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CopiedBatch {
    id: Uuid,
    at_ms: i64,
    root: [u8; 32],
    ids: Vec<u8>,
    salts: Vec<u8>,
    values: Vec<u8>,
}

impl CopiedRound {
    /// Of a round.
    pub fn of(log: &LogRow, first: u64, batches: &[StoredBatch], head: &Head) -> Self {
        Self {
            log: (log.no, log.id, log.created_at_ms, log.reason.clone()),
            first,
            batches: batches
                .iter()
                .map(|batch| CopiedBatch {
                    id: batch.id,
                    at_ms: batch.at_ms,
                    root: batch.root.0,
                    ids: batch.contents.ids.clone(),
                    salts: batch.contents.salts.clone(),
                    values: batch.contents.values.clone(),
                })
                .collect(),
            head: (head.size, head.root.0, head.at_ms),
        }
    }

    /// The log.
    pub fn log(&self) -> LogRow {
        let (no, id, created_at_ms, reason) = self.log.clone();
        LogRow {
            no,
            id,
            created_at_ms,
            reason,
        }
    }

    /// The head.
    pub const fn head(&self) -> Head {
        Head {
            log: self.log.1,
            size: self.head.0,
            root: Hash(self.head.1),
            at_ms: self.head.2,
        }
    }

    /// The batches.
    pub fn batches(&self) -> Vec<StoredBatch> {
        let stored = |batch: &CopiedBatch| StoredBatch {
            id: batch.id,
            at_ms: batch.at_ms,
            root: Hash(batch.root),
            contents: BatchContents {
                ids: batch.ids.clone(),
                salts: batch.salts.clone(),
                values: batch.values.clone(),
            },
        };
        self.batches.iter().map(stored).collect()
    }
}

/// The file to which this boot appends.
pub struct Copies {
    settings: CopySettings,
    boot: Uuid,
    open: Option<(File, u64)>,
    number: u32,
}

impl Copies {
    /// Makes the folder. Files are made when there is something for them.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new(settings: CopySettings, boot: Uuid) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&settings.folder)?;
        Ok(Self {
            settings,
            boot,
            open: None,
            number: 0,
        })
    }

    /// Appends a round; when this answers, it is durable. After a failure the next round goes to a new file: what became of
    /// this one is unknown.
    ///
    /// # Errors
    /// What the disk says.
    pub fn append(&mut self, round: &CopiedRound) -> io::Result<()> {
        let body = postcard::to_stdvec(round).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(body.len() + 8);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        frame.extend_from_slice(&body);
        let (mut file, written) = match self.open.take() {
            Some((file, written)) if written < self.settings.file_bytes => (file, written),
            _ => self.next_file()?,
        };
        file.write_all(&frame)?;
        file.sync_data()?;
        self.open = Some((file, written + u64::from(length)));
        Ok(())
    }

    fn next_file(&mut self) -> io::Result<(File, u64)> {
        self.remove_old();
        self.number += 1;
        let name = format!("{}-{:06}.{EXTENSION}", self.boot, self.number);
        let mut options = OpenOptions::new();
        options.create_new(true).append(true).mode(0o600);
        let mut file = options.open(self.settings.folder.join(name))?;
        file.write_all(MAGIC)?;
        File::open(&self.settings.folder)?.sync_all()?;
        Ok((file, 0))
    }

    fn remove_old(&self) {
        let Some(limit) = SystemTime::now().checked_sub(self.settings.keep) else {
            return;
        };
        for file in files(&self.settings.folder).unwrap_or_default() {
            let is_old = fs::metadata(&file)
                .and_then(|data| data.modified())
                .is_ok_and(|at| at < limit);
            if is_old && let Err(error) = fs::remove_file(&file) {
                tracing::warn!(%error, file = %file.display(), "an old copy of the log cannot be removed");
            }
        }
    }
}

/// The files of copies in a folder, oldest boot first; none when there is no such folder.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == EXTENSION));
    files.sort();
    Ok(files)
}

/// Where a round stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    path: PathBuf,
    offset: u64,
}

/// Goes through every round in a folder, file after file. Answers what is damaged: the rest of such a file is left out.
///
/// # Errors
/// What the disk says, and what `each` does.
pub fn read_all(
    folder: &Path,
    mut each: impl FnMut(Location, CopiedRound) -> io::Result<()>,
) -> io::Result<Vec<String>> {
    let mut damage = Vec::new();
    for path in files(folder)? {
        let mut file = io::BufReader::new(File::open(&path)?);
        let mut each = |offset, round| {
            let path = path.clone();
            each(Location { path, offset }, round)
        };
        if let Some(what) = read_file(&mut file, &mut each)? {
            damage.push(format!("{}: {what}", path.display()));
        }
    }
    Ok(damage)
}

/// Reads a round again.
///
/// # Errors
/// What the disk says; it is damaged meanwhile.
pub fn read_at(location: &Location) -> io::Result<CopiedRound> {
    let mut file = File::open(&location.path)?;
    file.seek(SeekFrom::Start(location.offset))?;
    match read_frame(&mut io::BufReader::new(file))? {
        Frame::Round(round, _) => Ok(round),
        Frame::End | Frame::Damaged => Err(io::Error::other("a round that was there is damaged now")),
    }
}

/// The last whole round of the newest file of each boot.
///
/// # Errors
/// What the disk says.
pub fn newest_rounds(folder: &Path) -> io::Result<Vec<CopiedRound>> {
    let mut newest: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in files(folder)? {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // the boot, which is a UUID of 36 characters
        let boot = name.get(..36).unwrap_or(name).to_owned();
        newest.insert(boot, path);
    }
    let mut rounds = Vec::new();
    for path in newest.values() {
        let mut last = None;
        read_file(&mut io::BufReader::new(File::open(path)?), &mut |_, round| {
            last = Some(round);
            Ok(())
        })?;
        rounds.extend(last);
    }
    Ok(rounds)
}

/// What comes next in a file.
enum Frame {
    /// With the bytes that it takes.
    Round(CopiedRound, u64),
    /// Nothing, or what a crash has left of a round of which nothing had been published.
    End,
    Damaged,
}

/// Answers what is wrong with the file.
fn read_file(
    file: &mut impl Read,
    each: &mut impl FnMut(u64, CopiedRound) -> io::Result<()>,
) -> io::Result<Option<String>> {
    let mut magic = [0; 16];
    if read_up_to(file, &mut magic)? < magic.len() {
        return Ok(None);
    }
    if magic != *MAGIC {
        return Ok(Some("it is no copy of a log".to_owned()));
    }
    let mut offset = 16;
    loop {
        match read_frame(file)? {
            Frame::End => return Ok(None),
            Frame::Damaged => return Ok(Some(format!("it is damaged at byte {offset}"))),
            Frame::Round(round, length) => {
                each(offset, round)?;
                offset += length;
            }
        }
    }
}

fn read_frame(file: &mut impl Read) -> io::Result<Frame> {
    let mut lengths = [0; 8];
    if read_up_to(file, &mut lengths)? < lengths.len() {
        return Ok(Frame::End);
    }
    let [l0, l1, l2, l3, c0, c1, c2, c3] = lengths;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > LONGEST_FRAME {
        return Ok(Frame::Damaged);
    }
    let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    if read_up_to(file, &mut body)? < body.len() {
        return Ok(Frame::End);
    }
    if crc32fast::hash(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Ok(Frame::Damaged);
    }
    let round = postcard::from_bytes(&body).ok();
    Ok(round.map_or(Frame::Damaged, |round| Frame::Round(round, 8 + u64::from(length))))
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
