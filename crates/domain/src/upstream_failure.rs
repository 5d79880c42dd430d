//! PURE: which attempts of a request an upstream has failed: what outages are counted by.

use crate::request::{AttemptRecord, Reason, RequestRecord};

/// The attempts that came to nothing, or whose answer broke off, by the fault of their upstream. What it refuses (a 4xx:
/// the request, the credential, too many) is no failure of its.
pub fn failed_attempts(record: &RequestRecord) -> impl Iterator<Item = &AttemptRecord> {
    let broke_off = matches!(
        record.reason,
        Reason::UpstreamCutOff | Reason::UpstreamNoOutput | Reason::TimeoutBeforeOutput | Reason::TimeoutAfterOutput
    );
    record
        .attempts
        .iter()
        .filter(move |attempt| match attempt.outcome.as_str() {
            "won" => broke_off,
            // our own guard, before anything was sent
            "forbidden_address" | "invalid_url" | "tls_setup" => false,
            _ => !attempt.outcome.starts_with("status_4"),
        })
}

/// Whether an attempt's answer was the one that was relayed.
pub fn has_won(attempt: &AttemptRecord) -> bool {
    attempt.outcome == "won"
}
