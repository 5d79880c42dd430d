//! A random history: nodes with archives, tenants, and requests that are held, progress and end, or stay open.

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::{Amount, LotId, NodeId, TenantId, clock::UnixMs, request::Reason};
use smallvec::smallvec;
use store::{StoreError, audit::Actor};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::{
    BudgetClaim, BudgetKey, Foundation, Hold, HoldRequest, Ledger, LedgerError, LedgerSettings, NodeIdentity,
    NodeSpools, ProviderCost, RefusedCost,
    archive::{Archive, ArchiveSettings, ReplayOrder},
    claims::Purpose,
    corrections::CorrectionKind,
    movements::{self, Correction, Grant, GrantKind, Release, Withdrawal},
    tests::world::{MAX_REQUEST_TIME, World, charge_of, completed, ending, hold_request, record},
};

/// Pseudo-random numbers (xorshift): the same seed makes the same choices.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = usize::try_from(self.below(index as u64 + 1)).unwrap();
            items.swap(index, other);
        }
    }
}

pub struct Node {
    pub ledger: Ledger,
    pub archive: Archive,
    pub id: NodeId,
}

/// What happens to a world.
pub struct History<'a> {
    pub world: &'a World,
    pub nodes: Vec<Node>,
    pub tenants: Vec<TenantId>,
    lots: Vec<(TenantId, LotId)>,
    pub folder: tempfile::TempDir,
    pub dice: Dice,
    progress: u64,
    open: Vec<(usize, HoldRequest, Hold)>,
    ended: Vec<HoldRequest>,
}

impl<'a> History<'a> {
    pub async fn begin(world: &'a World, nodes: usize, seed: u64) -> Self {
        // the nodes of an earlier history of the same world have no archive here
        let sql = "UPDATE node SET retired_at_ms = 9000000000000";
        world.change(sql, vec![]).await.unwrap();
        let mut history = Self {
            world,
            nodes: Vec::new(),
            tenants: Vec::new(),
            lots: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            dice: Dice::new(seed),
            progress: 0,
            open: Vec::new(),
            ended: Vec::new(),
        };
        for _ in 0..nodes {
            history.add_node(NodeId::generate(), 0).await;
        }
        for _ in 0..4 {
            history.open_tenant().await;
        }
        history
    }

