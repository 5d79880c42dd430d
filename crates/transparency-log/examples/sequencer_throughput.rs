//! How many leaves the sequencer publishes in a second on PostgreSQL.
//!
//! `sequencer_throughput URL BATCHES LEAVES FOLDER`: so many batches of so many leaves wait, as writers would have left them,
//! and are sequenced, copied to FOLDER and signed. It works in a database of its own, which it drops again, and prints a line.

#![allow(clippy::print_stdout, clippy::float_arithmetic)]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use domain::secret::SecretText;
use sea_orm::ConnectionTrait;
use store::{Database, DatabaseSettings};
use transparency::{LeafKind, LogKey};
use transparency_log::{BatchDraft, CopySettings, Sequencer, SequencerSettings, movement_batch};
use uuid::Uuid;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, batches, leaves, folder] = arguments.as_slice() else {
        return Err("usage: sequencer_throughput postgres://user@host:port/database BATCHES LEAVES FOLDER".into());
    };
    let plan = (batches.parse()?, leaves.parse()?, folder.as_str());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(server, plan))
}

async fn run(server: &str, plan: (usize, usize, &str)) -> Result<(), Failure> {
    let name = format!("sequencer_throughput_{}", Uuid::new_v4().simple());
    let admin = sea_orm::Database::connect(server).await?;
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    let measured = measure(server, &name, plan).await;
    let dropped = format!("DROP DATABASE {name} WITH (FORCE)");
    admin.execute_unprepared(&dropped).await?;
    measured
}

async fn measure(server: &str, name: &str, (batches, leaves, folder): (usize, usize, &str)) -> Result<(), Failure> {
    let (base, _) = server.rsplit_once('/').ok_or("the address names no database")?;
    let database = Database::open(&DatabaseSettings::Postgres {
        url: SecretText::new(format!("{base}/{name}")),
        max_connections: 4,
    })
    .await?;
    store::apply_migrations(&database).await?;
    let statement = "x".repeat(1_500);
    let hashing = fill(&database, batches, leaves, &statement).await?;
    let settings = SequencerSettings {
        key: LogKey::from_seed(&rand::random()),
        copies: CopySettings {
            folder: folder.into(),
            keep: Duration::from_secs(3_600),
            file_bytes: 64 << 20,
        },
        boot: Uuid::now_v7(),
    };
    let mut sequencer = Sequencer::new(database.clone(), settings)?;
    let since = Instant::now();
    let done = sequencer.catch_up().await?;
    let taken = since.elapsed().as_secs_f64();
    let published = f64::from(u32::try_from(done.batches * leaves)?);
    println!(
        "{} batches of {leaves} leaves in {} heads: {:.0} leaves/s, {:.1} ms a head; a leaf of 1.5 KiB costs its writer {:.2} us",
        done.batches,
        done.heads,
        published / taken,
        taken * 1e3 / f64::from(u32::try_from(done.heads)?),
        hashing * 1e6 / published
    );
    database.close().await;
    Ok(())
}

/// Answers how long it took to make the leaves.
async fn fill(database: &Database, batches: usize, leaves: usize, statement: &str) -> Result<f64, Failure> {
    let mut hashing = Duration::ZERO;
    for _ in 0..batches {
        let since = Instant::now();
        let mut draft = BatchDraft::new(movement_batch(Uuid::new_v4()), leaves);
        for _ in 0..leaves {
            draft.push(LeafKind::Request, Uuid::now_v7(), statement);
        }
        let stored = draft.stored(1);
        hashing += since.elapsed();
        let tx = database.begin().await?;
        tx.execute_together(&stored.changes()).await?;
        tx.commit().await?;
    }
    Ok(hashing.as_secs_f64())
}
