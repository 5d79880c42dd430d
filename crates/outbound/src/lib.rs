//! The only place that builds HTTP clients for calls to providers.
//!
//! Owns: TLS roots, connection pools, connect timeouts, and the guard that keeps a call from reaching an address that
//! it must not reach. Must not: know a provider or a wire format, follow a redirect, send a request twice, or
//! time an answer (first byte, idle and total time limits belong to the caller, who cancels by dropping the future or the body).

mod address;
mod body;
mod client;
mod connector;
mod error;
mod kept;
mod resolver;
mod settings;
mod target;

pub use address::{AddressClass, classify};
pub use body::UpstreamBody;
pub use client::{UpstreamClient, Via};
pub use error::OutboundError;
pub use resolver::{Resolve, ResolveFuture, SystemResolver};
pub use settings::{AddressPolicy, OutboundSettings};
pub use target::check_base_url;