    /// The same nodes and tenants on another database.
    pub fn moved_to(self, world: &World) -> History<'_> {
        History {
            world,
            nodes: self.nodes,
            tenants: self.tenants,
            lots: self.lots,
            folder: self.folder,
            dice: self.dice,
            progress: self.progress,
            open: self.open,
            ended: self.ended,
        }
    }

    pub fn archive_folder(&self, node: NodeId) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    pub fn settings(&self, node: NodeId) -> ArchiveSettings {
        ArchiveSettings {
            folder: self.archive_folder(node),
            keep: Duration::from_secs(3_600),
            max_bytes: 1 << 30,
            segment_bytes: 6_000,
        }
    }

    pub async fn add_node(&mut self, id: NodeId, line: i64) {
        let boot = Uuid::now_v7();
        let node = NodeIdentity { id, boot };
        let archive = Archive::start(self.settings(id), node, line).unwrap();
        let data_folder = self.folder.path().join(boot.to_string());
        std::fs::create_dir_all(&data_folder).unwrap();
        let spools = NodeSpools::open(&data_folder, 1 << 20).unwrap();
        let foundation = Foundation {
            store: Arc::new(self.world.store().with_archive(archive.clone())),
            spools: Arc::new(spools),
            node,
            settings: LedgerSettings {
                queue_capacity: 4_000,
                max_request_time: MAX_REQUEST_TIME,
            },
        };
        let (ledger, _writer) = Ledger::start(foundation, &Handle::current()).await.unwrap();
        self.nodes.push(Node { ledger, archive, id });
    }

    fn any_node(&mut self) -> usize {
        usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap()
    }

    fn any_tenant(&mut self) -> TenantId {
        self.tenants[usize::try_from(self.dice.below(self.tenants.len() as u64)).unwrap()]
    }

    pub async fn open_tenant(&mut self) {
        let tenant = TenantId::generate();
        let tx = self.world.database.begin().await.unwrap();
        let movement = movements::open_account(&tx, tenant).await.unwrap();
        tx.commit().await.unwrap();
        let node = self.any_node();
        self.nodes[node].archive.keep(movement);
        self.tenants.push(tenant);
        self.grant(tenant, GrantKind::Payment, 5_000).await.unwrap();
    }

    pub async fn grant(&mut self, tenant: TenantId, kind: GrantKind, amount: i64) -> Result<(), LedgerError> {
        let tx = self.world.database.begin().await?;
        let source = Uuid::new_v4().to_string();
        let expires_at = (self.dice.below(3) == 0).then_some(UnixMs(9_000_000_000_000));
        let grant = Grant {
            tenant,
            expires_at,
            amount: Amount::from_nanos(amount),
            kind,
            source,
        };
        let granted = movements::grant(&tx, &Actor::system("test"), &grant).await?;
        tx.commit().await?;
        let node = self.any_node();
        self.nodes[node].archive.keep(granted.movement);
        self.lots.extend(granted.lot.map(|lot| (tenant, lot)));
        Ok(())
    }

    /// Credit leaves a lot, or waits to; or what was suspended comes back.
    async fn withdraw_or_release(&mut self) {
        let (tenant, lot) = self.lots[usize::try_from(self.dice.below(self.lots.len() as u64)).unwrap()];
        let amount = Amount::from_nanos(i64::try_from(self.dice.below(3_000) + 1).unwrap());
        let source = Uuid::new_v4().to_string();
        let (tx, actor) = (self.world.database.begin().await.unwrap(), Actor::system("test"));
        let purposes = [
            Purpose::Refund,
            Purpose::Expiry,
            Purpose::Suspension,
            Purpose::Suspension,
        ];
        let done = match purposes.get(usize::try_from(self.dice.below(6)).unwrap()) {
            Some(purpose) => {
                let withdrawal = Withdrawal {
                    tenant,
                    lot,
                    purpose: *purpose,
                    amount,
                    source,
                };
                let withdrawn = movements::withdraw(&tx, &actor, &withdrawal).await;
                withdrawn.map(|withdrawn| withdrawn.movement)
            }
            None => {
                let release = Release {
                    tenant,
                    lot,
                    amount,
                    source,
                };
                let released = movements::release(&tx, &actor, &release).await;
                released.map(|released| released.movement)
            }
        };
        match done {
            Ok(movement) => {
                tx.commit().await.unwrap();
                let node = self.any_node();
                self.nodes[node].archive.keep(movement);
            }
            // much makes no sense by the time that it is asked for
            Err(
                LedgerError::NotRefundable
                // an account or a lot may have been declared lost
                | LedgerError::Store(StoreError::MissingReference)
                | LedgerError::UnknownLot
                | LedgerError::MoreThanLeft(_)
                | LedgerError::MoreThanSuspended(_)
                | LedgerError::ClaimWaits
                | LedgerError::Store(StoreError::Busy),
            ) => tx.rollback().await.unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Something of a charge goes back, or goodwill is given for it.
    async fn correct(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let which = usize::try_from(self.dice.below(self.ended.len() as u64)).unwrap();
        let request = &self.ended[which];
        let kind = CorrectionKind::ALL[usize::try_from(self.dice.below(3)).unwrap()];
        let amount = (self.dice.below(2) == 0).then(|| i64::try_from(self.dice.below(900) + 1).unwrap());
        let correction = Correction {
            request: request.request,
            kind,
            amount: amount.map(Amount::from_nanos),
            source: Uuid::new_v4().to_string(),
            budgets: request.budgets.iter().map(|claim| claim.key).collect(),
        };
        let (tx, actor) = (self.world.database.begin().await.unwrap(), Actor::system("test"));
        match movements::correct(&tx, &actor, &correction).await {
            Ok(corrected) => {
                tx.commit().await.unwrap();
                let node = self.any_node();
                self.nodes[node].archive.keep(corrected.movement);
            }
            // its end may wait yet, or have been declared lost with its lots; and little may be left
            Err(
                LedgerError::UnknownCharge
                | LedgerError::MoreThanCharged(_)
                | LedgerError::MoreThanHeld(_)
                | LedgerError::Store(StoreError::MissingReference | StoreError::Busy | StoreError::Contradiction(_)),
            ) => tx.rollback().await.unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// So many random things happen.
    pub async fn go_on(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.dice.below(24) {
                0 => self.open_tenant().await,
                1 | 2 => {
                    let tenant = self.any_tenant();
                    let kinds = [GrantKind::Payment, GrantKind::Promotion, GrantKind::Goodwill];
                    let kind = kinds[usize::try_from(self.dice.below(3)).unwrap()];
                    let amount = i64::try_from(self.dice.below(4_000) + 1).unwrap();
                    match self.grant(tenant, kind, amount).await {
                        // its account may have been declared lost
                        Ok(()) | Err(LedgerError::Store(StoreError::MissingReference)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                3..=9 => self.hold().await,
                10..=12 => self.progress(),
                13..=18 => self.end().await,
                19..=21 => self.withdraw_or_release().await,
                22 => self.correct().await,
                _ => self.end_late().await,
            }
        }
    }

    async fn hold(&mut self) {
        let tenant = self.any_tenant();
        let amount = i64::try_from(self.dice.below(3_000)).unwrap();
        let mut request = hold_request(tenant, amount);
        if self.dice.below(2) == 0 {
            // a budget of this tenant's own
            let key = BudgetKey {
                scope: tenant.as_uuid(),
                period_start: UnixMs(1_000),
            };
            let limit = Amount::from_nanos(20_000);
            request.budgets = smallvec![BudgetClaim { key, limit }];
        }
        let node = self.any_node();
        match self.nodes[node].ledger.hold(request.clone()).await {
            Ok(hold) => self.open.push((node, request, hold)),
            Err(LedgerError::Refused(refusal)) => {
                let refused = RefusedCost {
                    request: request.request,
                    tenant,
                    key: request.key,
                    reason: refusal.reason(),
                    costs: vec![ProviderCost {
                        provider: "acme".to_owned(),
                        amount: Amount::from_nanos(3),
                    }],
                };
                self.nodes[node].ledger.book_refused_cost(refused);
            }
            // a machine under load may look like a database that is away
            Err(LedgerError::Unavailable) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn progress(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let which = usize::try_from(self.dice.below(self.open.len() as u64)).unwrap();
        // progress is cumulative
        self.progress += self.dice.below(5);
        let nanos = self.progress;
        let (_, request, hold) = &self.open[which];
        hold.progress(
            &charge_of(nanos),
            "acme".to_owned(),
            record(request.request, request.tenant, "some"),
            None,
        );
    }

    async fn end(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let which = usize::try_from(self.dice.below(self.open.len() as u64)).unwrap();
        let (node, request, hold) = self.open.swap_remove(which);
        self.ended.push(request.clone());
        let mut end = completed();
        end.record = Some(record(request.request, request.tenant, "some"));
        match self.dice.below(4) {
            0 => {
                end = ending(Reason::UpstreamFailed);
                end.unbilled.push(ProviderCost {
                    provider: "other".to_owned(),
                    amount: Amount::from_nanos(17),
                });
                hold.void(end);
            }
            1 => drop(hold),
            _ => hold.settle(&charge_of(self.dice.below(4_000)), "acme".to_owned(), end),
        }
        if self.dice.below(3) == 0 {
            self.barrier(node).await;
        }
    }

    /// A cost that comes after the end of its request, through another node.
    async fn end_late(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let (node, request, hold) = self.open.swap_remove(0);
        hold.void(ending(Reason::UpstreamNoOutput));
        self.barrier(node).await;
        let other = self.any_node();
        self.nodes[other].ledger.book_refused_cost(RefusedCost {
            request: request.request,
            tenant: request.tenant,
            key: request.key,
            reason: Reason::InternalError,
            costs: vec![ProviderCost {
                provider: "acme".to_owned(),
                amount: Amount::from_nanos(29),
            }],
        });
    }

    /// Everything that was queued on the node before is written when this returns.
    pub async fn barrier(&mut self, node: usize) {
        let tenant = self.tenants[0];
        for _ in 0..2 {
            while let Err(LedgerError::Unavailable) = self.nodes[node].ledger.hold(hold_request(tenant, 0)).await {}
        }
        // the last end is written when nothing is left but the holds that are open
        let open = self.open.iter().map(|(at, ..)| at).filter(|at| **at == node).count();
        while self.nodes[node].ledger.queue_depth() > open {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// All nodes stop; their archives are complete.
    pub async fn stop(&mut self) {
        for node in 0..self.nodes.len() {
            self.barrier(node).await;
        }
        for (_, _, hold) in self.open.drain(..) {
            // a request whose node dies: its hold stays
            std::mem::forget(hold);
        }
        for node in self.nodes.drain(..) {
            node.archive.close();
        }
    }

    /// All segments of all nodes.
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut segments = Vec::new();
        for folder in std::fs::read_dir(self.folder.path()).unwrap() {
            let files = std::fs::read_dir(folder.unwrap().path()).unwrap();
            let files = files.map(|file| file.unwrap().path());
            segments.extend(files.filter(|file| file.extension().is_some_and(|extension| extension == "archive")));
        }
        segments.sort();
        segments
    }

    /// A replay of all archives, in any order.
    pub fn order(&mut self, own: NodeId) -> ReplayOrder {
        let mut archives = self.segments();
        self.dice.shuffle(&mut archives);
        ReplayOrder {
            log_copies: Vec::new(),
            archives,
            declare_lost: None,
            node: own,
            own_folder: self.archive_folder(own),
        }
    }
}
