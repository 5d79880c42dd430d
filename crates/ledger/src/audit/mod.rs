//! The auditor: checks on a live database that the books keep their invariants (docs/audit.md lists them), in one
//! consistent reading, and names the first row that offends each.
//!
//! It reads tables of other crates too (the price book, the request log), because what is checked is that they agree.
//! Tables are read in pages of their keys, so that memory stays bounded and a large one can be read gently.

mod budgets;
mod corrections;
mod guards;
mod job;
mod leaves;
mod log;
mod quarantine;
mod reader;
mod records;
mod revenue;
mod rules;
mod sweep;

use std::time::Duration;

use serde::Serialize;
use store::{Database, StoreError};

pub use job::run_scheduled;
pub use log::verify_log;
pub use reader::Pace;

use reader::Reader;

/// One invariant and what became of its check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The invariant's number, as in docs/audit.md.
    pub invariant: &'static str,
    /// What was checked.
    pub statement: &'static str,
    /// How many rows were looked at.
    pub rows: u64,
    /// The first offending row, if there is one.
    pub offender: Option<String>,
}

impl Check {
    const fn new(invariant: &'static str, statement: &'static str) -> Self {
        Self {
            invariant,
            statement,
            rows: 0,
            offender: None,
        }
    }

    fn offend(&mut self, offender: impl FnOnce() -> String) {
        if self.offender.is_none() {
            self.offender = Some(offender());
        }
    }
}

/// Invariants of which nothing can be checked before the product takes payments, with what they are about.
pub const WAITING_FOR_PAYMENTS: [(&str, &str); 3] = [
    ("I9", "credit for a payment is the amount of its order, once"),
    ("I10", "refunds of a payment are no more than what is left of it"),
    ("I14", "clearing accounts agree with what the payment provider says"),
];

/// What an audit found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Every check, in order of the invariants' numbers.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether no row offends.
    pub fn is_clean(&self) -> bool {
        self.offences().next().is_none()
    }

    /// The checks that found something.
    pub fn offences(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.offender.is_some())
    }
}

/// What an audit needs to know.
#[derive(Debug, Clone, Copy)]
pub struct AuditSettings {
    /// The longest that a request may take.
    pub max_request_time: Duration,
    /// How hard the database is asked.
    pub pace: Pace,
}

/// Is told the table that is being read and how many of its rows have been.
pub type Progress<'a> = &'a (dyn Fn(&'static str, u64) + Sync);

/// Checks every invariant that can be checked.
///
/// # Errors
/// When the database cannot be read. An offending row is not an error but part of the report.
pub async fn verify(
    database: &Database,
    settings: AuditSettings,
    progress: Progress<'_>,
) -> Result<Report, StoreError> {
    let reader = Reader::begin(database, settings.pace, progress).await?;
    let report = check_all(&reader, settings.max_request_time).await;
    reader.end().await?;
    report
}

/// As [`verify`], and gently; `None` while another node does the same.
///
/// # Errors
/// As [`verify`].
async fn verify_alone(database: &Database, max_request_time: Duration) -> Result<Option<Report>, StoreError> {
    let reader = Reader::begin(database, Pace::Gentle, &|_, _| {}).await?;
    let report = if reader.is_alone().await? {
        check_all(&reader, max_request_time).await.map(Some)
    } else {
        Ok(None)
    };
    reader.end().await?;
    report
}

async fn check_all(reader: &Reader<'_>, max_request_time: Duration) -> Result<Report, StoreError> {
    let mut checks = Vec::new();
    for sweep in rules::sweeps(max_request_time) {
        checks.extend(sweep.run(reader).await?);
    }
    checks.push(budgets::follow_from_holds(reader).await?);
    checks.push(revenue::charges_match_entries(reader).await?);
    checks.push(revenue::provider_costs_match_entries(reader).await?);
    checks.extend(corrections::are_within_charges(reader).await?);
    checks.push(records::say_nothing_negative(reader).await?);
    checks.push(guards::are_there(reader).await?);
    checks.push(quarantine::none_is_open(reader).await?);
    checks.sort_by_key(|check| number(check.invariant));
    Ok(Report { checks })
}

fn number(invariant: &str) -> u32 {
    invariant.trim_start_matches('I').parse().unwrap_or(u32::MAX)
}
