//! Which database and limiter a run uses, and a fresh database for each app.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use sqlx::{Connection, Executor, PgConnection, Row};

/// The two ways in which the product is run.
#[derive(Debug, Clone)]
pub enum Backend {
    /// SQLite and the in-process limiter.
    Embedded,
    /// PostgreSQL and Redis.
    Production {
        /// A database of its own, as the test reaches it.
        database_url: String,
        /// The same, as nodes reach it.
        node_database_url: String,
        /// The Redis, as nodes reach it.
        node_redis_url: String,
    },
}

impl Backend {
    /// The backend of this run, with a fresh database.
    pub async fn fresh() -> Self {
        match std::env::var("TRUERELAY_TEST_BACKEND").as_deref() {
            Ok("production") => Self::production().await,
            Ok("embedded") | Err(_) => Self::Embedded,
            Ok(other) => panic!("TRUERELAY_TEST_BACKEND is `{other}`: set it to `embedded` or `production`"),
        }
    }

    /// Whether this run is the one on PostgreSQL and Redis.
    pub fn run_is_shared() -> bool {
        std::env::var("TRUERELAY_TEST_BACKEND").as_deref() == Ok("production")
    }

    /// Whether several nodes can share it.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Production { .. })
    }

    async fn production() -> Self {
        Self::on_postgres(&setting("TRUERELAY_TEST_POSTGRES_URL")).await
    }

    /// A fresh database on this PostgreSQL server, beside the run's Redis.
    pub async fn on_postgres(server: &str) -> Self {
        let name = format!("t_{}", uuid::Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(server).await.expect("PostgreSQL answers");
        connection
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .expect("a database of its own");
        let (base, _) = server.rsplit_once('/').expect("an address with a database");
        let database_url = format!("{base}/{name}");
        Self::Production {
            node_database_url: database_url.clone(),
            database_url,
            node_redis_url: setting("TRUERELAY_TEST_REDIS_URL"),
        }
    }

    /// Where the PostgreSQL server listens.
    pub fn database_address(&self) -> SocketAddr {
        let Self::Production { database_url, .. } = self else {
            panic!("it is on PostgreSQL");
        };
        let url = reqwest::Url::parse(database_url).expect("an address");
        let address = url.socket_addrs(|| Some(5432)).expect("a host");
        *address.first().expect("an address")
    }

    /// A connection to the PostgreSQL database beside the product's.
    pub async fn connect(&self) -> PgConnection {
        let Self::Production { database_url, .. } = self else {
            panic!("it is on PostgreSQL");
        };
        PgConnection::connect(database_url).await.expect("PostgreSQL answers")
    }

    /// The same for the test, but nodes reach the database at this address: a proxy's.
    pub fn with_database_at(mut self, address: SocketAddr) -> Self {
        if let Self::Production { node_database_url, .. } = &mut self {
            *node_database_url = moved(node_database_url, address);
        }
        self
    }

    /// The same, but with another Redis, or the way to it through a proxy.
    pub fn with_redis_at(mut self, address: SocketAddr) -> Self {
        if let Self::Production { node_redis_url, .. } = &mut self {
            *node_redis_url = moved(node_redis_url, address);
        }
        self
    }

    /// The settings of the configuration file.
    pub fn config(&self) -> String {
        match self {
            Self::Embedded => String::new(),
            Self::Production {
                node_database_url,
                node_redis_url,
                ..
            } => format!(
                "[database]\nurl = \"{node_database_url}\"\nmax_connections = 5\nmigrate_on_start = true\n\n\
                 [redis]\nurl = \"{node_redis_url}\"\ntimeout_ms = 2000\n\n"
            ),
        }
    }

    /// Everything that the database holds, as text.
    pub async fn dump(&self, data_folder: &Path) -> String {
        match self {
            Self::Embedded => dump_files(data_folder),
            Self::Production { database_url, .. } => dump_postgres(database_url).await,
        }
    }

    /// Runs a statement; answers what the database says when it refuses.
    pub async fn execute(&self, data_folder: &Path, sql: &'static str) -> Result<(), String> {
        let done = match self {
            Self::Embedded => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database_file(data_folder));
                let mut connection = sqlx::SqliteConnection::connect_with(&options)
                    .await
                    .expect("the database file");
                connection.execute(sql).await.map(|_| ())
            }
            Self::Production { database_url, .. } => {
                let mut connection = PgConnection::connect(database_url).await.expect("PostgreSQL answers");
                connection.execute(sql).await.map(|_| ())
            }
        };
        done.map_err(|error| error.to_string())
    }

    /// Keeps the ledger's writer waiting.
    pub async fn lock_ledger(&self, data_folder: &Path) -> LedgerLock {
        match self {
            Self::Embedded => {
                let options = sqlx::sqlite::SqliteConnectOptions::new()
                    .filename(database_file(data_folder))
                    .busy_timeout(std::time::Duration::from_secs(5));
                let mut connection = sqlx::SqliteConnection::connect_with(&options)
                    .await
                    .expect("the database file");
                connection.execute("BEGIN IMMEDIATE").await.expect("the write lock");
                LedgerLock::Sqlite(connection)
            }
            Self::Production { database_url, .. } => {
                let mut connection = PgConnection::connect(database_url).await.expect("PostgreSQL answers");
                connection.execute("BEGIN").await.expect("a transaction");
                connection
                    .execute("SELECT batch_no FROM node FOR UPDATE")
                    .await
                    .expect("the nodes' rows");
                LedgerLock::Postgres(connection)
            }
        }
    }

    /// One number out of the database.
    pub async fn number(&self, data_folder: &Path, sql: &'static str) -> i64 {
        match self {
            Self::Embedded => {
                let file = database_file(data_folder);
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
                let mut connection = sqlx::SqliteConnection::connect_with(&options)
                    .await
                    .expect("the database file");
                sqlx::query(sql)
                    .fetch_one(&mut connection)
                    .await
                    .expect("a number")
                    .get(0)
            }
            Self::Production { database_url, .. } => {
                let mut connection = PgConnection::connect(database_url).await.expect("PostgreSQL answers");
                sqlx::query(sql)
                    .fetch_one(&mut connection)
                    .await
                    .expect("a number")
                    .get(0)
            }
        }
    }
}

