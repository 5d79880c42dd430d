//! A log as it is exported, line by line, and the check of it by somebody who has nothing else.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    frontier::Frontier,
    hash::{Hash, entry_hash},
    head::{Head, SignedHead},
    keys::{KeyList, PublishedKey},
    receipt::{Place, Refused},
};

/// One line of an export, a JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExportLine {
    /// A key.
    Key(PublishedKey),
    /// A log begins.
    Log {
        /// Its name.
        id: Uuid,
        /// When it began.
        created_at_ms: i64,
        /// Why it began.
        reason: String,
    },
    /// The next batch of the log.
    Entry {
        /// Its place.
        index: u64,
        /// Its id.
        batch: Uuid,
        /// How many leaves it has.
        leaves: u64,
        /// The root over them.
        root: Hash,
    },
    /// A head over the entries so far.
    Head(SignedHead),
}

/// The check of an export: every head is the root of the entries before it, and signed by a key that was in use.
#[derive(Debug, Default)]
pub struct ExportCheck {
    keys: KeyList,
    /// Keys that are known from elsewhere: others do not count.
    is_keys_given: bool,
    log: Option<Uuid>,
    tree: Frontier,
    last: Option<Head>,
    /// Entries that were checked.
    pub entries: u64,
    /// Heads that were checked.
    pub heads: u64,
}

impl ExportCheck {
    /// A check that takes the export's own word for the keys, unless they are given.
    pub fn new(keys: Option<KeyList>) -> Self {
        Self {
            is_keys_given: keys.is_some(),
            keys: keys.unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// [`Refused`], with the place.
    pub fn take(&mut self, line: ExportLine) -> Result<(), Refused> {
        match line {
            ExportLine::Key(key) => {
                if !self.is_keys_given {
                    self.keys.keys.push(key);
                }
                Ok(())
            }
            ExportLine::Log { id, .. } => {
                self.log = Some(id);
                self.tree = Frontier::new();
                self.last = None;
                Ok(())
            }
            ExportLine::Entry {
                index,
                batch,
                leaves,
                root,
            } => self.entry(index, &entry_hash(batch, leaves, &root)),
            ExportLine::Head(signed) => self.head(&signed),
        }
    }

    fn entry(&mut self, index: u64, hash: &Hash) -> Result<(), Refused> {
        let expected = self.tree.size();
        if self.log.is_none() || index != expected {
            return Err(Refused::at(
                Place::Order,
                format!("entry {index} stands where {expected} must"),
            ));
        }
        self.tree.push(*hash);
        self.entries += 1;
        Ok(())
    }

    fn head(&mut self, signed: &SignedHead) -> Result<(), Refused> {
        let head = &signed.head;
        let size = self.tree.size();
        if Some(head.log) != self.log || head.size != size {
            let detail = format!(
                "the head of size {} of log {} stands behind {size} entries",
                head.size, head.log
            );
            return Err(Refused::at(Place::Order, detail));
        }
        if head.root != self.tree.root() {
            return Err(Refused::at(
                Place::LogPath,
                format!("the head of size {size} is not the root of the entries before it"),
            ));
        }
        if self.last.is_some_and(|last| last.at_ms > head.at_ms) {
            return Err(Refused::at(
                Place::Order,
                format!("the head of size {size} is of an earlier instant than the one before it"),
            ));
        }
        self.keys.check(signed)?;
        self.last = Some(*head);
        self.heads += 1;
        Ok(())
    }
}
