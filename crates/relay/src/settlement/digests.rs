//! Digests of what a client sent and was sent: with them whoever kept the bytes can show which request a receipt is about.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The digest of an answer that is being relayed.
#[derive(Default)]
pub(super) struct Digests {
    /// `None` before the first byte.
    state: Option<Sha256>,
}

impl Digests {
    /// Adds bytes, in the order in which they are relayed.
    pub fn add<'a>(&mut self, bytes: impl IntoIterator<Item = &'a Bytes>) {
        for bytes in bytes {
            self.state.get_or_insert_default().update(bytes);
        }
    }

    /// The digest in hexadecimal digits; `None` when nothing was relayed.
    pub fn finish(self) -> Option<String> {
        self.state.map(|state| hex::encode(state.finalize()))
    }
}

/// The digest of a whole body in hexadecimal digits.
pub(super) fn of(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}
