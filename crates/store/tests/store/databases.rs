//! The databases that a test runs on, each fresh.

use domain::secret::SecretText;
use sea_orm::{ConnectionTrait, Database as Connector, DatabaseConnection};
use store::{Database, DatabaseSettings};

/// A database of a test's own. Its file goes with it; a PostgreSQL database goes with its server.
pub struct Fresh {
    pub settings: DatabaseSettings,
    pub database: Database,
    _folder: tempfile::TempDir,
}

impl Fresh {
    async fn open(settings: DatabaseSettings, folder: tempfile::TempDir) -> Self {
        let database = Database::open(&settings).await.unwrap();
        Self {
            settings,
            database,
            _folder: folder,
        }
    }

    /// A transaction on the ledger writer's connection, or on another one.
    pub async fn begin(&self, money: bool) -> store::Tx {
        if money {
            self.database.begin_money().await.unwrap()
        } else {
            self.database.begin().await.unwrap()
        }
    }

    /// Runs a statement beside the product.
    pub async fn execute(&self, sql: &'static str) -> Result<(), store::StoreError> {
        let tx = self.database.begin().await.unwrap();
        tx.execute(sql, vec![]).await?;
        tx.commit().await
    }
}

/// Empty databases: none of our tables is in them.
pub async fn empty() -> Vec<Fresh> {
    let folder = || tempfile::tempdir().unwrap();
    let sqlite = folder();
    let file = sqlite.path().join("relay.db");
    let mut all = vec![Fresh::open(DatabaseSettings::Sqlite { file }, sqlite).await];
    if let Ok(server) = std::env::var("TRUERELAY_TEST_POSTGRES_URL") {
        let name = format!("s_{}", uuid::Uuid::now_v7().simple());
        let connection: DatabaseConnection = Connector::connect(server.as_str()).await.unwrap();
        connection
            .execute_unprepared(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let settings = DatabaseSettings::Postgres {
            url: SecretText::new(format!("{base}/{name}")),
            max_connections: 5,
        };
        all.push(Fresh::open(settings, folder()).await);
    }
    all
}

/// Databases with the schema of this release.
pub async fn migrated() -> Vec<Fresh> {
    let all = empty().await;
    for fresh in &all {
        store::apply_migrations(&fresh.database).await.unwrap();
    }
    all
}
