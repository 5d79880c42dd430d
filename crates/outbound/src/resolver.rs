//! From a host name to its addresses: once per connection.

use std::{future::Future, io, net::SocketAddr, pin::Pin};

/// The addresses of a name, or why there are none.
pub type ResolveFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// A source of addresses. Its answers are judged before any of them is used.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `host`, each with `port`, in the order in which they should be tried.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> ResolveFuture<'a>;
}

/// The operating system's resolver (hosts file, DNS, search domains).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> ResolveFuture<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}
