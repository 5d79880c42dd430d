//! A receipt: a statement with its proof that it is in the log, and the check of it, which needs nothing else.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    hash::{Hash, entry_hash, leaf_hash, salted},
    head::SignedHead,
    keys::{KeyList, PublishedKey, SignatureFault},
    proof,
};

/// The form of receipts.
pub const RECEIPT_FORMAT: &str = "truerelay-receipt/1";

/// What a customer is given for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`RECEIPT_FORMAT`].
    pub format: String,
    /// What is stated, verbatim as it was hashed.
    pub statement: String,
    /// 16 bytes in hexadecimal digits.
    pub salt: String,
    /// The leaf's value: SHA-256 over salt and statement, which is all that others see.
    pub leaf: Hash,
    /// The way to the root of its batch.
    pub batch: BatchProof,
    /// The way from there to the root of the log.
    pub log: LogProof,
    /// The first published head that covers it.
    pub head: SignedHead,
    /// The key that signed it, as it is published.
    pub key: PublishedKey,
}

/// Where a leaf is in its batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchProof {
    /// The batch.
    pub id: Uuid,
    /// The number of the leaf, from 0.
    pub index: u64,
    /// How many leaves there are.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// From the leaf's sibling upwards.
    pub path: Vec<Hash>,
}

/// Where a batch is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogProof {
    /// The number of the batch, from 0.
    pub index: u64,
    /// From the batch's sibling upwards, in the tree of the head.
    pub path: Vec<Hash>,
}

/// Where a check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The document's form.
    Format,
    /// Statement, salt and leaf.
    Statement,
    /// The way to the batch's root.
    BatchPath,
    /// The way to the log's root.
    LogPath,
    /// The key.
    Key,
    /// The head's signature.
    Signature,
    /// The older head.
    Consistency,
    /// The order of an export's lines.
    Order,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "format",
            Self::Statement => "statement",
            Self::BatchPath => "batch path",
            Self::LogPath => "log path",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Consistency => "consistency",
            Self::Order => "order",
        })
    }
}

/// A receipt or a head that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct Refused {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub detail: String,
}

impl Refused {
    /// Something is wrong at a place.
    pub fn at(place: Place, detail: impl Into<String>) -> Self {
        Self {
            place,
            detail: detail.into(),
        }
    }
}

impl From<SignatureFault> for Refused {
    fn from(fault: SignatureFault) -> Self {
        let place = match fault {
            SignatureFault::Forged(_) => Place::Signature,
            SignatureFault::UnknownKey(_) | SignatureFault::WrongKey(_) | SignatureFault::Retired { .. } => Place::Key,
        };
        Self::at(place, fault.to_string())
    }
}

/// What a receipt that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The statement, parsed.
    pub statement: serde_json::Value,
    /// Whether the key was compared with published ones, and not only with the receipt's own word.
    pub is_key_known: bool,
}

impl Receipt {
    /// Checks everything. With `published`, the key must be one of those; without, the receipt's own is taken.
    ///
    /// # Errors
    /// [`Refused`], with the place.
    pub fn verify(&self, published: Option<&KeyList>) -> Result<Verified, Refused> {
        if self.format != RECEIPT_FORMAT {
            return Err(Refused::at(
                Place::Format,
                format!("this release checks {RECEIPT_FORMAT}, not {:?}", self.format),
            ));
        }
        let statement = self.check_statement()?;
        self.check_paths()?;
        let own = KeyList {
            keys: vec![self.key.clone()],
        };
        published.unwrap_or(&own).check(&self.head)?;
        Ok(Verified {
            statement,
            is_key_known: published.is_some(),
        })
    }

    fn check_statement(&self) -> Result<serde_json::Value, Refused> {
        let mut salt = [0; 16];
        hex::decode_to_slice(&self.salt, &mut salt)
            .map_err(|_| Refused::at(Place::Statement, "the salt is not 32 hexadecimal digits"))?;
        if salted(&salt, &self.statement) != self.leaf {
            return Err(Refused::at(
                Place::Statement,
                "statement and salt do not hash to the leaf: one of the three was changed, or belongs to another receipt",
            ));
        }
        serde_json::from_str(&self.statement)
            .map_err(|_| Refused::at(Place::Statement, "the statement is no JSON text"))
    }

    fn check_paths(&self) -> Result<(), Refused> {
        let batch = &self.batch;
        let root = proof::root_of_path(&leaf_hash(&self.leaf.0), batch.index, batch.size, &batch.path);
        if root != Some(batch.root) {
            return Err(Refused::at(
                Place::BatchPath,
                format!("leaf {} does not lead to the root of batch {}", batch.index, batch.id),
            ));
        }
        let head = &self.head.head;
        let entry = entry_hash(batch.id, batch.size, &batch.root);
        let root = proof::root_of_path(&entry, self.log.index, head.size, &self.log.path);
        if root != Some(head.root) {
            return Err(Refused::at(
                Place::LogPath,
                format!(
                    "batch {} at {} does not lead to the root of the log's head of size {}",
                    batch.id, self.log.index, head.size
                ),
            ));
        }
        Ok(())
    }
}
