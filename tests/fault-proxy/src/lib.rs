//! A TCP proxy that does to connections what networks and dying peers do: it delays, slows, stalls, cuts, resets,
//! refuses and corrupts, on order and repeatably. Tests put it before providers, PostgreSQL and Redis.
//!
//! Owns: bytes between two sockets and the faults on their way. Must not: know what the bytes mean (events of a stream
//! are counted by their blank lines, nothing is parsed), or be part of the product. What a provider says is scripted in
//! the simulator; this crate is about how it arrives.

mod connection;
mod control;
mod faults;
mod lane;
mod meter;
mod proxy;

pub use faults::{Cut, CutKind, CutPoint, Drip, Faults, Lane};
pub use proxy::{Counts, Handle, Proxy, ProxyError};
