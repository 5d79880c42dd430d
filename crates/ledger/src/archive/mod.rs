//! The archive: what every commit changed, kept beside the database for as long as a backup may have to be restored.
//!
//! A node appends to files in its data folder, without waiting for its disk. After a restore from backup the archives
//! of all nodes are replayed: each tenant's history is followed by the version of its account, and what does not follow
//! is named as a loss. docs/restore.md says how it is used.

mod batches;
mod declaring;
mod draft;
mod fold;
mod frame;
pub mod gate;
mod keeper;
mod logging;
mod losses;
mod reader;
pub(crate) mod record;
mod replaying;
mod rules;
mod segments;
mod sorting;
mod sources;
mod standing;
mod tables;
mod tenants;

pub(crate) use draft::{Beside, Draft, standing, transaction_row};
pub use keeper::{Archive, Movement};
pub use losses::{Behind, Loss, Losses};
pub use replaying::{ReplayOrder, ReplayOutcome, ReplayProgress, ReplayReport, replay};
pub use segments::ArchiveSettings;
pub use standing::refuse_restored;
pub use tenants::Counts;
