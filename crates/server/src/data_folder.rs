//! The folder of a node: made for its owner alone, used by one process at a time. Holds the node's identity, and with
//! the embedded default the database and the keys.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use domain::NodeId;

const LOCK_FILE: &str = "lock";
const NODE_FILE: &str = "node";
const DATABASE_FILE: &str = "truerelay.sqlite";
const ARCHIVE_FOLDER: &str = "archive";
/// Where copies of the transparency log are kept in a data folder.
pub const LOG_FOLDER: &str = "log";
const KEYS_FOLDER: &str = "keys";

/// A data folder that exists.
#[derive(Debug, Clone)]
pub struct DataFolder {
    path: PathBuf,
}

/// Proof that no other process uses the folder. The operating system takes it back when the process ends, however.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl DataFolder {
    /// Makes the folder if it is not there, with mode 0700.
    ///
    /// # Errors
    /// When it cannot be made, or something that is no folder stands in its place.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        create_private_folder(path).context("the data folder cannot be made, choose another (data.folder)")?;
        Self::existing(path)
    }

    /// The folder, which must be there.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn existing(path: &Path) -> anyhow::Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot open the data folder {}", path.display()))?;
        if !path.is_dir() {
            bail!("{} is not a folder: set data.folder to one", path.display());
        }
        Ok(Self { path })
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// When another process uses it, or the lock file cannot be written.
    pub fn lock(&self) -> anyhow::Result<FolderLock> {
        self.try_lock()?.ok_or_else(|| {
            anyhow!(
                "the data folder {} is in use by another process: stop that one, or choose another folder",
                self.path.display()
            )
        })
    }

    /// Takes the folder for this process; `None` when another process uses it.
    ///
    /// # Errors
    /// When the lock file cannot be written.
    pub fn try_lock(&self) -> anyhow::Result<Option<FolderLock>> {
        let path = self.path.join(LOCK_FILE);
        let cannot = || format!("cannot lock the data folder {}", self.path.display());
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FolderLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the embedded database is.
    pub fn database_file(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Where generated keys are.
    pub fn keys_folder(&self) -> PathBuf {
        self.path.join(KEYS_FOLDER)
    }

    /// Where what was committed is kept for a restore from backup.
    pub fn archive_folder(&self) -> PathBuf {
        self.path.join(ARCHIVE_FOLDER)
    }

    /// Where copies of the transparency log are kept, unless the configuration says otherwise.
    pub fn log_folder(&self) -> PathBuf {
        self.path.join(LOG_FOLDER)
    }

    /// Whether the node has its identity, which is the last thing that a first start makes.
    pub fn has_node_id(&self) -> bool {
        self.path.join(NODE_FILE).exists()
    }

    /// The node's identity, made on first use. The lock shows that nobody else makes one meanwhile.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not one.
    pub fn node_id(&self, _lock: &FolderLock) -> anyhow::Result<NodeId> {
        let path = self.path.join(NODE_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().with_context(|| {
                format!(
                    "{} is damaged: restore it, or remove it to become a new node",
                    path.display()
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = NodeId::generate();
                write_private_file(&path, &format!("{id}\n"))?;
                Ok(id)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// Makes a folder, and those above it, that only the owner may enter. One that is there stays as it is.
///
/// # Errors
/// When it cannot be made.
pub fn create_private_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Writes a new file that only the owner may read, whole or not at all, and durable.
///
/// # Errors
/// When it cannot be written.
pub fn write_private_file(path: &Path, content: &str) -> anyhow::Result<()> {
    write_whole(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn write_whole(path: &Path, content: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    match path.parent() {
        // the new name is durable only when its folder is
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn a_new_folder_is_private_and_so_is_what_is_in_it() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = DataFolder::create(&parent.path().join("a/b")).expect("it can be made");
        let lock = folder.lock().expect("nobody uses it");
        folder.node_id(&lock).expect("it can be written");
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join(NODE_FILE)), 0o600);
        assert_eq!(mode(&folder.path().join(LOCK_FILE)), 0o600);
    }

    #[test]
    fn only_one_at_a_time_has_the_folder() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = DataFolder::create(parent.path()).expect("it is there");
        let first = folder.lock().expect("nobody uses it");
        let refusal = folder.lock().expect_err("somebody uses it").to_string();
        assert!(refusal.contains("in use by another process"), "{refusal}");
        assert!(refusal.contains(&folder.path().display().to_string()), "{refusal}");
        drop(first);
        folder.lock().expect("it is free again");
    }

    #[test]
    fn the_node_keeps_its_identity_and_a_damaged_one_is_refused() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = DataFolder::create(parent.path()).expect("it is there");
        let lock = folder.lock().expect("nobody uses it");
        let id = folder.node_id(&lock).expect("it can be written");
        assert_eq!(folder.node_id(&lock).expect("it can be read"), id);
        std::fs::write(folder.path().join(NODE_FILE), "node_1").expect("it can be written");
        assert!(format!("{:#}", folder.node_id(&lock).expect_err("it is damaged")).contains("is damaged"));
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_refused() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("file");
        std::fs::write(&path, "").expect("it can be written");
        assert!(DataFolder::create(&path).is_err());
        assert!(DataFolder::existing(&path).is_err());
        assert!(DataFolder::existing(&parent.path().join("missing")).is_err());
    }
}
