//! The seam to the node's disk: the spools of this boot and of earlier ones. The data folder implements it
//! ([`NodeSpools`]), and so do the disks of the simulation.

use std::{fs::File, io, path::Path};

use uuid::Uuid;

use crate::spool::{Found, Spool, SpoolFolder, read};

/// What is in a spool, one after the other.
pub type SpoolRecords = Box<dyn Iterator<Item = io::Result<Found>> + Send>;

/// Where a node keeps its spools.
pub trait Spools: Send + Sync {
    /// A new spool for this boot.
    ///
    /// # Errors
    /// When the disk has no room for it, or fails.
    fn create(&self, boot: Uuid) -> io::Result<Spool>;

    /// The boots before this one whose spools are still there, oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    fn earlier(&self, boot: Uuid) -> io::Result<Vec<Uuid>>;

    /// What a boot has left.
    ///
    /// # Errors
    /// When the disk fails.
    fn read(&self, boot: Uuid) -> io::Result<SpoolRecords>;

    /// Removes a spool; when this returns, it stays removed.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&self, boot: Uuid) -> io::Result<()>;
}

/// The spools in a node's data folder.
pub struct NodeSpools {
    folder: SpoolFolder,
    reserved_bytes: u64,
}

impl NodeSpools {
    /// The spools in this data folder. Each new one takes so much room at once.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(data_folder: &Path, reserved_bytes: u64) -> io::Result<Self> {
        Ok(Self {
            folder: SpoolFolder::open(data_folder)?,
            reserved_bytes,
        })
    }
}

impl Spools for NodeSpools {
    fn create(&self, boot: Uuid) -> io::Result<Spool> {
        let disk = self.folder.create(boot, self.reserved_bytes)?;
        Ok(Spool::new(disk, boot, self.reserved_bytes))
    }

    fn earlier(&self, boot: Uuid) -> io::Result<Vec<Uuid>> {
        let earlier = self.folder.earlier(boot)?;
        Ok(earlier.into_iter().map(|(boot, _)| boot).collect())
    }

    fn read(&self, boot: Uuid) -> io::Result<SpoolRecords> {
        let file = File::open(self.folder.file_of(boot))?;
        Ok(Box::new(read(file, boot)?))
    }

    fn remove(&self, boot: Uuid) -> io::Result<()> {
        self.folder.remove(boot)
    }
}
