//! Heads of the log: its size and root at an instant, and the text of them that is signed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::hash::Hash;

/// How large the log was, and its root then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which log: another one begins only after a loss.
    pub log: Uuid,
    /// How many batches are in it.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When it was made, in milliseconds since 1970 by the database's clock.
    pub at_ms: i64,
}

impl Head {
    /// What is signed: four lines, in the manner of a checkpoint (C2SP tlog-checkpoint) with its root in hexadecimal digits.
    pub fn to_text(&self) -> String {
        format!(
            "truerelay-log/v1/{}\n{}\n{}\n{}\n",
            self.log, self.size, self.root, self.at_ms
        )
    }
}

/// A head as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// The head.
    #[serde(flatten)]
    pub head: Head,
    /// The key that signed it.
    pub key: String,
    /// The Ed25519 signature over [`Head::to_text`], in hexadecimal digits.
    pub signature: String,
}
