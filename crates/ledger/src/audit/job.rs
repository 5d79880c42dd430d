//! The audit by the clock: what it found is told in metrics and, if anything offends, in the log.

use std::time::{Duration, Instant};

use metrics::gauge;
use store::{Database, StoreError};

use super::verify_alone;

/// Audits gently and tells what was found, unless another node is at it. Answers whether it did.
///
/// # Errors
/// When the database cannot be read; the metrics then stay as they were.
pub async fn run_scheduled(database: &Database, max_request_time: Duration) -> Result<bool, StoreError> {
    let since = Instant::now();
    let Some(report) = verify_alone(database, max_request_time).await? else {
        return Ok(false);
    };
    let ended = database.now().await?;
    let offences = u32::try_from(report.offences().count()).unwrap_or(u32::MAX);
    for check in report.offences() {
        let offender = check.offender.as_deref().unwrap_or_default();
        tracing::error!(
            invariant = check.invariant,
            statement = check.statement,
            offender,
            "the books are not consistent: run `truerelay ledger verify`, keep a copy of the database, ask for help"
        );
    }
    gauge!("truerelay_ledger_audit_clean").set(f64::from(u8::from(report.is_clean())));
    gauge!("truerelay_ledger_audit_offences").set(f64::from(offences));
    gauge!("truerelay_ledger_audit_duration_seconds").set(since.elapsed().as_secs_f64());
    let ended = Duration::from_millis(u64::try_from(ended.0).unwrap_or(0));
    gauge!("truerelay_ledger_audit_last_run_timestamp_seconds").set(ended.as_secs_f64());
    Ok(true)
}
