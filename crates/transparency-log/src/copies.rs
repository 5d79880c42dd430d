//! The second durable place: files to which every round of the sequencer is appended, and made durable, before its head is
//! signed. After a restore from backup they say what had been published.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
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
const LONGEST_FRAME: usize = 256 << 20;

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

/// Goes through every round in a folder, file after file. Answers what is damaged: the rest of such a file is left out.
///
/// # Errors
/// What the disk says, and what `each` does.
pub fn read_all(folder: &Path, mut each: impl FnMut(CopiedRound) -> io::Result<()>) -> io::Result<Vec<String>> {
    let mut damage = Vec::new();
    for path in files(folder)? {
        let mut file = io::BufReader::new(File::open(&path)?);
        if let Some(what) = read_file(&mut file, &mut each)? {
            damage.push(format!("{}: {what}", path.display()));
        }
    }
    Ok(damage)
}

/// Answers what is wrong with the file. Its end may be torn by a crash: nothing had been published of that round.
fn read_file(file: &mut impl Read, each: &mut impl FnMut(CopiedRound) -> io::Result<()>) -> io::Result<Option<String>> {
    let mut magic = [0; 16];
    if read_up_to(file, &mut magic)? < magic.len() {
        return Ok(None);
    }
    if magic != *MAGIC {
        return Ok(Some("it is no copy of a log".to_owned()));
    }
    for number in 1_u64.. {
        let mut lengths = [0; 8];
        if read_up_to(file, &mut lengths)? < lengths.len() {
            return Ok(None);
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = lengths;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > LONGEST_FRAME {
            return Ok(Some(format!("round {number} is damaged")));
        }
        let mut body = vec![0; length];
        if read_up_to(file, &mut body)? < length {
            return Ok(None);
        }
        let round = (crc32fast::hash(&body) == u32::from_le_bytes([c0, c1, c2, c3]))
            .then(|| postcard::from_bytes(&body).ok())
            .flatten();
        match round {
            Some(round) => each(round)?,
            None => return Ok(Some(format!("round {number} is damaged"))),
        }
    }
    Ok(None)
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
