//! What happened, step by step: always as a hash, and as text for whoever replays one seed.

/// The steps of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    steps: u64,
    is_told: bool,
}

impl Trace {
    /// An empty trace; told steps go to standard error.
    pub const fn new(is_told: bool) -> Self {
        // the offset basis of FNV-1a
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            is_told,
        }
    }

    /// Adds a step: when, what, about whom, and a number that belongs to it.
    pub fn note(&mut self, now_ms: u64, what: &str, about: u64, number: i64) {
        self.steps += 1;
        let parts = [now_ms, about, number.cast_unsigned()];
        for byte in what.bytes().chain(parts.into_iter().flat_map(u64::to_le_bytes)) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_told {
            eprintln!(
                "{:>6}.{:03} {what:<34} {about:>6} {number}",
                now_ms / 1_000,
                now_ms % 1_000
            );
        }
    }

    /// The same for the same steps.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many there were.
    pub const fn steps(&self) -> u64 {
        self.steps
    }
}
