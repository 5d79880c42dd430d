//! Archive and replay on real databases: what was lost by a restore comes back row by row, or is named.

mod history;
mod losses;
mod replays;
mod tables;
