//! The ledger as a node runs it: the writer's task, the clock, the view, and the closing of abandoned holds.

use std::{sync::Arc, time::Duration};

use domain::{Amount, KeyId, RequestId, TenantId, request::Reason};
use store::StoreError;
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    HoldRequest, LedgerClock, LedgerError, Refusal,
    admission::{AdmissionView, Admitted, Pace},
    answer::HoldNews,
    health::Health,
    hold::Hold,
    items::{Closing, End, ProviderCost},
    ledger_store::{Abandoned, LedgerStore, NodeIdentity},
    outage::Outage,
    queue::Queue,
    recovery, replay,
    spools::Spools,
    urgency::Urgency,
    writer::{Writer, WriterEnd, WriterParts},
};

/// Limits of the ledger on one node.
#[derive(Debug, Clone, Copy)]
pub struct LedgerSettings {
    /// Items that may wait for the writer, ends of open holds included.
    pub queue_capacity: u32,
    /// The longest that a request may take. A hold older than this and a minute is closed by whoever sees it.
    pub max_request_time: Duration,
}

/// A minute beyond the longest request: a node that is slow is not a node that is dead.
const GRACE: Duration = Duration::from_secs(60);

/// What a node's ledger works on.
pub struct Foundation {
    /// The books.
    pub store: Arc<dyn LedgerStore>,
    /// Where ends are kept while the database is away.
    pub spools: Arc<dyn Spools>,
    /// Which node this is.
    pub node: NodeIdentity,
    /// Limits.
    pub settings: LedgerSettings,
}

/// The ledger of one node. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn LedgerStore>,
    queue: Queue,
    view: Arc<AdmissionView>,
    clock: Arc<LedgerClock>,
    health: Arc<Health>,
    settings: LedgerSettings,
}

impl Ledger {
    /// Registers this boot, starts the writer on `runtime`, writes what earlier boots of this node had kept on disk, and
    /// closes what they left open. The task's end is the process's end.
    ///
    /// # Errors
    /// When the database cannot be read or written, or the spool's folder cannot.
    pub async fn start(foundation: Foundation, runtime: &Handle) -> Result<(Self, JoinHandle<WriterEnd>), LedgerError> {
        let Foundation {
            store,
            spools,
            node,
            settings,
        } = foundation;
        let spool = spools.create(node.boot).map_err(LedgerError::Spool)?;
        let clock = Arc::new(LedgerClock::new(store.register_boot(&node).await?));
        let (queue, received) = Queue::new(settings.queue_capacity);
        let view = Arc::new(AdmissionView::default());
        let health = Arc::new(Health::default());
        let writer = Writer::new(WriterParts {
            store: Arc::clone(&store),
            node,
            queue: queue.downgrade(),
            received,
            view: Arc::clone(&view),
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
            outage: Outage::new(spool),
        });
        let task = runtime.spawn(writer.run());
        replay::write_earlier_spools(&*spools, &queue, node.boot).await?;
        let recovered = recovery::close_abandoned(&*store, &queue, Abandoned::EarlierBoots(node)).await?;
        if recovered > 0 {
            tracing::warn!(recovered, "requests of earlier boots of this node were closed");
        }
        let ledger = Self {
            store,
            queue,
            view,
            clock,
            health,
            settings,
        };
        Ok((ledger, task))
    }

    /// Queues a hold and says at which pace its request may go: it is the caller's duty to give out nothing of an
    /// answer before [`Reservation::committed`] has answered with the hold. Dropping the reservation gives the credit
    /// back.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] when the database has just refused as much; [`LedgerError::Overloaded`] and
    /// [`LedgerError::Unavailable`] when the database does not keep up.
    pub fn reserve(&self, request: HoldRequest) -> Result<Reservation, LedgerError> {
        if request.amount.is_negative() || request.provider_estimate.is_negative() {
            return Err(LedgerError::InvalidAmount("a hold must not be negative"));
        }
        if self.health.is_stalled() {
            return Err(LedgerError::Unavailable);
        }
        let (tenant, amount) = (request.tenant, request.amount);
        let pace = match self.view.admit(tenant, amount) {
            Admitted::Queue(pace) => pace,
            Admitted::JustRefused(available) => {
                return Err(LedgerError::Refused(Refusal::InsufficientCredit { available }));
            }
        };
        let news = self
            .queue
            .push_hold(request)
            .inspect_err(|_| self.view.hold_ended(tenant, amount))?;
        if pace == Pace::AfterCommit {
            self.queue.urgency().hurry();
        }
        Ok(Reservation {
            pace,
            news,
            urgency: self.queue.urgency().clone(),
        })
    }

