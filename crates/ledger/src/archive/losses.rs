//! What a replay could not bring back, by name.

use std::{fmt, path::PathBuf};

use domain::{Amount, NodeId, TenantId};
use uuid::Uuid;

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// A tenant's history has a gap; what was archived behind it cannot be used.
    Versions {
        /// The tenant.
        tenant: TenantId,
        /// The first missing version.
        from: i64,
        /// The last missing version.
        to: i64,
        /// What is archived behind the gap.
        behind: Behind,
    },
    /// The tenant's account went on after the restore, on other ways than the archive says.
    OtherHistory {
        /// The tenant.
        tenant: TenantId,
        /// The version at which the histories part.
        version: i64,
        /// What is archived of the other history.
        behind: Behind,
    },
    /// Batches of a boot are missing. What they did to tenants may be missing without another trace.
    Batches {
        /// The node.
        node: NodeId,
        /// Its boot.
        boot: Uuid,
        /// The first missing batch.
        from: i64,
        /// The last missing batch.
        to: i64,
    },
    /// A node that was writing when the backup was made, and no archive of it was given.
    NoArchive {
        /// The node.
        node: NodeId,
    },
    /// Damaged stretches of a segment.
    Damage {
        /// The segment.
        segment: PathBuf,
        /// Where the first begins.
        offset: u64,
        /// How many there are.
        places: usize,
    },
    /// A file that could not be read as a segment.
    Unreadable {
        /// The file.
        segment: PathBuf,
        /// Why.
        why: String,
    },
}

/// What is archived of a tenant and cannot be used, because something before it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behind {
    /// Commits.
    pub parts: u64,
    /// Requests that had ended.
    pub requests: u64,
    /// What they were charged.
    pub charged: Amount,
    /// Credit that was given.
    pub granted: Amount,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Versions {
                tenant,
                from,
                to,
                behind,
            } => {
                write!(
                    f,
                    "{tenant}: versions {from} to {to} of its account are missing; {behind}"
                )
            }
            Self::OtherHistory {
                tenant,
                version,
                behind,
            } => {
                write!(
                    f,
                    "{tenant}: its account went on after the restore, at version {version}; {behind}"
                )
            }
            Self::Batches { node, boot, from, to } => {
                write!(f, "{node}: batches {from} to {to} of its boot {boot} are missing")
            }
            Self::NoArchive { node } => {
                write!(
                    f,
                    "{node}: it was writing when the backup was made, and no archive of it was given"
                )
            }
            Self::Damage {
                segment,
                offset,
                places,
            } => {
                write!(
                    f,
                    "{}: damaged in {places} place(s), first at byte {offset}",
                    segment.display()
                )
            }
            Self::Unreadable { segment, why } => write!(f, "{}: {why}", segment.display()),
        }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "behind that, {} archived commit(s) cannot be used: {} ended request(s) with charges of {} USD, grants of {} USD",
            self.parts, self.requests, self.charged, self.granted
        )
    }
}

/// The losses of a replay: the first of them by name, and how many there are.
#[derive(Debug, Clone, Default)]
pub struct Losses {
    /// The first ones.
    pub named: Vec<Loss>,
    /// All of them.
    pub count: u64,
}

const MOST_NAMED: usize = 10_000;

impl Losses {
    /// One more.
    pub fn add(&mut self, loss: Loss) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(loss);
        }
    }

    /// Whether nothing is missing.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}
