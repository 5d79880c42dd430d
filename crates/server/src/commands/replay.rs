//! `truerelay ledger replay`.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use ledger::archive::{ReplayOrder, ReplayOutcome, ReplayProgress, ReplayReport, replay};
use transparency_log::Restored;

use super::{ConfigFile, block_on};
use crate::{
    opening::open_for_replay,
    output::{complain, say},
    wiring::RequestLogRider,
};

/// What to replay.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigFile,
    /// Give up what no archive brings back: nodes start again, and what was lost stays lost.
    #[arg(long, requires = "reason")]
    declare_lost: bool,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT", requires = "declare_lost")]
    reason: Option<String>,
    /// A folder with copies of the transparency log; of every node one. This node's own is always among them.
    #[arg(long, value_name = "FOLDER")]
    log_copies: Vec<PathBuf>,
    /// Archive folders of all nodes, or single files of them. This node's own is always among them.
    #[arg(value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
}

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Losses that are listed; the audit log names the first hundred.
const MOST_LISTED: usize = 1_000;

/// Replays; a loss that is not declared makes the command fail.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.config.load()?;
    let report = block_on(async {
        let opened = open_for_replay(&config).await?;
        let own_folder = opened.folder.archive_folder();
        let mut archives = options.archives.clone();
        if own_folder.exists() {
            archives.push(own_folder.clone());
        }
        let mut log_copies = options.log_copies.clone();
        log_copies.push(config.transparency.copies(opened.folder.log_folder()).folder);
        let order = ReplayOrder {
            archives,
            log_copies,
            declare_lost: options.reason.clone(),
            node: opened.folder.node_id(&opened.lock)?,
            own_folder,
        };
        let mut told = Told::default();
        let report = replay(&opened.database, &RequestLogRider, &order, |progress| {
            told.tell(progress)
        })
        .await
        .context("the replay was interrupted: run it again, it goes on where it was")?;
        opened.database.close().await;
        Ok(report)
    })?;
    Ok(conclude(&report))
}

#[derive(Default)]
struct Told {
    last: Option<Instant>,
}

impl Told {
    fn tell(&mut self, progress: ReplayProgress) {
        if self.last.is_some_and(|last| last.elapsed() < TELL_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        complain(match progress {
            ReplayProgress::Reading(segments) => format!("reading {segments} archive file(s)"),
            ReplayProgress::Tenants(counts) => {
                format!(
                    "tenants: {} commit(s) replayed, {} were there",
                    counts.applied, counts.known
                )
            }
            ReplayProgress::Batches(batches) => format!("batches: {batches} replayed"),
        });
    }
}

fn conclude(report: &ReplayReport) -> ExitCode {
    say(format!(
        "{} archive file(s): {} commit(s) of tenants and {} batch(es) replayed, {} were there",
        report.segments, report.parts.applied, report.batches, report.parts.known
    ));
    for loss in report.losses.named.iter().take(MOST_LISTED) {
        say(format!("LOST    {loss}"));
    }
    match &report.log {
        Restored::Nothing => {}
        Restored::PutBack { batches, heads } => {
            say(format!(
                "transparency log: {batches} batch(es) and {heads} head(s) put back"
            ));
        }
        Restored::NewLog { reason } => say(format!("A NEW TRANSPARENCY LOG BEGINS: {reason}")),
    }
    match report.outcome {
        ReplayOutcome::Complete => {
            say("everything that was archived is in the database: nodes may start");
            ExitCode::SUCCESS
        }
        ReplayOutcome::DeclaredLost => {
            say(format!(
                "{} loss(es) were declared: nodes may start",
                report.losses.count
            ));
            ExitCode::SUCCESS
        }
        ReplayOutcome::Incomplete => {
            say(format!(
                "{} loss(es): find the archives that are missing and run this again with all of them, or give up what \
                 is listed with --declare-lost --reason TEXT; no node starts before",
                report.losses.count
            ));
            ExitCode::FAILURE
        }
    }
}
