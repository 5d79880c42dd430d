//! What one transaction puts into the log: a leaf for each request that it closed and each transaction that it posted.

use uuid::Uuid;

use crate::{
    hash::{Hash, leaf_hash, salted},
    tree,
};

/// Bytes of a leaf's id as stored: the kind, then the id.
const ID_BYTES: usize = 17;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// What a leaf is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeafKind {
    /// The end of a request.
    Request,
    /// A ledger transaction.
    Transaction,
}

impl LeafKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Request => b'r',
            Self::Transaction => b't',
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'r' => Some(Self::Request),
            b't' => Some(Self::Transaction),
            _ => None,
        }
    }
}

/// One leaf as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// What it is about.
    pub kind: LeafKind,
    /// Of what.
    pub id: Uuid,
    /// Keeps others from guessing the statement.
    pub salt: [u8; SALT_BYTES],
    /// [`salted`] over the statement.
    pub value: Hash,
}

/// The leaves of a batch as they are stored, side by side in three texts of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchContents {
    /// Kind and id of each.
    pub ids: Vec<u8>,
    /// The salts.
    pub salts: Vec<u8>,
    /// The values.
    pub values: Vec<u8>,
}

impl BatchContents {
    /// Room for so many leaves.
    pub fn with_capacity(leaves: usize) -> Self {
        Self {
            ids: Vec::with_capacity(leaves * ID_BYTES),
            salts: Vec::with_capacity(leaves * SALT_BYTES),
            values: Vec::with_capacity(leaves * HASH_BYTES),
        }
    }

    /// Adds a leaf.
    pub fn push(&mut self, kind: LeafKind, id: Uuid, salt: [u8; SALT_BYTES], statement: &str) {
        self.ids.push(kind.byte());
        self.ids.extend_from_slice(id.as_bytes());
        self.salts.extend_from_slice(&salt);
        self.values.extend_from_slice(&salted(&salt, statement).0);
    }

    /// How many leaves there are, whole or not.
    pub const fn len(&self) -> usize {
        self.values.len() / HASH_BYTES
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The leaves; `None` when the texts do not fit together or a kind is unknown.
    pub fn leaves(&self) -> Option<Vec<Logged>> {
        let count = self.len();
        let lengths = [self.ids.len(), self.salts.len(), self.values.len()];
        if lengths != [count * ID_BYTES, count * SALT_BYTES, count * HASH_BYTES] {
            return None;
        }
        let ids = self.ids.chunks_exact(ID_BYTES);
        let salts = self.salts.chunks_exact(SALT_BYTES);
        let values = self.values.chunks_exact(HASH_BYTES);
        ids.zip(salts)
            .zip(values)
            .map(|((id, salt), value)| {
                let (kind, id) = id.split_first()?;
                Some(Logged {
                    kind: LeafKind::of(*kind)?,
                    id: Uuid::from_slice(id).ok()?,
                    salt: salt.try_into().ok()?,
                    value: Hash::from_slice(value)?,
                })
            })
            .collect()
    }

    /// The root over the leaves.
    pub fn root(&self) -> Hash {
        tree::root(&self.hashes())
    }

    /// The path from a leaf to the root; `None` without such a leaf.
    pub fn path(&self, index: usize) -> Option<Vec<Hash>> {
        tree::path(&self.hashes(), index)
    }

    fn hashes(&self) -> Vec<Hash> {
        self.values.chunks_exact(HASH_BYTES).map(leaf_hash).collect()
    }
}
