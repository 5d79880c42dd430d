//! Pricing from the outside: the worked examples, and properties that hold for any price entry.

// test support is no test function, so clippy.toml does not reach it
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;
mod examples;
mod generate;
mod properties;
mod recompute;
mod reference;
mod rises;
