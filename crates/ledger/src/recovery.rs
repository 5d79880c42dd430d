//! Closing what nobody will close any more: holds of this node's earlier boots, at start; and of anybody, those that are
//! older than any request may be, and those of retired nodes.
//!
//! A request whose answer had begun is settled at the last progress that was written, which is never above what the
//! provider counted; any other is free, and what its provider may bill is the operator's loss, at the most that it can
//! be. So is one that was free by rule already, such as an answer of another model, at what its provider had done by then.
//! The first terminal row wins: a node that was only slow finds its requests closed.

use domain::{RequestId, refund_rules::Pays, request::Reason};

use crate::{
    batch::Item,
    error::LedgerError,
    items::{AbandonedHold, Closing, End, ProviderCost},
    ledger_store::{Abandoned, LedgerStore},
    queue::Queue,
};

const PAGE: u32 = 500;
/// On the request-log record of a request that recovery has closed.
const FLAG: &str = "recovered";

/// Closes the given holds. Answers how many there were, when all are durable.
///
/// # Errors
/// When the database cannot be read or the writer has stopped.
pub async fn close_abandoned(store: &dyn LedgerStore, queue: &Queue, which: Abandoned) -> Result<u64, LedgerError> {
    let reason = match which {
        Abandoned::EarlierBoots(_) | Abandoned::Retired => Reason::RelayCrashed,
        Abandoned::OlderThan(_) => Reason::HoldExpired,
    };
    let mut closed = 0;
    let mut after = RequestId::from_uuid(uuid::Uuid::nil());
    loop {
        let holds = store.abandoned(which, after, PAGE).await?;
        let Some(last) = holds.last() else { return Ok(closed) };
        // after the last row of the page, so that a hold which cannot be closed does not keep the others from it
        after = last.hold.request;
        closed += close_all(queue, holds, reason).await?;
    }
}

async fn close_all(queue: &Queue, holds: Vec<AbandonedHold>, reason: Reason) -> Result<u64, LedgerError> {
    let mut pending = Vec::with_capacity(holds.len());
    for hold in holds {
        pending.push(queue.push_recovered(Item::Close(closing(hold, reason))).await?);
    }
    let mut closed = 0;
    for receiver in pending {
        match receiver.await.map_err(|_| LedgerError::Stopped)? {
            Ok(()) => closed += 1,
            // the writer has told which and why; somebody must look, and all others must not wait for that
            Err(LedgerError::Rejected) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(closed)
}

/// How a request ends that nobody ended.
fn closing(abandoned: AbandonedHold, reason: Reason) -> Closing {
    let AbandonedHold { hold, progress } = abandoned;
    let noted = progress.filter(|_| reason.rule().pays == Pays::NotedUsage);
    let (reason, end, unbilled, record) = match noted {
        Some(progress) => match progress.free_by {
            None => (reason, End::Settle(progress.so_far), Vec::new(), progress.record),
            Some(rule) => {
                let cost = progress.so_far.provider_cost().clone();
                (rule, End::Void, vec![cost], progress.record)
            }
        },
        None => {
            let possible = ProviderCost {
                provider: hold.provider,
                amount: hold.provider_estimate,
            };
            (reason, End::Void, vec![possible], None)
        }
    };
    let record = record.map(|mut record| {
        record.reason = reason;
        record.flags.push(FLAG.to_owned());
        record
    });
    Closing {
        request: hold.request,
        tenant: hold.tenant,
        key: hold.key,
        reason,
        end,
        unbilled,
        record,
    }
}
