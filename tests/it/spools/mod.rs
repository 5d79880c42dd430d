//! A node dies during an outage, after its streams have ended: what they cost is on its disk alone. Here that moment is
//! kept, database and disk, so that what follows can be tried again and again.

mod damage;
mod killed;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use fault_proxy::CutKind;
use sqlx::Row;
use support::{Backup, PrivatePostgres, TestAppOptions};
use tempfile::TempDir;

use crate::{
    faults::OwnDatabase,
    faults_served::{begin_streams, finish_streams, price, wait_for_notes},
};

/// What a request must come to, in nano-USD.
#[derive(Debug, Clone, Copy)]
struct Expected {
    /// As noted in the database when the outage began: what it costs if its end is lost.
    noted: i64,
    /// As its end says, which is on disk.
    whole: i64,
}

/// The moment at which the node died.
struct Kept {
    world: OwnDatabase,
    requests: BTreeMap<String, Expected>,
    backup: Backup,
    disk: TempDir,
}

/// Which rows the requests and balances have come to; what depends on how ends were put together in batches is left out.
const BOOKS: [&str; 5] = [
    "SELECT concat_ws(' ', request_id, tenant_id, key_id, state, reason, held, amount, overrun, provider_cost, unbilled, \
     price_version) FROM charge ORDER BY 1",
    "SELECT concat_ws(' ', tenant_id, available, held, claimed) FROM acct ORDER BY 1",
    "SELECT concat_ws(' ', id, remaining) FROM lot ORDER BY 1",
    "SELECT concat_ws(' ', account, SUM(amount)) FROM entry GROUP BY account ORDER BY 1",
    "SELECT concat_ws(' ', id, reason, status, duration_ms, record_json) FROM request ORDER BY 1",
];

impl Kept {
    /// So many streams that have ended without the database; nothing in a run without PostgreSQL.
    async fn make(streams: usize, prepare: &'static str) -> Option<Self> {
        if !support::Backend::run_is_shared() {
            return None;
        }
        let options = TestAppOptions {
            config: "[ledger]\nspool_reserved_mib = 1\n".to_owned(),
            ..TestAppOptions::default()
        };
        let mut world = OwnDatabase::with(PrivatePostgres::start(&[]).await, options).await;
        let whole = price(&world.app).await;
        world.app.execute(prepare).await;
        let answers = begin_streams(&world.app, streams).await;
        wait_for_notes(&world.app).await;
        let network = world.network.handle();
        network.change(|faults| faults.refuse = true);
        network.break_open(CutKind::Rst);
        let noted = noted(&world).await;
        let mut requests = BTreeMap::new();
        for got in finish_streams(&world.app, answers).await {
            let noted = noted[&got.id];
            requests.insert(got.id, Expected { noted, whole });
        }
        wait_for_ends_on_disk(&world.app.data_folder(), requests.keys()).await;
        world.app.kill();
        network.heal();
        let disk = tempfile::tempdir().unwrap();
        copy(&world.app.data_folder(), disk.path());
        let backup = world.app.backup().await;
        Some(Self {
            world,
            requests,
            backup,
            disk,
        })
    }

    /// Database and disk are again as the dead node left them.
    fn put_back(&self) {
        let folder = self.world.app.data_folder();
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        copy(self.disk.path(), &folder);
        self.world.app.restore(&self.backup);
    }

    /// The one spool of the dead boot.
    fn spool(&self) -> PathBuf {
        let mut files = fs::read_dir(self.disk.path().join("spool")).unwrap();
        let name = files.next().unwrap().unwrap().file_name();
        assert!(files.next().is_none(), "there was one boot");
        self.world.app.data_folder().join("spool").join(name)
    }

    async fn books(&self) -> Vec<String> {
        let mut connection = self.world.connect().await;
        let mut books = Vec::new();
        for sql in BOOKS {
            let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
            books.extend(rows.iter().map(|row| row.get::<String, _>(0)));
        }
        books
    }
}

/// What has been noted of each open request.
pub async fn noted(world: &OwnDatabase) -> BTreeMap<String, i64> {
    let mut connection = world.connect().await;
    let rows = sqlx::query("SELECT 'req_' || replace(request_id::text, '-', ''), progress_amount FROM hold");
    let rows = rows.fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// How the end of a request begins in a spool.
pub fn end_of(id: &str) -> String {
    format!("{{\"close\":{{\"request\":\"{id}\"")
}

/// Until an end is on disk, a crash leaves its request to recovery.
pub async fn wait_for_ends_on_disk(data_folder: &Path, ids: impl Iterator<Item = &String> + Clone) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let kept = spool_text(data_folder);
        if ids.clone().all(|id| kept.contains(&end_of(id))) {
            return;
        }
        assert!(Instant::now() < deadline, "the ends are not kept on disk");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the node has kept on disk, of all its boots.
fn spool_text(data_folder: &Path) -> String {
    let files = fs::read_dir(data_folder.join("spool")).into_iter().flatten().flatten();
    let bytes: Vec<u8> = files
        .flat_map(|file| fs::read(file.path()).unwrap_or_default())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.unwrap().success(), "{} is copied", from.display());
}
