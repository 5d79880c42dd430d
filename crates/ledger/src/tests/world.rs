//! A fresh database per test, with tenants, ledgers and the requests that most tests need.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    Amount, KeyId, LotId, NodeId, RequestId, TenantId,
    clock::UnixMs,
    pricing::{Charge, Circumstances, FrozenPrice, Multipliers, charge},
    request::{Dialect, Reason, RequestRecord},
    secret::SecretText,
    usage::{TokenClass, Usage, UsageSource},
};
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use smallvec::SmallVec;
use store::{Backend, Database, DatabaseSettings, StoreError, audit::Actor, bulk::Rows};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::{
    BatchRider, Ending, Foundation, HoldRequest, Ledger, LedgerSettings, LedgerStore, NodeIdentity, NodeSpools,
    StoredRecords, WriterEnd,
    audit::{self, AuditSettings, Pace, Report},
    batch::{Batch, Committed, Item, Locking},
    claims::Purpose,
    items::{Closing, End, Settled},
    movements::{self, Grant, GrantKind, Granted, Withdrawal, Withdrawn},
    reading,
    rules::{Balance, BatchName},
    sql_store::SqlBatchStore,
};

pub const MAX_REQUEST_TIME: Duration = Duration::from_secs(900);
/// A record of this model is one that the log refuses.
pub const POISON: &str = "poison";

pub struct World {
    pub database: Database,
    pub rider: Arc<Rider>,
    /// The nodes' data folders.
    folders: tempfile::TempDir,
    folder: Option<tempfile::TempDir>,
    server: Option<(String, String)>,
}

/// Stands for the request log: it writes a row in the batch's transaction and refuses poison.
#[derive(Default)]
pub struct Rider {
    pub written: Mutex<BTreeSet<RequestId>>,
}

impl BatchRider for Rider {
    fn stored(&self, records: &[&RequestRecord]) -> Result<StoredRecords, StoreError> {
        for record in records {
            if record.model == POISON {
                return Err(StoreError::Contradiction("poison".to_owned()));
            }
            self.written.lock().unwrap().insert(record.id);
        }
        let sql = "INSERT INTO change_topic (topic, version) SELECT r.topic, r.version FROM {rows}";
        let rows = Rows::new()
            .texts("topic", records.iter().map(|record| record.id.to_string()))
            .every_number("version", 1);
        let texts = records.iter().map(|record| serde_json::to_string(record).unwrap());
        Ok(StoredRecords {
            texts: texts.collect(),
            change: (sql, rows),
        })
    }
}

