//! The transparency log's arithmetic: Merkle trees as in RFC 6962, proofs and their verification as in RFC 9162, what is
//! stated about requests and transactions, signed heads, receipts. PURE: no IO, no clock, no randomness.
//!
//! It is all that is needed to check a receipt offline. docs/transparency-log.md says what is logged and when.

pub mod batch;
mod export;
mod frontier;
mod hash;
mod head;
mod keys;
mod nodes;
pub mod proof;
mod receipt;
mod statement;
mod tree;

pub use batch::{BatchContents, LeafKind, Logged};
pub use export::{ExportCheck, ExportLine};
pub use frontier::Frontier;
pub use hash::{Hash, entry_hash, leaf_hash, node_hash, salted};
pub use head::{Head, SignedHead};
pub use keys::{KeyError, KeyList, LogKey, PublishedKey, SignatureFault, key_id};
pub use nodes::{Node, NodeLookup, consistency_nodes, consistency_path, inclusion_nodes, inclusion_path};
pub use receipt::{BatchProof, LogProof, Place, RECEIPT_FORMAT, Receipt, Refused, Verified};
pub use statement::{RequestStatement, TransactionStatement};
pub use tree::{path, root};
