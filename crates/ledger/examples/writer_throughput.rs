//! How many requests the ledger's writer holds and settles in a second on PostgreSQL.
//!
//! `writer_throughput URL TENANTS BATCH REQUESTS [ARCHIVE]`: half of BATCH requests are in flight, evenly over TENANTS tenants, so
//! that every batch of the writer carries about as many holds as ends. It works in a database of its own, which it
//! drops again, and prints one line. With a folder ARCHIVE the ledger's archive is kept there.

#![allow(clippy::print_stdout, clippy::float_arithmetic)]

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    Amount, KeyId, NodeId, RequestId, TenantId,
    clock::UnixMs,
    pricing::{Charge, Circumstances, FrozenPrice, Multipliers, charge},
    request::{Reason, RequestRecord},
    secret::SecretText,
    usage::{TokenClass, Usage},
};
use ledger::{
    BatchRider, Ending, Foundation, HoldRequest, Ledger, LedgerSettings, NodeIdentity, NodeSpools, SqlBatchStore,
    StoredRecords,
    archive::{Archive, ArchiveSettings},
    movements::{self, Grant, GrantKind},
};
use sea_orm::{ConnectionTrait, Statement};
use smallvec::SmallVec;
use store::{Database, DatabaseSettings, StoreError, audit::Actor, bulk::Rows};
use uuid::Uuid;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

const CREDIT: Amount = Amount::from_nanos(1_000_000_000_000);
const HOLD: Amount = Amount::from_nanos(20_000);
const SPOOL_BYTES: u64 = 1 << 20;
/// Tokens of one request, at one nano-USD each.
const CHARGED: u64 = 7_000;

struct Plan {
    server: String,
    tenants: usize,
    in_flight: usize,
    requests: usize,
    archive: Option<PathBuf>,
}

/// No request has a record here, so there is nothing to write beside the books.
struct NoLog;

impl BatchRider for NoLog {
    fn stored(&self, _: &[&RequestRecord]) -> Result<StoredRecords, StoreError> {
        Ok(StoredRecords {
            texts: Vec::new(),
            change: ("", Rows::new()),
        })
    }
}

fn main() -> Result<(), Failure> {
    let plan = plan()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(plan))
}

fn plan() -> Result<Plan, Failure> {
    const USAGE: &str = "usage: writer_throughput postgres://user@host:port/database TENANTS BATCH REQUESTS [ARCHIVE]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (server, tenants, batch, requests, archive) = match arguments.as_slice() {
        [server, tenants, batch, requests] => (server, tenants, batch, requests, None),
        [server, tenants, batch, requests, archive] => (server, tenants, batch, requests, Some(archive)),
        _ => return Err(USAGE.into()),
    };
    Ok(Plan {
        server: server.clone(),
        tenants: tenants.parse::<usize>()?.max(1),
        in_flight: (batch.parse::<usize>()? / 2).max(1),
        requests: requests.parse()?,
        archive: archive.map(PathBuf::from),
    })
}

async fn run(plan: Plan) -> Result<(), Failure> {
    let name = format!("writer_throughput_{}", Uuid::new_v4().simple());
    let admin = sea_orm::Database::connect(&plan.server).await?;
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    let measured = measure(&plan, &name).await;
    let dropped = format!("DROP DATABASE {name} WITH (FORCE)");
    admin.execute_unprepared(&dropped).await?;
    measured
}

