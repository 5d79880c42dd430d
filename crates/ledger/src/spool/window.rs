//! A bounded part of a file in memory: a spool may be larger than the memory that there is.

use std::io::{self, Read};

/// How much is read at least at once, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// What was read and is not yet passed.
pub(super) struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    passed: usize,
    /// Where `bytes` begins in the file.
    begin: u64,
}

impl<R: Read> Window<R> {
    /// At the source's present position, which counts as offset 0.
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            bytes: Vec::new(),
            passed: 0,
            begin: 0,
        }
    }

    /// Where the window begins in the file.
    pub(super) fn offset(&self) -> u64 {
        self.begin + self.passed as u64
    }

    /// What is in memory from here on.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.passed..).unwrap_or_default()
    }

    /// Passes `count` bytes, at most those in memory.
    pub(super) fn pass(&mut self, count: usize) {
        self.passed = self.passed.saturating_add(count).min(self.bytes.len());
    }

    /// Reads until `wanted` bytes are in memory; false if the file ends before.
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let missing = wanted.saturating_sub(self.bytes().len());
        if missing == 0 {
            return Ok(true);
        }
        // moved only if less is kept than was passed, so that every byte is moved about once
        if self.passed > self.bytes.len() / 2 {
            self.begin += self.passed as u64;
            self.bytes.drain(..self.passed);
            self.passed = 0;
        }
        let at_once = missing.max(CHUNK_BYTES);
        self.bytes.reserve(at_once);
        self.source.by_ref().take(at_once as u64).read_to_end(&mut self.bytes)?;
        Ok(self.bytes().len() >= wanted)
    }

    /// The source, to read something else.
    pub(super) fn into_source(self) -> R {
        self.source
    }
}
