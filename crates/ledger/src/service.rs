//! The ledger as a node runs it: the writer's task, the clock, the view, and the closing of abandoned holds.

use std::{sync::Arc, time::Duration};

use domain::{Amount, KeyId, NodeId, RequestId, TenantId, request::Reason};
use store::{Database, StoreError};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};
use uuid::Uuid;

use crate::{
    BatchRider, HoldRequest, LedgerClock, LedgerError, Refusal,
    admission::{AdmissionView, Admitted, Pace},
    health::Health,
    hold::Hold,
    items::{Closing, End, ProviderCost},
    queue::Queue,
    reading, recovery,
    sql_store::SqlBatchStore,
    writer::{Writer, WriterEnd, before_first_batch},
};

/// Which node this is, and which of its boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Kept in the node's data folder.
    pub id: NodeId,
    /// New at every start.
    pub boot: Uuid,
}

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

/// The ledger of one node. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    database: Database,
    queue: Queue,
    view: Arc<AdmissionView>,
    clock: Arc<LedgerClock>,
    health: Arc<Health>,
    settings: LedgerSettings,
}

impl Ledger {
    /// Registers this boot, starts the writer on `runtime`, and closes what earlier boots of this node left open.
    /// The task's end is the process's end.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn start(
        database: Database,
        rider: Arc<dyn BatchRider>,
        node: NodeIdentity,
        settings: LedgerSettings,
        runtime: &Handle,
    ) -> Result<(Self, JoinHandle<WriterEnd>), LedgerError> {
        register_boot(&database, &node).await?;
        let (queue, received) = Queue::new(settings.queue_capacity);
        let view = Arc::new(AdmissionView::default());
        let clock = Arc::new(LedgerClock::new(database.now().await?));
        let health = Arc::new(Health::default());
        let writer = Writer {
            store: Arc::new(SqlBatchStore::new(database.clone(), rider)),
            queue: queue.downgrade(),
            received,
            last: before_first_batch(node.id.as_uuid(), node.boot),
            view: Arc::clone(&view),
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
        };
        let task = runtime.spawn(writer.run());
        let recovered = recovery::close_earlier_boots(&database, &queue, &node).await?;
        if recovered > 0 {
            tracing::warn!(recovered, "holds of earlier boots of this node were voided");
        }
        Ok((
            Self {
                database,
                queue,
                view,
                clock,
                health,
                settings,
            },
            task,
        ))
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
        let answer = self
            .queue
            .push_hold(request)
            .inspect_err(|_| self.view.hold_ended(tenant, amount))?;
        Ok(Reservation { pace, answer })
    }

    /// Reserves credit and waits until that is durable; dropping the future gives the credit back.
    ///
    /// # Errors
    /// As [`Ledger::reserve`], and [`LedgerError::Refused`] with what is affordable.
    pub async fn hold(&self, request: HoldRequest) -> Result<Hold, LedgerError> {
        self.reserve(request)?.committed().await
    }

    /// Books what a request cost that was sent before its hold was refused: the operator's loss.
    pub fn book_refused_cost(&self, request: RequestId, tenant: TenantId, key: KeyId, costs: Vec<ProviderCost>) {
        let closing = Closing {
            request,
            tenant,
            key,
            reason: Reason::InsufficientCredit,
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
        let balance = reading::balance(self.database.readers(), tenant)
            .await?
            .unwrap_or_default();
        self.view.set(tenant, balance.available);
        Ok(balance.available)
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
        self.clock.set(self.database.now().await?);
        Ok(())
    }

    /// Closes holds that are older than any request may be, whoever placed them.
    ///
    /// # Errors
    /// When the database cannot be read or the writer has stopped.
    pub async fn close_expired_holds(&self) -> Result<u64, LedgerError> {
        let closed =
            recovery::close_by_age(&self.database, &self.queue, self.settings.max_request_time + GRACE).await?;
        if closed > 0 {
            metrics::counter!("truerelay_ledger_holds_expired_total").increment(closed);
            tracing::warn!(closed, "holds older than any request were voided");
        }
        Ok(closed)
    }

    /// Waits until every hold of this node has ended and all that was queued is durable.
    pub async fn drain(&self) {
        self.queue.idle().await;
    }
}

/// A hold that is on its way to the database.
#[must_use = "a reservation must be awaited"]
pub struct Reservation {
    pace: Pace,
    answer: oneshot::Receiver<Result<Hold, LedgerError>>,
}

impl Reservation {
    /// Whether the request may be sent before the hold is durable.
    pub const fn pace(&self) -> Pace {
        self.pace
    }

    /// Waits until the hold is durable. The wait may be given up and taken up again; the answer comes once.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] when the database refused it.
    pub async fn committed(&mut self) -> Result<Hold, LedgerError> {
        (&mut self.answer).await.map_err(|_| LedgerError::Stopped)?
    }
}

async fn register_boot(database: &Database, node: &NodeIdentity) -> Result<(), StoreError> {
    let tx = database.begin().await?;
    let now = tx.now().await?;
    tx.execute(
        "INSERT INTO node (id, boot, batch_no, last_commit_at_ms) VALUES ($1, $2, 0, $3)",
        vec![node.id.as_uuid().into(), node.boot.into(), now.0.into()],
    )
    .await?;
    tx.commit().await
}
