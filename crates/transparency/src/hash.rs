//! Hashes: SHA-256, with the prefixes of RFC 6962 section 2.1 that keep leaves apart from nodes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const LEAF: [u8; 1] = [0];
const NODE: [u8; 1] = [1];

/// A SHA-256 hash. Its text form is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The root of a tree without leaves: the hash of nothing.
    pub fn of_nothing() -> Self {
        of(&[])
    }

    /// From stored bytes; `None` when they are not 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

fn of(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    Hash(hash.finalize().into())
}

/// The value of a leaf as others see it: they cannot guess the statement without the salt.
pub fn salted(salt: &[u8; 16], statement: &str) -> Hash {
    of(&[salt, statement.as_bytes()])
}

/// The hash of a leaf in a tree (RFC 6962: `0x00`, then the leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    of(&[&LEAF, leaf])
}

/// The hash of two subtrees (RFC 6962: `0x01`, left, right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    of(&[&NODE, &left.0, &right.0])
}

/// The log's leaf for a batch: its id, how many leaves it has (8 bytes, the highest first), the root over them. Without the
/// number a root would not say how large its tree is.
pub fn entry_hash(batch: Uuid, leaves: u64, root: &Hash) -> Hash {
    of(&[&LEAF, batch.as_bytes(), &leaves.to_be_bytes(), &root.0])
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| "a hash is 64 hexadecimal digits")?;
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
