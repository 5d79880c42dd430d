//! The sequencer on real databases: crashes between its steps, disks that fail, keys that change, nodes side by side.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod copying;
mod sequencing;
mod world;
