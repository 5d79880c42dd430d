//! `truerelay ledger`.

use std::process::ExitCode;

use clap::Subcommand;
use ledger::verify::{Check, verify};

use super::{ConfigFile, block_on};
use crate::{opening::open_for_reading, output::say};

/// What to do with the books.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Check that the books are consistent. Changes nothing and may run beside a server.
    Verify(ConfigFile),
    /// Bring what was archived since into a database that was restored from a backup. Stop every node first.
    Replay(super::replay::Options),
}

/// Does what was asked for; a failed check or a loss makes the command fail.
pub fn run(action: &Action) -> anyhow::Result<ExitCode> {
    match action {
        Action::Verify(config) => run_verify(config),
        Action::Replay(options) => super::replay::run(options),
    }
}

fn run_verify(config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    let report = block_on(async {
        let database = open_for_reading(&config).await?;
        let report = verify(&database, config.relay.total_timeout()).await?;
        database.close().await;
        Ok(report)
    })?;
    report.checks.iter().for_each(|check| say(line(check)));
    if report.is_clean() {
        say("the books are consistent");
        return Ok(ExitCode::SUCCESS);
    }
    say("the books are NOT consistent: stop serving, keep a copy of the database, and ask for help");
    Ok(ExitCode::FAILURE)
}

fn line(check: &Check) -> String {
    let Check {
        invariant,
        statement,
        rows,
        offender,
    } = check;
    match offender {
        None => format!("ok      {invariant}  {statement} ({rows} rows)"),
        Some(offender) => format!("FAILED  {invariant}  {statement} ({rows} rows): {offender}"),
    }
}
