//! Appending rounds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use uuid::Uuid;

use super::{
    CopiedRound, CopySettings, EXTENSION,
    frames::{self, MAGIC},
    reading::files,
};

/// The file to which this boot appends.
pub struct Copies {
    settings: CopySettings,
    boot: Uuid,
    number: u32,
    state: State,
}

enum State {
    /// There is no file, or the one there was is not gone on with.
    Between,
    Open(Begun),
    /// A write to it failed: what is behind its whole rounds has to go before anything else is written.
    Failed(Begun),
}

/// A file and how much of it is durable.
struct Begun {
    path: PathBuf,
    file: File,
    /// Up to the end of the last whole round; 0 when there is none.
    whole: u64,
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
            number: 0,
            state: State::Between,
        })
    }

    /// Appends a round; when this answers, it is durable. After a failure the file is cut back to what it had, or removed when
    /// that is nothing, and the next round goes to a new one: what became of this one's pages is unknown. While that cannot be
    /// done nothing new is begun, so a disk that stays full or broken gathers no files.
    ///
    /// # Errors
    /// What the disk says.
    pub fn append(&mut self, round: &CopiedRound) -> io::Result<()> {
        let body = postcard::to_stdvec(round).map_err(io::Error::other)?;
        let frame = frames::frame(&body).ok_or_else(|| io::Error::other("a round is too long to be copied"))?;
        self.cut_back()?;
        let mut begun = match std::mem::replace(&mut self.state, State::Between) {
            State::Open(begun) if begun.whole < self.settings.file_bytes => begun,
            _ => self.begin()?,
        };
        match begun.write(&self.settings.folder, &frame) {
            Ok(()) => {
                self.state = State::Open(begun);
                Ok(())
            }
            Err(error) => {
                self.state = State::Failed(begun);
                // what cannot be done now is done before the next round
                self.cut_back().unwrap_or_else(|error| {
                    tracing::warn!(%error, "a copy of the log that failed cannot be cut back yet");
                });
                Err(error)
            }
        }
    }

    /// Takes away what a failed write may have left.
    fn cut_back(&mut self) -> io::Result<()> {
        if let State::Failed(begun) = &self.state {
            begun.cut_back(&self.settings.folder)?;
            self.state = State::Between;
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<Begun> {
        self.remove_old();
        self.number += 1;
        let name = format!("{}-{:06}.{EXTENSION}", self.boot, self.number);
        let path = self.settings.folder.join(name);
        let mut options = OpenOptions::new();
        options.create_new(true).append(true).mode(0o600);
        let file = options.open(&path)?;
        Ok(Begun { path, file, whole: 0 })
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

impl Begun {
    fn write(&mut self, folder: &Path, frame: &[u8]) -> io::Result<()> {
        let mut whole = self.whole;
        if whole == 0 {
            self.file.write_all(MAGIC)?;
            sync_folder(folder)?;
            whole = length_of(MAGIC);
        }
        self.file.write_all(frame)?;
        self.file.sync_data()?;
        self.whole = whole + length_of(frame);
        Ok(())
    }

    fn cut_back(&self, folder: &Path) -> io::Result<()> {
        if self.whole > 0 {
            self.file.set_len(self.whole)?;
            return self.file.sync_all();
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(folder),
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use transparency::{BatchContents, Hash, Head};

    use super::*;
    use crate::{copies::read_all, draft::StoredBatch, rows::LogRow};

    /// Names the folder to the process whose files may not grow.
    const FOLDER: &str = "TRUERELAY_TEST_FULL_FOLDER";

    fn copies(folder: &Path) -> Copies {
        let settings = CopySettings {
            folder: folder.to_path_buf(),
            keep: Duration::from_secs(3_600),
            file_bytes: 1 << 20,
        };
        Copies::new(settings, Uuid::now_v7()).unwrap()
    }

    fn round(size: u64, bytes: usize) -> CopiedRound {
        let log = LogRow {
            no: 1,
            id: Uuid::nil(),
            created_at_ms: 0,
            reason: String::new(),
        };
        let batch = StoredBatch {
            id: Uuid::nil(),
            at_ms: 0,
            root: Hash([0; 32]),
            contents: BatchContents {
                ids: vec![1; bytes],
                salts: Vec::new(),
                values: Vec::new(),
            },
        };
        let head = Head {
            log: log.id,
            size,
            root: Hash([0; 32]),
            at_ms: 0,
        };
        CopiedRound::of(&log, size - 1, &[batch], &head)
    }

    fn sizes(folder: &Path) -> Vec<u64> {
        let mut sizes = Vec::new();
        let damage = read_all(folder, |_, round| {
            sizes.push(round.head().size);
            Ok(())
        });
        assert_eq!(damage.unwrap(), [""; 0]);
        sizes
    }

    #[test]
    fn a_disk_that_stays_full_gathers_no_files_and_leaves_whole_ones() {
        let Some(folder) = std::env::var_os(FOLDER) else {
            // in a process of its own, whose files end at a block
            let folder = tempfile::tempdir().unwrap();
            let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" a_disk_that_stays_full --nocapture";
            let mut run = Command::new("sh");
            run.args(["-c", script]).arg(std::env::current_exe().unwrap());
            let output = run.env(FOLDER, folder.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert!(
                String::from_utf8_lossy(&output.stdout).contains("1 passed"),
                "{output:?}"
            );
            return;
        };
        let folder = Path::new(&folder);
        let mut never = copies(folder);
        for _ in 0..20 {
            never.append(&round(1, 4_000)).unwrap_err();
        }
        assert_eq!(
            files(folder).unwrap(),
            Vec::<PathBuf>::new(),
            "what was begun and failed is gone"
        );
        let mut once = copies(folder);
        once.append(&round(1, 10)).unwrap();
        for _ in 0..20 {
            once.append(&round(2, 4_000)).unwrap_err();
        }
        assert_eq!(files(folder).unwrap().len(), 1);
        once.append(&round(2, 10)).unwrap();
        once.append(&round(3, 10)).unwrap();
        assert_eq!(files(folder).unwrap().len(), 2);
        assert_eq!(sizes(folder), [1, 2, 3]);
    }
}