/// A backup of the database, in a file of its own.
pub struct Backup(tempfile::NamedTempFile);

impl Backend {
    /// Makes a backup beside the running node, as docs/restore.md says.
    pub async fn back_up(&self, data_folder: &Path) -> Backup {
        let file = tempfile::NamedTempFile::new().expect("a file");
        match self {
            Self::Embedded => {
                std::fs::remove_file(file.path()).expect("only its name is wanted");
                let sql = format!("VACUUM INTO '{}'", file.path().display());
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database_file(data_folder));
                let mut connection = sqlx::SqliteConnection::connect_with(&options)
                    .await
                    .expect("the database file");
                let made = connection.execute(sqlx::AssertSqlSafe(sql)).await;
                made.expect("the backup is made");
            }
            Self::Production { database_url, .. } => shell("pg_dump \"$0\" >\"$1\"", database_url, file.path()),
        }
        Backup(file)
    }

    /// Puts a backup in place of the database. No node runs.
    pub fn restore(&self, data_folder: &Path, backup: &Backup) {
        match self {
            Self::Embedded => {
                let file = database_file(data_folder);
                for suffix in ["-wal", "-shm"] {
                    let mut name = file.clone().into_os_string();
                    name.push(suffix);
                    std::fs::remove_file(name).ok();
                }
                std::fs::copy(backup.0.path(), file).expect("the backup is copied");
            }
            Self::Production { database_url, .. } => {
                let restore = "psql -q \"$0\" -c 'SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public' && psql -q -v ON_ERROR_STOP=1 \"$0\" <\"$1\"";
                shell(restore, database_url, backup.0.path());
            }
        }
    }
}

fn shell(script: &str, database_url: &str, file: &Path) {
    let output = std::process::Command::new("bash")
        .args(["-c", script, database_url])
        .arg(file)
        .output()
        .expect("bash runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {told}");
}

/// A lock on what the ledger's writer writes.
pub enum LedgerLock {
    /// SQLite's one write lock.
    Sqlite(sqlx::SqliteConnection),
    /// The nodes' rows, which every batch begins with.
    Postgres(PgConnection),
}

impl LedgerLock {
    /// Lets the writer go on.
    pub async fn release(self) {
        match self {
            Self::Sqlite(mut connection) => connection.execute("ROLLBACK").await.map(|_| ()),
            Self::Postgres(mut connection) => connection.execute("ROLLBACK").await.map(|_| ()),
        }
        .expect("the lock is given back");
    }
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by `make test`"))
}

/// The same address on another host and port.
fn moved(url: &str, to: SocketAddr) -> String {
    let mut url = reqwest::Url::parse(url).expect("an address");
    url.set_ip_host(to.ip()).expect("a host");
    url.set_port(Some(to.port())).expect("a port");
    url.into()
}

fn database_file(data_folder: &Path) -> PathBuf {
    std::fs::read_dir(data_folder)
        .expect("the data folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "db" || extension == "sqlite" || extension == "sqlite3")
        })
        .expect("a database file in the data folder")
}

/// SQLite keeps text as it is: whatever is in a table is in the bytes of its files.
fn dump_files(data_folder: &Path) -> String {
    let file = database_file(data_folder);
    let stem = file.file_name().expect("a name").to_string_lossy().into_owned();
    let mut dump = String::new();
    for entry in std::fs::read_dir(data_folder).expect("the data folder").flatten() {
        if entry.file_name().to_string_lossy().starts_with(&stem) {
            dump.push_str(&String::from_utf8_lossy(
                &std::fs::read(entry.path()).unwrap_or_default(),
            ));
        }
    }
    dump
}

async fn dump_postgres(url: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    let tables: Vec<String> = sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
        .fetch_all(&mut connection)
        .await
        .expect("the tables")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut dump = String::new();
    for table in tables {
        let sql = sqlx::AssertSqlSafe(format!("SELECT t::text FROM \"{table}\" t"));
        for row in sqlx::query(sql).fetch_all(&mut connection).await.expect("the rows") {
            dump.push_str(&row.get::<String, _>(0));
            dump.push('\n');
        }
    }
    dump
}
