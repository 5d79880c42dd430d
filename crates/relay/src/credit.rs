//! The credit behind a request: on its way to the database, durable, or refused.
//!
//! A request of a rich tenant is sent while its hold is being committed; nothing of the answer goes to the client
//! before that. Whatever ends the request meanwhile waits for the commit in the background.

use std::{future::pending, time::Instant};

use domain::{
    KeyId, RequestId, TenantId,
    pricing::Charge,
    request::{Reason, RequestRecord},
};
use ledger::{Ending, Hold, Ledger, LedgerError, Pace, ProviderCost, RefusedCost, Reservation, Urgency};

use crate::background::Background;

/// The credit of one request.
pub enum Credit {
    /// On its way.
    Pending(Reservation),
    /// Reserved.
    Held(Hold),
    /// There is none, and why.
    None(Reason),
}

/// What a request comes to.
pub enum Outcome {
    /// The customer pays.
    Settle {
        /// How much.
        charge: Box<Charge>,
        /// Who earned it.
        provider: String,
    },
    /// The customer pays nothing.
    Void,
}

/// Whose credit it is, for what has to be booked when there is none.
#[derive(Debug, Clone, Copy)]
pub struct Payer {
    /// The request.
    pub request: RequestId,
    /// Who would pay.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
}

impl Credit {
    /// Whether the request must wait for the commit before it is sent.
    pub fn must_wait(&self) -> bool {
        matches!(self, Self::Pending(reservation) if reservation.pace() == Pace::AfterCommit)
    }

    /// To say that the credit is waited for, while it is on its way.
    pub fn urgency(&self) -> Option<Urgency> {
        match self {
            Self::Pending(reservation) => Some(reservation.urgency().clone()),
            Self::Held(_) | Self::None(_) => None,
        }
    }

    /// Waits until the credit is reserved. The wait may be given up and taken up again.
    ///
    /// # Errors
    /// What the ledger says; [`LedgerError::Unavailable`] when it has not answered by the deadline.
    pub async fn durable(&mut self, deadline: Instant) -> Result<(), LedgerError> {
        let Self::Pending(reservation) = self else {
            return Ok(());
        };
        let waited = Instant::now();
        let answer = tokio::time::timeout_at(deadline.into(), reservation.committed())
            .await
            .map_err(|_| LedgerError::Unavailable)?;
        metrics::histogram!("truerelay_hold_wait_seconds").record(waited.elapsed());
        match answer {
            Ok(hold) => *self = Self::Held(hold),
            Err(error) => {
                *self = Self::None(reason_of(&error));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends when there is no credit: it was refused, or did not come by the deadline. That it is reserved wakes nobody.
    pub async fn refused(&mut self, deadline: Instant) -> LedgerError {
        if let Self::Pending(reservation) = self {
            if let Ok(error) = tokio::time::timeout_at(deadline.into(), reservation.refusal()).await {
                *self = Self::None(reason_of(&error));
                return error;
            }
            if let Err(error) = self.durable(deadline).await {
                return error;
            }
        }
        pending().await
    }

    /// Notes what the request has come to so far, for whoever has to end it if this node dies. Does not wait.
    pub fn progress(&self, charge: &Charge, provider: String, record: Box<RequestRecord>, free_by: Option<Reason>) {
        // an answer is handed out, and so has progress, only when its credit is reserved
        if let Self::Held(hold) = self {
            hold.progress(charge, provider, record, free_by);
        }
    }

    /// Ends the request. What is still on its way is ended when it has arrived.
    pub fn end(self, outcome: Outcome, ending: Ending, payer: Payer, ledger: &Ledger, background: &Background) {
        match self {
            Self::Held(hold) => end(hold, outcome, ending),
            Self::None(reason) => book_cost(ledger, payer, reason, outcome, ending),
            Self::Pending(mut reservation) => {
                let ledger = ledger.clone();
                background.spawn(async move {
                    match reservation.committed().await {
                        Ok(hold) => end(hold, outcome, ending),
                        Err(error) => book_cost(&ledger, payer, reason_of(&error), outcome, ending),
                    }
                });
            }
        }
    }
}

fn end(hold: Hold, outcome: Outcome, ending: Ending) {
    match outcome {
        Outcome::Settle { charge, provider } => hold.settle(&charge, provider, ending),
        Outcome::Void => hold.void(ending),
    }
}

/// Why there is no credit.
const fn reason_of(error: &LedgerError) -> Reason {
    match error {
        LedgerError::Refused(refusal) => refusal.reason(),
        _ => Reason::LedgerUnavailable,
    }
}

/// What was sent and has no credit behind it is the operator's.
fn book_cost(ledger: &Ledger, payer: Payer, reason: Reason, outcome: Outcome, ending: Ending) {
    let mut costs = ending.unbilled;
    if let Outcome::Settle { charge, provider } = outcome {
        let amount = charge.provider_cost();
        costs.push(ProviderCost { provider, amount });
    }
    if !costs.is_empty() {
        ledger.book_refused_cost(RefusedCost {
            request: payer.request,
            tenant: payer.tenant,
            key: payer.key,
            reason,
            costs,
        });
    }
}
