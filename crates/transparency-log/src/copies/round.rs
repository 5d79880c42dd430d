//! A round as it is copied.

use serde::{Deserialize, Serialize};
use transparency::{BatchContents, Hash, Head};
use uuid::Uuid;

use crate::{draft::StoredBatch, rows::LogRow};

/// What one round added to a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedRound {
    /// The log's number, its id, when and why it began.
    log: (i64, Uuid, i64, String),
    /// The index of the first batch.
    pub first: u64,
    /// Id, instant, root, and ids, salts and values of the leaves.
    batches: Vec<CopiedBatch>,
    /// Size, root and instant of the head.
    head: (u64, [u8; 32], i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CopiedBatch {
    id: Uuid,
    at_ms: i64,
    root: [u8; 32],
    ids: Vec<u8>,
    salts: Vec<u8>,
    values: Vec<u8>,
}

impl CopiedRound {
    /// Of a round.
    pub fn of(log: &LogRow, first: u64, batches: &[StoredBatch], head: &Head) -> Self {
        Self {
            log: (log.no, log.id, log.created_at_ms, log.reason.clone()),
            first,
            batches: batches
                .iter()
                .map(|batch| CopiedBatch {
                    id: batch.id,
                    at_ms: batch.at_ms,
                    root: batch.root.0,
                    ids: batch.contents.ids.clone(),
                    salts: batch.contents.salts.clone(),
                    values: batch.contents.values.clone(),
                })
                .collect(),
            head: (head.size, head.root.0, head.at_ms),
        }
    }

    /// The log.
    pub fn log(&self) -> LogRow {
        let (no, id, created_at_ms, reason) = self.log.clone();
        LogRow {
            no,
            id,
            created_at_ms,
            reason,
        }
    }

    /// The head.
    pub const fn head(&self) -> Head {
        Head {
            log: self.log.1,
            size: self.head.0,
            root: Hash(self.head.1),
            at_ms: self.head.2,
        }
    }

    /// The batches.
    pub fn batches(&self) -> Vec<StoredBatch> {
        let stored = |batch: &CopiedBatch| StoredBatch {
            id: batch.id,
            at_ms: batch.at_ms,
            root: Hash(batch.root),
            contents: BatchContents {
                ids: batch.ids.clone(),
                salts: batch.salts.clone(),
                values: batch.values.clone(),
            },
        };
        self.batches.iter().map(stored).collect()
    }
}
