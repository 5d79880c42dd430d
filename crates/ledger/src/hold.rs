//! A hold that has been placed: the only way to charge a request, and it ends exactly once.

use domain::{
    Amount, KeyId, RequestId, TenantId,
    pricing::Charge,
    request::{Reason, RequestRecord},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    items::{Closing, End, HoldRequest, Progress, ProviderCost, Settled},
    queue::{ProgressCell, Queue},
};

/// Reserved credit of one request. Consumed by [`Hold::settle`] or [`Hold::void`]; one that is dropped is voided,
/// so that no path, not even a panic, can keep a customer's credit reserved.
#[must_use = "a hold must be settled or voided"]
pub struct Hold {
    request: RequestId,
    tenant: TenantId,
    key: KeyId,
    amount: Amount,
    place: Option<OwnedSemaphorePermit>,
    progress: ProgressCell,
    queue: Queue,
}

/// What is told with the end of a request.
#[derive(Debug)]
pub struct Ending {
    /// Why, by the refund rules.
    pub reason: Reason,
    /// Costs that the operator bears.
    pub unbilled: Vec<ProviderCost>,
    /// For the request log.
    pub record: Option<Box<RequestRecord>>,
}

impl Hold {
    pub(crate) fn new(request: &HoldRequest, place: OwnedSemaphorePermit, queue: Queue) -> Self {
        Self {
            request: request.request,
            tenant: request.tenant,
            key: request.key,
            amount: request.amount,
            place: Some(place),
            progress: ProgressCell::default(),
            queue,
        }
    }

    /// The request.
    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// What is reserved: the most that the customer can be charged.
    pub const fn amount(&self) -> Amount {
        self.amount
    }

    /// Notes how far the answer has come: what recovery settles if this node dies. Charge and record are cumulative.
    /// A request that is `free_by` a rule already is given back whole instead. Does not wait, and at most one waits to be
    /// written.
    pub fn progress(&self, charge: &Charge, provider: String, record: Box<RequestRecord>, free_by: Option<Reason>) {
        let progress = Progress {
            request: self.request,
            tenant: self.tenant,
            so_far: Settled::new(charge, provider),
            record: Some(record),
            free_by,
        };
        self.queue.push_progress(&self.progress, progress);
    }

    /// Charges the customer, never more than the hold, and gives the rest back. Does not wait: the place in the
    /// queue was reserved with the hold.
    pub fn settle(mut self, charge: &Charge, provider: String, ending: Ending) {
        self.end(End::Settle(Settled::new(charge, provider)), ending);
    }

    /// Gives everything back. Does not wait.
    pub fn void(mut self, ending: Ending) {
        self.end(End::Void, ending);
    }

    fn end(&mut self, end: End, ending: Ending) {
        let Some(place) = self.place.take() else { return };
        let closing = Closing {
            request: self.request,
            tenant: self.tenant,
            key: self.key,
            reason: ending.reason,
            end,
            unbilled: ending.unbilled,
            record: ending.record,
        };
        self.queue.push_end(closing, place);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() {
            Reason::InternalError
        } else {
            Reason::ClientGoneBeforeHead
        };
        self.end(
            End::Void,
            Ending {
                reason,
                unbilled: Vec::new(),
                record: None,
            },
        );
    }
}
