//! Sending a request while its hold is being committed.
//!
//! The database's wait hides behind the provider's: a rich tenant's request is dispatched at once. Nothing of an
//! answer is handed out before the hold is durable, and a hold that is refused cancels the upstream.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
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
    let urgency = credit.urgency();
    let hurry = || urgency.as_ref().map(Urgency::hurry).unwrap_or_default();
    if credit.must_wait() || dispatch.plan.is_tight() {
        hurry();
        credit.durable(hold_timeout).await.map_err(NotSent::Uncovered)?;
        return dispatch.run(story).await.map_err(NotSent::Lost);
    }
    let covering = pin!(credit.durable(hold_timeout));
    let sending = pin!(dispatch.run(story));
    match select(covering, sending).await {
        Either::Left((Ok(()), sending)) => sending.await.map_err(NotSent::Lost),
        // leaving drops the dispatch, which cancels the upstream
        Either::Left((Err(error), _)) => Err(NotSent::Uncovered(error)),
        Either::Right((sent, covering)) => {
            hurry();
            covering.await.map_err(NotSent::Uncovered)?;
            sent.map_err(NotSent::Lost)
        }
    }
}