impl World {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("truerelay.sqlite");
        Self::open(DatabaseSettings::Sqlite { file }, Some(folder), None).await
    }

    pub async fn postgres() -> Option<Self> {
        let server = std::env::var("TRUERELAY_TEST_POSTGRES_URL").ok()?;
        let name = format!("ledger_{}", Uuid::new_v4().simple());
        let admin = sea_orm::Database::connect(&server).await.unwrap();
        admin
            .execute_unprepared(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        admin.close().await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let url = SecretText::new(format!("{base}/{name}"));
        let settings = DatabaseSettings::Postgres {
            url,
            max_connections: 4,
        };
        Some(Self::open(settings, None, Some((server, name))).await)
    }

    async fn open(
        settings: DatabaseSettings,
        folder: Option<tempfile::TempDir>,
        server: Option<(String, String)>,
    ) -> Self {
        let database = Database::open(&settings).await.unwrap();
        store::apply_migrations(&database).await.unwrap();
        let world = Self {
            database,
            rider: Arc::default(),
            folders: tempfile::tempdir().unwrap(),
            folder,
            server,
        };
        let sql = "INSERT INTO price_version (version, effective_at_ms, published_at_ms, actor, note) \
                   SELECT 1, 1, 1, 'system:test', '' WHERE NOT EXISTS (SELECT 1 FROM price_version)";
        world.change(sql, vec![]).await.unwrap();
        world
    }

    /// The books must be in order at the end of every test.
    pub async fn end(self) {
        self.assert_clean().await;
        self.database.close().await;
        if let Some((server, name)) = &self.server {
            let admin = sea_orm::Database::connect(server).await.unwrap();
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            admin.execute_unprepared(&drop).await.unwrap();
        }
        drop(self.folder);
    }

    pub async fn audit(&self) -> Report {
        let settings = AuditSettings {
            max_request_time: MAX_REQUEST_TIME,
            pace: Pace::Full,
        };
        audit::verify(&self.database, settings, &|_, _| {}).await.unwrap()
    }

    pub async fn assert_clean(&self) {
        let report = self.audit().await;
        // some tests put items aside on purpose
        let offences: Vec<_> = report
            .offences()
            .filter(|check| !check.statement.contains("put aside"))
            .collect();
        assert!(offences.is_empty(), "{offences:#?}");
    }

    /// A database of its own with what is in this one now, as a restored backup would have it.
    pub async fn backup(&self) -> Self {
        if let Some((server, name)) = &self.server {
            let copy = Self::postgres().await.unwrap();
            let (_, copied) = copy.server.clone().unwrap();
            let (base, _) = server.rsplit_once('/').unwrap();
            // the copy has the schema already; a backup brings its own
            let script = format!(
                "set -e; psql -q '{base}/{copied}' -c 'SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public'; \
                 pg_dump '{base}/{name}' | psql -q -v ON_ERROR_STOP=1 '{base}/{copied}' >/dev/null"
            );
            let status = tokio::process::Command::new("bash")
                .args(["-c", &script])
                .status()
                .await
                .unwrap();
            assert!(status.success(), "the backup was made");
            return copy;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("truerelay.sqlite");
        let sql = format!("VACUUM INTO '{}'", file.display());
        self.database.readers().execute_unprepared(&sql).await.unwrap();
        Self::open(DatabaseSettings::Sqlite { file }, Some(folder), None).await
    }

    pub fn store(&self) -> SqlBatchStore {
        SqlBatchStore::new(self.database.clone(), Arc::clone(&self.rider) as Arc<dyn BatchRider>)
    }

    pub async fn ledger(&self) -> Ledger {
        self.ledger_of(NodeId::generate(), 4_000).await.0
    }

    pub async fn ledger_of(
        &self,
        node: NodeId,
        queue_capacity: u32,
    ) -> (Ledger, NodeIdentity, tokio::task::JoinHandle<WriterEnd>) {
        let identity = NodeIdentity {
            id: node,
            boot: Uuid::now_v7(),
        };
        let settings = LedgerSettings {
            queue_capacity,
            max_request_time: MAX_REQUEST_TIME,
        };
        let foundation = Foundation {
            store: Arc::new(self.store()),
            spools: Arc::new(NodeSpools::open(&self.data_folder(node), 1 << 20).unwrap()),
            node: identity,
            settings,
        };
        let (ledger, writer) = Ledger::start(foundation, &Handle::current()).await.unwrap();
        (ledger, identity, writer)
    }

    /// Where a node keeps what must survive it.
    pub fn data_folder(&self, node: NodeId) -> PathBuf {
        let folder = self.folders.path().join(node.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A tenant with so much paid credit, in nano-USD.
    pub async fn tenant(&self, credit: i64) -> TenantId {
        let tenant = TenantId::generate();
        let tx = self.database.begin().await.unwrap();
        drop(movements::open_account(&tx, tenant).await.unwrap());
        tx.commit().await.unwrap();
        if credit > 0 {
            self.grant(tenant, GrantKind::Payment, credit, "first").await.unwrap();
        }
        tenant
    }

    pub async fn grant(
        &self,
        tenant: TenantId,
        kind: GrantKind,
        amount: i64,
        source: &str,
    ) -> Result<Granted, crate::LedgerError> {
        let tx = self.database.begin().await.unwrap();
        let grant = Grant {
            tenant,
            amount: Amount::from_nanos(amount),
            kind,
            expires_at: None,
            source: source.to_owned(),
        };
        let granted = movements::grant(&tx, &Actor::system("test"), &grant).await?;
        tx.commit().await.unwrap();
        Ok(granted)
    }

    pub async fn withdraw(
        &self,
        tenant: TenantId,
        lot: LotId,
        purpose: Purpose,
        amount: i64,
        source: &str,
    ) -> Result<Withdrawn, crate::LedgerError> {
        let tx = self.database.begin().await.unwrap();
        let withdrawal = Withdrawal {
            tenant,
            lot,
            purpose,
            amount: Amount::from_nanos(amount),
            source: source.to_owned(),
        };
        let withdrawn = movements::withdraw(&tx, &Actor::system("test"), &withdrawal).await?;
        tx.commit().await.unwrap();
        Ok(withdrawn)
    }

    /// Waits until so many requests have ended.
    pub async fn wait_for_charges(&self, count: i64) {
        while self.number("SELECT COUNT(*) FROM charge").await < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What waits on the tenant's lots, by its account.
    pub async fn claimed(&self, tenant: TenantId) -> i64 {
        let balance = reading::balance(self.database.readers(), tenant).await.unwrap();
        balance.unwrap().claimed.nanos()
    }

    pub async fn left(&self, tenant: TenantId, lot: LotId) -> i64 {
        let lots = reading::operator_lots(self.database.readers(), tenant).await.unwrap();
        lots.iter().find(|view| view.id == lot).unwrap().remaining.nanos()
    }

    pub async fn balance(&self, tenant: TenantId) -> (i64, i64, i64) {
        let balance: Balance = reading::balance(self.database.readers(), tenant)
            .await
            .unwrap()
            .unwrap();
        (balance.available.nanos(), balance.held.nanos(), balance.debt.nanos())
    }

    pub async fn rows(&self, sql: &str, values: Vec<Value>) -> Vec<QueryResult> {
        let connection = self.database.readers();
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        connection.query_all_raw(statement).await.unwrap()
    }

    /// The one number that a query answers.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = match self.database.backend() {
            Backend::Postgres => format!("SELECT CAST(({sql}) AS BIGINT) AS n"),
            Backend::Sqlite => format!("SELECT ({sql}) AS n"),
        };
        self.rows(&sql, vec![]).await[0].try_get("", "n").unwrap()
    }

    pub async fn posted(&self, account: &str) -> i64 {
        self.number(&format!(
            "SELECT COALESCE(SUM(amount), 0) FROM entry WHERE account = '{account}'"
        ))
        .await
    }

    pub async fn change(&self, sql: &str, values: Vec<Value>) -> Result<u64, StoreError> {
        let tx = self.database.begin().await?;
        let changed = tx.execute(sql, values).await?;
        tx.commit().await?;
        Ok(changed)
    }
}

pub fn hold_request(tenant: TenantId, amount: i64) -> HoldRequest {
    HoldRequest {
        request: RequestId::generate(),
        tenant,
        key: KeyId::generate(),
        amount: Amount::from_nanos(amount),
        budgets: SmallVec::new(),
        price_version: 1,
        provider: "acme".to_owned(),
        provider_estimate: Amount::from_nanos(amount),
    }
}

/// A charge of so many nano-USD, as the pricing rules make it: one nano-USD a token.
pub fn charge_of(nanos: u64) -> Charge {
    let price = FrozenPrice {
        version: 1,
        entry: Arc::new(serde_json::from_str(r#"{"price":{"input":"0.001","output":"0.001"}}"#).unwrap()),
        multipliers: Multipliers::ONE,
        cost: domain::pricing::Multiplier::ONE,
        admitted_at: UnixMs(0),
    };
    let usage = Usage::default().with_tokens(TokenClass::Input, nanos);
    let charge = charge(&[price], &usage, &Circumstances::at(UnixMs(0))).unwrap();
    assert_eq!(charge.amount().nanos(), i64::try_from(nanos).unwrap());
    charge
}

pub fn ending(reason: Reason) -> Ending {
    Ending {
        reason,
        unbilled: Vec::new(),
        record: None,
    }
}

pub fn completed() -> Ending {
    ending(Reason::Completed)
}

pub fn record(request: RequestId, tenant: TenantId, model: &str) -> Box<RequestRecord> {
    Box::new(RequestRecord {
        id: request,
        tenant,
        key: KeyId::generate(),
        dialect: Dialect::OpenaiChat,
        requested_model: model.to_owned(),
        model: model.to_owned(),
        served_model: None,
        provider: None,
        pool: None,
        offer: None,
        price_version: 1,
        multiplier: "1".to_owned(),
        stream: false,
        status: 200,
        reason: Reason::Completed,
        usage: Usage::default(),
        usage_source: UsageSource::Provider,
        flags: Vec::new(),
        lines: Vec::new(),
        held: Amount::ZERO,
        started_at: UnixMs(0),
        first_byte_ms: None,
        duration_ms: 1,
        attempts: Vec::new(),
        priced_by: None,
        request_sha256: None,
        response_sha256: None,
        budgets: Vec::new(),
    })
}

pub fn settle_item(of: &HoldRequest, nanos: u64) -> Item {
    let end = End::Settle(Settled::new(&charge_of(nanos), of.provider.clone()));
    Item::Close(closing(of, Reason::Completed, end))
}

pub fn void_item(of: &HoldRequest) -> Item {
    Item::Close(closing(of, Reason::UpstreamFailed, End::Void))
}

fn closing(of: &HoldRequest, reason: Reason, end: End) -> Closing {
    Closing {
        request: of.request,
        tenant: of.tenant,
        key: of.key,
        reason,
        end,
        unbilled: Vec::new(),
        record: None,
    }
}

/// Batches of one boot, sent to the store without a writer.
pub struct Batches {
    pub store: SqlBatchStore,
    pub name: BatchName,
}

impl World {
    pub async fn batches(&self) -> Batches {
        let name = BatchName {
            node: Uuid::now_v7(),
            boot: Uuid::now_v7(),
            number: 0,
        };
        let sql = "INSERT INTO node (id, boot, batch_no, last_commit_at_ms) VALUES ($1, $2, 0, 0)";
        self.change(sql, vec![name.node.into(), name.boot.into()])
            .await
            .unwrap();
        Batches {
            store: self.store(),
            name,
        }
    }
}

impl Batches {
    pub fn next(&mut self, items: Vec<Item>) -> Batch {
        self.name.number += 1;
        Batch { name: self.name, items }
    }

    pub async fn send(&mut self, items: Vec<Item>) -> Committed {
        let batch = self.next(items);
        self.store.apply(&batch, Locking::Wait).await.unwrap()
    }
}
