//! The files of spools: `<data folder>/spool/<boot>.spool`, one per boot. What is made or removed is so durably.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::disk::{Disk, FileDisk};

const EXTENSION: &str = "spool";

/// Zeros are written in pieces of this many bytes.
const ZEROS_BYTES: usize = 1024 * 1024;

/// The folder of a node's spools. Who opens it has locked the data folder.
#[derive(Debug, Clone)]
pub struct SpoolFolder {
    path: PathBuf,
}

impl SpoolFolder {
    /// Opens `spool` in the data folder, which exists, and makes it if it is not there.
    pub fn open(data_folder: &Path) -> io::Result<Self> {
        let path = data_folder.join("spool");
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => sync_folder(data_folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(Self { path })
    }

    /// The folder of spools in a data folder, if there is one. For looking only: nothing is made, nothing is locked.
    pub fn existing(data_folder: &Path) -> Option<Self> {
        let path = data_folder.join("spool");
        path.is_dir().then_some(Self { path })
    }

    /// Makes the file of a new boot, with zeros in its first `reserved_bytes`: an overwritten byte needs no new room
    /// on file systems that write in place. Fails if the boot has a file already or there is no room.
    pub fn create(&self, boot: Uuid, reserved_bytes: u64) -> io::Result<Box<dyn Disk>> {
        let path = self.file_of(boot);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        match reserve(&file, reserved_bytes).and_then(|()| sync_folder(&self.path)) {
            Ok(()) => Ok(Box::new(FileDisk::new(file))),
            Err(error) => {
                // nothing was appended; what stays if this fails too holds no record and is removed by a later boot
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// The spools of all boots but this one, oldest first (boots are UUIDv7). A spool whose name is not a boot's is an
    /// error, because it may hold records and its boot is part of their checksums.
    pub fn earlier(&self, boot: Uuid) -> io::Result<Vec<(Uuid, PathBuf)>> {
        let mut spools = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension() != Some(OsStr::new(EXTENSION)) {
                continue;
            }
            let named = path.file_stem().and_then(OsStr::to_str).and_then(|name| {
                let boot = Uuid::try_parse(name).ok()?;
                (self.file_of(boot) == path).then_some(boot)
            });
            let Some(named) = named else {
                let advice = "is not named by a boot: give it its name back, or move it elsewhere";
                let message = format!("{} {advice}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            };
            if named != boot {
                spools.push((named, path));
            }
        }
        spools.sort();
        Ok(spools)
    }

    /// Removes a boot's spool, of which everything is in the database. It may be gone already.
    pub fn remove(&self, boot: Uuid) -> io::Result<()> {
        match fs::remove_file(self.file_of(boot)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        sync_folder(&self.path)
    }

    /// The file of a boot.
    pub fn file_of(&self, boot: Uuid) -> PathBuf {
        self.path.join(format!("{}.{EXTENSION}", boot.hyphenated()))
    }
}

fn reserve(mut file: &File, reserved_bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut left = reserved_bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(ZEROS_BYTES, |left| left.min(ZEROS_BYTES));
        file.write_all(zeros.get(..piece).unwrap_or_default())?;
        left -= piece as u64;
    }
    file.sync_all()
}

/// A file's name is durable when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