    /// Reserves credit and waits until that is durable; dropping the future gives the credit back.
    ///
    /// # Errors
    /// As [`Ledger::reserve`], and [`LedgerError::Refused`] with what is affordable.
    pub async fn hold(&self, request: HoldRequest) -> Result<Hold, LedgerError> {
        let mut reservation = self.reserve(request)?;
        reservation.urgency().hurry();
        reservation.committed().await
    }

    /// Books what a request cost that was sent before its hold was refused or withdrawn: the operator's loss.
    pub fn book_refused_cost(&self, refused: RefusedCost) {
        let RefusedCost {
            request,
            tenant,
            key,
            reason,
            costs,
        } = refused;
        let closing = Closing {
            request,
            tenant,
            key,
            reason,
            end: End::Void,
            unbilled: costs,
            record: None,
        };
        if let Err(error) = self.queue.push_refused_cost(closing) {
            metrics::counter!("truerelay_ledger_costs_lost_total").increment(1);
            tracing::error!(%error, %request, "the cost of a refused request could not be booked");
        }
    }

    /// The clock that prices and periods go by.
    pub fn clock(&self) -> &LedgerClock {
        &self.clock
    }

    /// What the tenant had available as of this node's last reading, if it has read it: a hint.
    pub fn available_hint(&self, tenant: TenantId) -> Option<Amount> {
        self.view.available(tenant)
    }

    /// What the tenant has available, read from the database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read_available(&self, tenant: TenantId) -> Result<Amount, StoreError> {
        let available = self.store.available(tenant).await?;
        self.view.set(tenant, available);
        Ok(available)
    }

    /// Whether the database has not confirmed a batch for so long that new requests are refused.
    pub fn is_stalled(&self) -> bool {
        self.health.is_stalled()
    }

    /// Items that wait and ends that are owed.
    pub fn queue_depth(&self) -> usize {
        self.queue.depth()
    }

    /// Sets the clock by the database's. For a node that has nothing to write.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn set_clock(&self) -> Result<(), StoreError> {
        self.clock.set(self.store.now().await?);
        Ok(())
    }

    /// Closes holds that are older than any request may be, and those of retired nodes, whoever placed them.
    ///
    /// # Errors
    /// When the database cannot be read or the writer has stopped.
    pub async fn close_abandoned_holds(&self) -> Result<u64, LedgerError> {
        let by_age = Abandoned::OlderThan(self.settings.max_request_time + GRACE);
        let mut closed = 0;
        for which in [by_age, Abandoned::Retired] {
            closed += recovery::close_abandoned(&*self.store, &self.queue, which).await?;
        }
        if closed > 0 {
            metrics::counter!("truerelay_ledger_holds_expired_total").increment(closed);
            tracing::warn!(closed, "holds that nobody would have ended were closed");
        }
        Ok(closed)
    }

    /// Waits until every hold of this node has ended and all that was queued is durable: in the database, or on disk
    /// for the next boot.
    pub async fn drain(&self) {
        self.queue.urgency().hurry();
        self.queue.idle().await;
    }
}

/// What a request cost that was sent and has no hold.
#[derive(Debug)]
pub struct RefusedCost {
    /// The request.
    pub request: RequestId,
    /// Who would have paid.
    pub tenant: TenantId,
    /// With which key.
    pub key: KeyId,
    /// Why there is no hold: [`Reason::LedgerUnavailable`] when it was withdrawn, else the refusal's.
    pub reason: Reason,
    /// What the providers bill.
    pub costs: Vec<ProviderCost>,
}

/// A hold that is on its way to the database.
#[must_use = "a reservation must be awaited"]
pub struct Reservation {
    pace: Pace,
    news: HoldNews,
    urgency: Urgency,
}

impl Reservation {
    /// Whether the request may be sent before the hold is durable.
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// To say that the answer is waited for: an upstream has answered. Without that it comes a moment later, with
    /// those of others.
    pub const fn urgency(&self) -> &Urgency {
        &self.urgency
    }

    /// Waits until the hold is durable. The wait may be given up and taken up again; the answer comes once.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] when the database refused it.
    pub async fn committed(&mut self) -> Result<Hold, LedgerError> {
        self.news.outcome().await
    }

    /// Ends when the hold is refused, and never if it is placed: that wakes nobody. A refusal comes once, here or from
    /// [`Reservation::committed`].
    pub async fn refusal(&mut self) -> LedgerError {
        self.news.refusal().await
    }
}