async fn measure(plan: &Plan, name: &str) -> Result<(), Failure> {
    let (base, _) = plan.server.rsplit_once('/').ok_or("the address names no database")?;
    let url = SecretText::new(format!("{base}/{name}"));
    let database = Database::open(&DatabaseSettings::Postgres {
        url,
        max_connections: 4,
    })
    .await?;
    store::apply_migrations(&database).await?;
    let tenants = open_tenants(&database, plan.tenants).await?;
    let data_folder = tempfile::tempdir()?;
    let node = NodeIdentity {
        id: NodeId::generate(),
        boot: Uuid::now_v7(),
    };
    let archive = match &plan.archive {
        Some(folder) => Archive::start(archive_settings(folder), node, 0)?,
        None => Archive::off(),
    };
    let ledger = start(&database, data_folder.path(), (node, archive.clone())).await?;
    // connections, prepared statements and the first pages are there before the clock runs
    work(&ledger, &tenants, plan.in_flight, plan.in_flight * 8).await?;
    let before = batches(&database).await?;
    let began = Instant::now();
    work(&ledger, &tenants, plan.in_flight, plan.requests).await?;
    report(plan, began.elapsed(), batches(&database).await? - before);
    archive.close();
    drop(ledger);
    database.close().await;
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn report(plan: &Plan, took: Duration, batches: i64) {
    let (requests, batches) = (plan.requests as f64, batches as f64);
    println!(
        "{} tenants, {:.0} items a batch: {:.0} requests/s ({} requests, {:.1} s, {:.2} ms a batch)",
        plan.tenants,
        2.0 * requests / batches,
        requests / took.as_secs_f64(),
        plan.requests,
        took.as_secs_f64(),
        1_000.0 * took.as_secs_f64() / batches,
    );
}

async fn open_tenants(database: &Database, count: usize) -> Result<Vec<TenantId>, Failure> {
    let tenants: Vec<TenantId> = (0..count).map(|_| TenantId::generate()).collect();
    let tx = database.begin().await?;
    for tenant in &tenants {
        drop(movements::open_account(&tx, *tenant).await?);
        let grant = Grant {
            tenant: *tenant,
            amount: CREDIT,
            kind: GrantKind::Payment,
            source: "first".to_owned(),
            expires_at: None,
        };
        movements::grant(&tx, &Actor::system("writer-throughput"), &grant).await?;
    }
    tx.commit().await?;
    // as autovacuum would have done it before a production database is asked for so much
    database.readers().execute_unprepared("VACUUM ANALYZE").await?;
    Ok(tenants)
}

fn archive_settings(folder: &Path) -> ArchiveSettings {
    ArchiveSettings {
        folder: folder.to_path_buf(),
        keep: Duration::from_secs(86_400),
        max_bytes: 4 << 30,
        segment_bytes: 32 << 20,
    }
}

async fn start(
    database: &Database,
    data_folder: &Path,
    (node, archive): (NodeIdentity, Archive),
) -> Result<Ledger, Failure> {
    let foundation = Foundation {
        store: Arc::new(SqlBatchStore::new(database.clone(), Arc::new(NoLog)).with_archive(archive)),
        spools: Arc::new(NodeSpools::open(data_folder, SPOOL_BYTES)?),
        node,
        settings: LedgerSettings {
            queue_capacity: 4_000,
            max_request_time: Duration::from_secs(900),
        },
    };
    let (ledger, _) = Ledger::start(foundation, &tokio::runtime::Handle::current()).await?;
    Ok(ledger)
}

async fn batches(database: &Database) -> Result<i64, Failure> {
    let connection = database.readers();
    let statement = Statement::from_string(connection.get_database_backend(), "SELECT MAX(batch_no) AS n FROM node");
    let row = connection.query_one_raw(statement).await?.ok_or("no node")?;
    Ok(row.try_get("", "n")?)
}

/// Holds and settles so many requests, so many at a time, and waits until all of it is durable.
async fn work(ledger: &Ledger, tenants: &[TenantId], in_flight: usize, requests: usize) -> Result<(), Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let price = charge_of_one_request()?;
    let customers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (ledger, next, price) = (ledger.clone(), Arc::clone(&next), price.clone());
            let tenants = tenants.to_vec();
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return Ok::<(), ledger::LedgerError>(());
                    }
                    // a stride that shares no factor with the number of tenants visits all of them, in no order of their ids
                    let tenant = tenants[(number * 7_919) % tenants.len()];
                    let hold = ledger.hold(hold_request(tenant)).await?;
                    let ending = Ending {
                        reason: Reason::Completed,
                        unbilled: Vec::new(),
                        record: None,
                    };
                    hold.settle(&price, "acme".to_owned(), ending);
                }
            })
        })
        .collect();
    for customer in customers {
        customer.await??;
    }
    ledger.drain().await;
    Ok(())
}

fn hold_request(tenant: TenantId) -> HoldRequest {
    HoldRequest {
        request: RequestId::generate(),
        tenant,
        key: KeyId::generate(),
        amount: HOLD,
        budgets: SmallVec::new(),
        price_version: 1,
        provider: "acme".to_owned(),
        provider_estimate: HOLD,
    }
}

fn charge_of_one_request() -> Result<Charge, Failure> {
    let price = FrozenPrice {
        version: 1,
        entry: Arc::new(serde_json::from_str(r#"{"price":{"input":"0.001","output":"0.001"}}"#)?),
        multipliers: Multipliers::ONE,
        cost: domain::pricing::Multiplier::ONE,
        admitted_at: UnixMs(0),
    };
    let usage = Usage::default().with_tokens(TokenClass::Input, CHARGED);
    Ok(charge(&[price], &usage, &Circumstances::at(UnixMs(0)))?)
}
