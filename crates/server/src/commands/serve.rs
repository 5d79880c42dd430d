//! `truerelay serve`.

use std::process::ExitCode;

use super::ConfigFile;
use crate::{
    serving::{prepare, run as run_node, start},
    telemetry::{start_logs, start_metrics},
};

/// Serves until a signal comes.
pub fn run(config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    start_logs(&config.log)?;
    let metrics = start_metrics()?;
    run_node(async |runtimes| {
        let prepared = prepare(&config, runtimes).await?;
        start(&config, &prepared, metrics)
            .await?
            .until_stopped(&config.server)
            .await
    })?;
    Ok(ExitCode::SUCCESS)
}
