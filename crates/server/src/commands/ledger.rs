//! `truerelay ledger`.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use ledger::{
    SpoolSurvey,
    audit::{AuditSettings, Check, Pace, WAITING_FOR_PAYMENTS, verify, verify_log},
    survey_spools,
};

use super::{ConfigFile, block_on};
use crate::{
    data_folder::LOG_FOLDER,
    opening::open_for_reading,
    output::{complain, say},
};

/// A multiple of the auditor's pages.
const ROWS_BETWEEN_TIDINGS: u64 = 100_000;

/// What to do with the books.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Check that the books are consistent. Changes nothing and may run beside a server.
    Verify(VerifyOptions),
    /// Write the transparency log to standard output, for somebody who checks it alone with `truerelay receipt verify-log`.
    ExportLog(ConfigFile),
    /// Bring what was archived since into a database that was restored from a backup. Stop every node first.
    Replay(super::replay::Options),
}

/// What is checked.
#[derive(Debug, Args)]
pub struct VerifyOptions {
    #[command(flatten)]
    config: ConfigFile,
    /// Check the transparency log instead: leaves against rows, order, tree, heads, signatures, copies.
    #[arg(long)]
    log: bool,
}

/// Does what was asked for; a failed check or a loss makes the command fail.
pub fn run(action: &Action) -> anyhow::Result<ExitCode> {
    match action {
        Action::Verify(options) if options.log => run_verify_log(&options.config),
        Action::Verify(options) => run_verify(&options.config),
        Action::ExportLog(config) => run_export_log(config),
        Action::Replay(options) => super::replay::run(options),
    }
}

fn run_verify(config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    let settings = AuditSettings {
        max_request_time: config.relay.total_timeout(),
        pace: Pace::Full,
    };
    let report = block_on(async {
        let database = open_for_reading(&config).await?;
        let report = verify(&database, settings, &tell_progress).await?;
        database.close().await;
        Ok(report)
    })?;
    report.checks.iter().for_each(|check| say(line(check)));
    for (invariant, statement) in WAITING_FOR_PAYMENTS {
        say(format!("-       {invariant}  {statement}: waits for payments"));
    }
    let spools_are_whole = tell_spools(&config.data.folder)?;
    if !report.is_clean() {
        say("the books are NOT consistent: stop serving, keep a copy of the database, and ask for help");
        return Ok(ExitCode::FAILURE);
    }
    say("the books are consistent");
    if !spools_are_whole {
        say("a spool of this node is damaged: keep a copy of the data folder's `spool` before the next start");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_export_log(config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    block_on(async {
        let database = open_for_reading(&config).await?;
        let written = transparency_log::export(&database, |line| {
            say(serde_json::to_string(line)?);
            Ok(())
        });
        written.await?;
        database.close().await;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn run_verify_log(config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    let report = block_on(async {
        let database = open_for_reading(&config).await?;
        let copies = config.transparency.copies(config.data.folder.join(LOG_FOLDER)).folder;
        let report = verify_log(&database, &copies, Pace::Full, &tell_progress).await?;
        database.close().await;
        Ok(report)
    })?;
    report.checks.iter().for_each(|check| say(line(check)));
    if !report.is_clean() {
        say("the transparency log does NOT agree with the books: keep copies of the database and of the log's folder");
        return Ok(ExitCode::FAILURE);
    }
    say("the transparency log agrees with the books");
    Ok(ExitCode::SUCCESS)
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

/// On standard error, now and then, for tables that take a while.
fn tell_progress(table: &'static str, rows: u64) {
    if rows > 0 && rows.is_multiple_of(ROWS_BETWEEN_TIDINGS) {
        complain(format!("{table}: {rows} rows read"));
    }
}

/// What waits on this node's disk for the database. Answers whether all of it can be read.
fn tell_spools(data_folder: &Path) -> anyhow::Result<bool> {
    let surveys = survey_spools(data_folder).context("cannot read this node's spools")?;
    for survey in &surveys {
        let SpoolSurvey {
            boot,
            ends,
            progress,
            unknown,
            damaged,
        } = survey;
        let word = if survey.is_whole() { "ok    " } else { "FAILED" };
        say(format!(
            "{word}  spool of boot {boot}: {ends} ends and {progress} notes of progress wait for the database"
        ));
        if *unknown > 0 {
            say(format!("        {unknown} records are of no known kind"));
        }
        for damage in damaged {
            say(format!("        {damage}"));
        }
    }
    Ok(surveys.iter().all(SpoolSurvey::is_whole))
}
