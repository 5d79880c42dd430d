//! The one place where the crates meet: makes every part of a node and hands each what it works with.

use std::sync::Arc;

use accounts::{CallerCache, OperatorCache};
use admin_api::AdminParts;
use anyhow::Context;
use catalog::CatalogCache;
use domain::request::RequestRecord;
use ledger::{
    BatchRider, Foundation, Ledger, LedgerSettings, NodeIdentity, NodeSpools, SqlBatchStore, StoredRecords, WriterEnd,
    archive::{Archive, refuse_restored},
};
use rate_limiter::{RateLimiter, RedisSettings};
use relay::{Background, Gate, RelayParts};
use store::{Database, StoreError, keyring::Keyring};
use tokio::task::JoinHandle;
use transparency_log::{Sequencer, SequencerSettings, SequencerTask, restore};
use uuid::Uuid;

use crate::{
    config::Config,
    opening::Opened,
    readiness::Readiness,
    runtimes::{RuntimeHandles, run_on},
};

/// The parts of a running node, shared by its listeners and its watchers. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    /// The open database.
    pub database: Database,
    /// The server's secrets.
    pub keyring: Keyring,
    /// Holds and charges.
    pub ledger: Ledger,
    /// What is kept for a restore from backup.
    pub archive: Archive,
    /// Extends the transparency log.
    pub log: SequencerTask,
    /// Models, offers and prices.
    pub catalog: Arc<CatalogCache>,
    /// Virtual keys.
    pub callers: Arc<CallerCache>,
    /// Operator tokens.
    pub operators: Arc<OperatorCache>,
    /// Request limits.
    pub limiter: Arc<RateLimiter>,
    /// Counts requests, and closes for a drain.
    pub gate: Gate,
    /// Work that outlives its request.
    pub background: Background,
    /// Whether the node wants requests.
    pub readiness: Arc<Readiness>,
}

/// Makes the parts of a node. The second is the ledger's writer, whose end must be the process's.
///
/// # Errors
/// When the database cannot be read or written, or the limiter's settings do not work.
pub async fn wire(
    config: &Config,
    opened: &Opened,
    runtimes: &RuntimeHandles,
) -> anyhow::Result<(Node, JoinHandle<WriterEnd>)> {
    let database = opened.database.clone();
    seed_models(&database)
        .await
        .context("cannot add the models that this release knows")?;
    let catalog = CatalogCache::load(&database, &opened.keyring.encryption)
        .await
        .context("cannot read the catalog")?;
    let identity = NodeIdentity {
        id: opened.folder.node_id(&opened.lock)?,
        boot: Uuid::now_v7(),
    };
    tracing::info!(node = %identity.id, boot = %identity.boot, "this node");
    let archive = start_archive(config, opened, identity).await?;
    let (ledger, writer) = start_ledger(config, opened, (identity, archive.clone()), runtimes).await?;
    let log = start_log(config, opened, identity, runtimes).await?;
    let node = Node {
        database,
        keyring: opened.keyring.clone(),
        ledger,
        archive,
        log,
        catalog: Arc::new(catalog),
        callers: Arc::new(CallerCache::new()),
        operators: Arc::new(OperatorCache::new()),
        limiter: Arc::new(open_limiter(config, runtimes).await?),
        gate: Gate::new(),
        background: Background::new(runtimes.background.clone()),
        readiness: Arc::new(Readiness::new()),
    };
    Ok((node, writer))
}

impl Node {
    /// What the data plane works with.
    pub fn relay_parts(&self, config: &Config) -> RelayParts {
        RelayParts {
            database: self.database.clone(),
            ledger: self.ledger.clone(),
            budgets: relay::BudgetView::default(),
            catalog: Arc::clone(&self.catalog),
            callers: Arc::clone(&self.callers),
            pepper: self.keyring.pepper.clone(),
            limiter: Arc::clone(&self.limiter),
            gate: self.gate.clone(),
            background: self.background.clone(),
            retries: relay::RetryBudget::default(),
            price_list: relay::PriceList::new(config.pricing.notice()),
            readings: relay::PublicReadings::new(self.database.backend()),
            settings: config.relay.clone(),
        }
    }

