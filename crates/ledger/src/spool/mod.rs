//! The spool: what must not be lost while the database is away, appended to a file of this boot in the node's data
//! folder. Bytes in, bytes out; what they mean and how they are applied is not known here.
//!
//! A file is written in generations. Each begins at offset 0 with an opening frame, over what is left of the one
//! before; frames are numbered without a gap (`frame`). The reader takes the highest generation of which a whole
//! frame is left, cuts a torn tail and skips what is damaged in the middle, with a report (`reading`). Part of the
//! file is written with zeros when it is made (`folder`), so that what is in flight finds room on a full disk.

mod disk;
mod folder;
mod frame;
mod reading;
mod scan;
#[cfg(test)]
mod tests;
mod window;

use std::io;

use uuid::Uuid;

use frame::{Seal, encode};

pub use disk::Disk;
pub use folder::SpoolFolder;
pub use frame::MAX_PAYLOAD_BYTES;
pub use reading::{Contents, Damage, Found, Reading, read, read_all};

/// Frames are handed to the disk when this many bytes of them wait.
const BUFFER_BYTES: usize = 256 * 1024;

/// Why a spool did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Neither the reserved part nor the disk has room. Nothing that was appended before is lost; ask again later.
    #[error("the spool has no room: free space in the data folder")]
    Full,
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`] and was not appended.
    #[error("a record of {0} bytes is too long for the spool, at most {MAX_PAYLOAD_BYTES} are allowed")]
    TooLong(usize),
    /// The disk failed, and what was appended since the last sync may be lost: the process must end. After a failed
    /// sync the kernel may drop what it could not write and report success the next time, so it is never tried again.
    #[error("the spool cannot be written, check the data folder's disk and start the process again: {0}")]
    Failed(io::Error),
}

/// The spool of one boot, as it is written.
pub struct Spool {
    disk: Box<dyn Disk>,
    seal: Seal,
    reserved: u64,
    generation: u64,
    /// Of the last record of this generation.
    sequence: u64,
    /// Whole frames that the disk has not yet, or of which it may have a part.
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    written: u64,
    unsynced: bool,
    failed: bool,
}

impl Spool {
    /// An empty spool on a new disk of which the first `reserved` bytes can be written even if nothing else can.
    pub fn new(disk: Box<dyn Disk>, boot: Uuid, reserved: u64) -> Self {
        let mut spool = Self {
            disk,
            seal: Seal::new(boot),
            reserved,
            generation: 0,
            sequence: 0,
            buffer: Vec::new(),
            written: 0,
            unsynced: false,
            failed: false,
        };
        spool.open_generation();
        spool
    }

    /// Appends a record, which is durable after the next [`Self::sync`]. After [`SpoolError::Full`] and
    /// [`SpoolError::TooLong`] it is not in the spool and the next one may be tried.
    ///
    /// Within the reserved part it only waits in memory; beyond it is given to the disk at once, because only the
    /// disk knows whether there is room.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), SpoolError> {
        self.refuse_after_failure()?;
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(SpoolError::TooLong(payload.len()));
        }
        let before = self.buffer.len();
        encode(
            &mut self.buffer,
            &self.seal,
            self.generation,
            self.sequence + 1,
            payload,
        );
        let end = self.written.saturating_add(self.buffer.len() as u64);
        if end > self.reserved || self.buffer.len() >= BUFFER_BYTES {
            self.flush().inspect_err(|_| self.buffer.truncate(before))?;
        }
        self.sequence += 1;
        Ok(())
    }

    /// Makes durable what was appended. [`SpoolError::Full`], which a disk gives that needs room even to overwrite,
    /// keeps it for the next sync; [`SpoolError::Failed`] means that the process must end.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        self.refuse_after_failure()?;
        self.flush()?;
        if self.unsynced {
            let synced = self.disk.sync();
            self.note_failure(synced)?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Forgets everything, durably: it is in the database. A new generation begins at offset 0, and the room beyond
    /// the reserved part is given back. After an error, or a crash before it returns, the next boot may find any part
    /// of what was ever cleared from this file; to apply that again must do nothing. After [`SpoolError::Full`] the
    /// spool is empty and can be used.
    pub fn clear(&mut self) -> Result<(), SpoolError> {
        self.refuse_after_failure()?;
        if self.is_empty() && self.buffer.is_empty() && !self.unsynced {
            return Ok(());
        }
        self.open_generation();
        self.sync()?;
        let shrunk = self.disk.shrink(self.reserved.max(self.written));
        self.note_failure(shrunk)
    }

    /// Whether nothing was appended since the beginning or the last [`Self::clear`].
    pub fn is_empty(&self) -> bool {
        self.sequence == 0
    }

    fn open_generation(&mut self) {
        self.generation += 1;
        self.sequence = 0;
        self.written = 0;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        encode(&mut self.buffer, &self.seal, self.generation, 0, &[]);
    }

    fn flush(&mut self) -> Result<(), SpoolError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.unsynced = true;
        let written = self.disk.write_at(self.written, &self.buffer);
        if written.as_ref().is_err_and(has_no_room) {
            return Err(SpoolError::Full);
        }
        self.note_failure(written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn refuse_after_failure(&self) -> Result<(), SpoolError> {
        if self.failed {
            return Err(SpoolError::Failed(io::Error::other("it failed before")));
        }
        Ok(())
    }

    fn note_failure(&mut self, result: io::Result<()>) -> Result<(), SpoolError> {
        self.failed = result.is_err();
        result.map_err(SpoolError::Failed)
    }
}

/// Whether a write failed because the disk, the quota or the longest file allowed was reached.
fn has_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
