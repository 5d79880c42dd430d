//! The second durable place: files to which every round of the sequencer is appended, and made durable, before its head is
//! signed. After a restore from backup they say what had been published.
//!
//! A file is named after its boot and its number in that boot; the next one begins where the one before it ended. Only the
//! last file of a boot may end within a frame: a crash leaves that, and nothing behind it had been published. Everything else
//! that cannot be read is damage, and is named.

mod frames;
mod reading;
mod round;
mod writing;

use std::{path::PathBuf, time::Duration};

pub use reading::{Boot, Location, newest_of_boots, read_all, read_at};
pub use round::CopiedRound;
pub use writing::Copies;

const EXTENSION: &str = "logcopy";

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
