//! Which endings of a request cost the customer anything at all.

use crate::request::Reason;

/// Whether a request that ended like this is charged for its usage: as far as it was noted, where its node ended nothing
/// any more. Where it is not, settle with [`Charge::nothing`](super::Charge::nothing), whatever usage was seen.
pub const fn is_charged(reason: Reason) -> bool {
    match reason {
        Reason::Completed
        | Reason::CompletedUsageEstimated
        | Reason::ClientGone
        | Reason::UpstreamCutOff
        | Reason::TimeoutAfterOutput
        | Reason::RelayCrashed
        | Reason::HoldExpired => true,
        Reason::ClientGoneBeforeHead
        | Reason::UpstreamNoOutput
        | Reason::UpstreamFailed
        | Reason::UpstreamRejected
        | Reason::ModelSubstituted
        | Reason::TimeoutBeforeOutput
        | Reason::InsufficientCredit
        | Reason::BudgetExceeded
        | Reason::LedgerUnavailable
        | Reason::InternalError => false,
    }
}