    /// What the admin API works with.
    pub fn admin_parts(&self, config: &Config) -> AdminParts {
        AdminParts {
            database: self.database.clone(),
            keyring: self.keyring.clone(),
            operators: Arc::clone(&self.operators),
            catalog: Arc::clone(&self.catalog),
            callers: Arc::clone(&self.callers),
            archive: self.archive.clone(),
            reports: admin_api::Reports::default(),
            notice: config.pricing.notice(),
        }
    }
}

/// Writes the request log in the transaction that closes the requests.
pub struct RequestLogRider;

impl BatchRider for RequestLogRider {
    fn stored(&self, records: &[&RequestRecord]) -> Result<StoredRecords, StoreError> {
        let (texts, change) = request_log::stored_records(records)?;
        Ok(StoredRecords { texts, change })
    }
}

async fn seed_models(database: &Database) -> anyhow::Result<()> {
    let tx = database.begin().await?;
    let seeded = catalog::seed_models(&tx).await?;
    tx.commit().await?;
    if seeded.models > 0 {
        tracing::info!(
            models = seeded.models,
            aliases = seeded.aliases,
            "models were added to the catalog"
        );
    }
    Ok(())
}

/// Refuses a database that was restored and lacks what was archived since; else begins this boot's archive.
async fn start_archive(config: &Config, opened: &Opened, node: NodeIdentity) -> anyhow::Result<Archive> {
    let folder = opened.folder.archive_folder();
    // an archive that was switched off still tells what the database must have
    let line = refuse_restored(&opened.database, &folder, node.id).await?;
    if !config.archive.enabled {
        return Ok(Archive::off());
    }
    Archive::start(config.archive.settings(folder), node, line).context("cannot use the archive's folder")
}

/// Begins to extend the transparency log, after what a restored database lacks of it was put back.
async fn start_log(
    config: &Config,
    opened: &Opened,
    node: NodeIdentity,
    runtimes: &RuntimeHandles,
) -> anyhow::Result<SequencerTask> {
    let settings = SequencerSettings {
        key: opened.signing_key.clone(),
        copies: config.transparency.copies(opened.folder.log_folder()),
        boot: node.boot,
    };
    restore(&opened.database, std::slice::from_ref(&settings.copies.folder))
        .await
        .context("cannot compare the transparency log with its copies")?;
    let sequencer = Sequencer::new(opened.database.clone(), settings).context("[transparency] copies")?;
    Ok(SequencerTask::start(sequencer, &runtimes.money))
}

async fn start_ledger(
    config: &Config,
    opened: &Opened,
    (node, archive): (NodeIdentity, Archive),
    runtimes: &RuntimeHandles,
) -> anyhow::Result<(Ledger, JoinHandle<WriterEnd>)> {
    let spools = NodeSpools::open(opened.folder.path(), config.ledger.spool_reserved_bytes())
        .context("cannot use the spool's folder")?;
    let foundation = Foundation {
        store: Arc::new(SqlBatchStore::new(opened.database.clone(), Arc::new(RequestLogRider)).with_archive(archive)),
        spools: Arc::new(spools),
        node,
        settings: LedgerSettings {
            queue_capacity: config.ledger.queue_capacity,
            max_request_time: config.relay.total_timeout(),
        },
    };
    let money = runtimes.money.clone();
    // started there as well, so that the connections which it opens live with the writer
    let start = async move { Ledger::start(foundation, &money).await };
    run_on(&runtimes.money, start).await?.context("cannot start the ledger")
}

async fn open_limiter(config: &Config, runtimes: &RuntimeHandles) -> anyhow::Result<RateLimiter> {
    let Some(url) = config.redis.url.get() else {
        return Ok(RateLimiter::in_process());
    };
    let settings = RedisSettings {
        url: url.clone(),
        nodes: config.redis.nodes,
        timeout_ms: config.redis.timeout_ms,
    };
    // the shared connection must not live on a web worker, which may end first
    run_on(&runtimes.background, async move { RateLimiter::redis(&settings).await })
        .await?
        .context("[redis]")
}
