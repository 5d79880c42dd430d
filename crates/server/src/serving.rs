//! A node from its start to its end, for `serve` and for the demo alike.

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    config::Config,
    listeners::{start_admin, start_relay},
    opening::{Opened, open_for_serving},
    runtimes::{RuntimeHandles, Runtimes},
    shutdown::{Running, StopSignals},
    watchers,
    wiring::wire,
};

/// A node whose database is open, before anything reads from it.
pub struct Prepared {
    /// Folder, keys and database.
    pub opened: Opened,
    runtimes: RuntimeHandles,
}

/// Runs a node on threads of its own; `node` decides what happens between opening and serving.
///
/// # Errors
/// Those of `node`, and when threads cannot be started.
pub fn run<F>(node: impl FnOnce(RuntimeHandles) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtimes = Runtimes::start()?;
    let outcome = actix_web::rt::System::new().block_on(node(runtimes.handles()));
    runtimes.stop();
    outcome
}

/// Opens the folder, the keys and the database.
///
/// # Errors
/// As [`open_for_serving`].
pub async fn prepare(config: &Config, runtimes: RuntimeHandles) -> anyhow::Result<Prepared> {
    let opened = open_for_serving(config, &runtimes.money).await?;
    Ok(Prepared { opened, runtimes })
}

/// Wires the parts and starts to listen.
///
/// # Errors
/// When a part cannot be made or an address cannot be had.
pub async fn start(config: &Config, prepared: &Prepared, metrics: PrometheusHandle) -> anyhow::Result<Running> {
    let signals = StopSignals::catch().context("cannot catch signals")?;
    let (node, writer) = wire(config, &prepared.opened, &prepared.runtimes).await?;
    let relay = start_relay(config, &node)?;
    let admin = start_admin(config, &node, &metrics)?;
    watchers::start(&node, config, metrics, &prepared.runtimes.background);
    tracing::info!(relay = %relay.address, admin = %admin.address, "listening");
    Ok(Running {
        node,
        relay,
        admin,
        writer,
        signals,
    })
}
