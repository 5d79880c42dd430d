//! Sending a request while its hold is being committed.
//!
//! The database's wait hides behind the provider's: a rich tenant's request is dispatched at once. Nothing of an
//! answer is handed out before the hold is durable, and a hold that is refused cancels the upstream.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use ledger::{LedgerError, Urgency};

use crate::{
    dispatch::{Dispatch, Lost, Won},
    settlement::Settlement,
};

/// Why nothing can be handed out.
pub enum NotSent {
    /// The ledger did not reserve the credit.
    Uncovered(LedgerError),
    /// The credit is reserved, and no upstream answers.
    Lost(Lost),
}

/// Dispatches, and answers when an upstream has begun to answer and the hold is durable.
pub async fn send_covered(
    settlement: &mut Settlement,
    dispatch: &Dispatch<'_>,
    hold_timeout: Duration,
) -> Result<Won, NotSent> {
    let Some((credit, story)) = settlement.split() else {
        return Err(NotSent::Uncovered(LedgerError::Stopped));
    };
    let deadline = Instant::now() + hold_timeout;
    let urgency = credit.urgency();
    let hurry = || urgency.as_ref().map(Urgency::hurry).unwrap_or_default();
    if credit.must_wait() || dispatch.plan.is_tight() {
        hurry();
        credit.durable(deadline).await.map_err(NotSent::Uncovered)?;
        return dispatch.run(story).await.map_err(NotSent::Lost);
    }
    let sent = {
        let refused = pin!(credit.refused(deadline));
        let sending = pin!(dispatch.run(story));
        match select(refused, sending).await {
            // leaving drops the dispatch, which cancels the upstream
            Either::Left((error, _)) => return Err(NotSent::Uncovered(error)),
            Either::Right((sent, _)) => sent,
        }
    };
    let covered = match credit.durable(deadline).now_or_never() {
        Some(covered) => covered,
        None => {
            hurry();
            credit.durable(deadline).await
        }
    };
    covered.map_err(NotSent::Uncovered)?;
    sent.map_err(NotSent::Lost)
}
