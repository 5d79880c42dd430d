//! What an operator may set about outgoing connections.

use std::time::Duration;

/// Which addresses a provider's calls may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AddressPolicy {
    /// Public addresses only, `https` only, on the ports of [`OutboundSettings::public_ports`].
    #[default]
    PublicOnly,
    /// Private networks and loopback as well, also plain `http`, on any port. For a provider that the operator has
    /// explicitly marked so. Link-local, metadata, multicast and reserved addresses stay forbidden.
    AllowPrivate,
}

/// Settings of the clients; every worker builds its own from the same settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundSettings {
    /// Longest time for resolution, TCP and TLS handshake together.
    pub connect_timeout: Duration,
    /// How long an unused connection stays open.
    pub pool_idle_timeout: Duration,
    /// Most unused connections kept per origin and worker.
    pub pool_max_idle_per_host: usize,
    /// The ports that [`AddressPolicy::PublicOnly`] may call.
    pub public_ports: Vec<u16>,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            pool_idle_timeout: Duration::from_secs(60),
            pool_max_idle_per_host: 256,
            public_ports: vec![443, 8443],
        }
    }
}
