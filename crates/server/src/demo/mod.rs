//! `truerelay demo`: a relay that works at once, with a simulated provider over real HTTP, on the embedded default.
//! Not for serving anybody: it prints secrets, and its provider invents its answers.

mod banner;
mod options;
mod seeding;

use std::process::ExitCode;

use anyhow::{Context, bail};
use catalog::Basis;
use simulator::{Settings, Simulator};
use store::Database;

pub use options::Options;

use crate::{
    config::Config,
    output::say,
    runtimes::RuntimeHandles,
    serving::{prepare, run as run_node, start},
    telemetry::{start_logs, start_metrics},
};

/// The pause before each token, so that one sees the answer stream.
const TOKEN_DELAY_MS: u64 = 25;
const ALL_ON_ONE_PAGE: u64 = 200;

/// Runs the demo until a signal comes.
///
/// # Errors
/// When a port is taken, the folder is in use, the disk is full, or the demo would do what it must not.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.config()?;
    start_logs(&config.log)?;
    let metrics = start_metrics()?;
    run_node(async |runtimes| run_demo(&config, options, runtimes, metrics).await)?;
    say("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn run_demo(
    config: &Config,
    options: &Options,
    runtimes: RuntimeHandles,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) -> anyhow::Result<()> {
    let prepared = prepare(config, runtimes).await?;
    if !options.allow_real_providers {
        refuse_real_credentials(&prepared.opened.database).await?;
    }
    let settings = Settings {
        port: options.simulator_port,
        token_delay_ms: TOKEN_DELAY_MS,
        record_bodies: false,
        ..Settings::default()
    };
    let simulator = Simulator::start(settings).await.context("--simulator-port")?;
    let opened = &prepared.opened;
    let base_url = format!("{}/v1", simulator.base_url());
    let seeded = seeding::seed(&opened.database, &opened.keyring, &base_url).await?;
    let running = start(config, &prepared, metrics).await?;
    let headers_file = opened.folder.path().join("last-answer.headers");
    let place = banner::Place {
        relay: running.relay.address,
        admin: running.admin.address,
        simulator: simulator.base_url(),
        folder: opened.folder.path(),
        headers_file: &headers_file,
    };
    say(banner::text(&place, &seeded));
    let outcome = running.until_stopped(&config.server).await;
    simulator.stop().await;
    outcome
}

/// A demo prints keys that anybody on this machine may read: they must not spend a real account's money.
async fn refuse_real_credentials(database: &Database) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = catalog::list_credentials(database.readers(), None, after, ALL_ON_ONE_PAGE).await?;
        if let Some(real) = page.iter().find(|credential| credential.basis != Basis::Simulated) {
            bail!(
                "the data folder has a real provider's credential (`{}`): use `truerelay serve`, choose another folder \
                 with --data, or give --allow-real-providers",
                real.name
            );
        }
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
    }
}
