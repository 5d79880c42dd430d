//! The proxy before a tiny server: every fault as both sides see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod breaking;
mod control;
mod slowing;
mod world;
