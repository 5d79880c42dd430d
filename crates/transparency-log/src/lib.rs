//! The transparency log in the database: what each transaction puts into it, the order of it, its tree, heads, signatures
//! and their copies on disk.
//!
//! Owns the tables `log`, `log_batch`, `log_pending`, `log_entry`, `log_node`, `log_head`, `log_signature`, `log_key` and
//! `log_key_retirement`. It knows ids and hashes; what a leaf states is made by whoever owns the row that it states.

mod audit;
mod copies;
mod draft;
mod error;
mod exporting;
mod keys;
mod lookup;
mod publishing;
mod restoring;
mod round;
mod rows;
mod sequencer;
mod signing;

pub use audit::{Finding, LogAudit};
pub use copies::CopySettings;
pub use draft::{BatchDraft, ChangeOfLog, StoredBatch, batches, leaves_of, movement_batch, writer_batch};
pub use error::LogError;
pub use exporting::export;
pub use publishing::{
    EntryView, LeafProof, consistency, day_head, entries, head_at, key_list, leaf_proof, logs, newest_head,
};
pub use restoring::{Restored, begin_anew_after, restore};
pub use rows::{HeadRow, LogRow};
pub use sequencer::{Sequenced, Sequencer, SequencerSettings, SequencerTask};
