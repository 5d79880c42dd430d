//! Chance that can be had again: numbers from a seed that a run prints.

use std::time::Duration;

/// Numbers from a seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// The numbers of this seed.
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The numbers of this run, whose seed is printed: `TRUERELAY_TEST_SEED` repeats them.
    pub fn of_run() -> Self {
        let seed = Self::seed_of_run();
        eprintln!("TRUERELAY_TEST_SEED={seed}");
        Self(seed)
    }

    /// The seed of this run.
    pub fn seed_of_run() -> u64 {
        std::env::var("TRUERELAY_TEST_SEED").map_or_else(
            |_| u64::from(std::process::id()),
            |seed| seed.parse().expect("TRUERELAY_TEST_SEED is a number"),
        )
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Waits for less than so many milliseconds.
    pub async fn pause(&mut self, up_to_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(up_to_ms))).await;
    }
}
