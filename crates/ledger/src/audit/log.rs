//! The audit of the transparency log: its own order and tree, and that its leaves state what the rows say.

use std::path::Path;

use store::Database;
use transparency_log::{LogAudit, LogError};

use super::{Check, Pace, Progress, Report, leaves, reader::Reader};

/// Checks the log against itself, the ledger, the request log, and the copies in a folder.
///
/// # Errors
/// When the database or a copy cannot be read. An offending row is not an error but part of the report.
pub async fn verify_log(
    database: &Database,
    copies: &Path,
    pace: Pace,
    progress: Progress<'_>,
) -> Result<Report, LogError> {
    let reader = Reader::begin(database, pace, progress).await?;
    let report = check_all(database, copies, &reader).await;
    reader.end().await?;
    report
}

async fn check_all(database: &Database, copies: &Path, reader: &Reader<'_>) -> Result<Report, LogError> {
    let mut checks = vec![
        leaves::charges_have_leaves(database, reader).await?,
        leaves::transactions_have_leaves(database, reader).await?,
        leaves::leaves_have_rows(database, reader).await?,
    ];
    let findings = LogAudit::run(database, reader.connection(), copies).await?;
    let numbers = ["L4", "L5", "L6", "L7", "L8", "L9", "L10"];
    checks.extend(findings.into_iter().zip(numbers).map(|(finding, invariant)| Check {
        invariant,
        statement: finding.statement,
        rows: finding.rows,
        offender: finding.offender,
    }));
    Ok(Report { checks })
}
