//! Where the bytes of a spool go: the seam under which a file, or a simulated disk, lies.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Where a boot's spool is written. A simulation implements it too.
pub trait Disk: Send {
    /// Writes all bytes at the offset, beyond the end too. After an error any part of them may stand there.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written so far outlives a loss of power. After an error nothing may be assumed.
    fn sync(&mut self) -> io::Result<()>;

    /// Gives back the room beyond `bytes`, which holds nothing that is still needed.
    fn shrink(&mut self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// A spool in a file.
pub(super) struct FileDisk(File);

impl FileDisk {
    /// Writes into a file that is open for writing.
    pub(super) fn new(file: File) -> Self {
        Self(file)
    }
}

impl Disk for FileDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn shrink(&mut self, bytes: u64) -> io::Result<()> {
        if self.0.metadata()?.len() > bytes {
            self.0.set_len(bytes)?;
        }
        Ok(())
    }
}
