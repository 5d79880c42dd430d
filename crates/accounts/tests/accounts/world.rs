//! A database of its own for each test, and the steps that many tests take.

use accounts::{
    AccountsError, Budget, BudgetPeriod, CachedLookup, CallerCache, KeyLimits, KeySettings, KeyUpdate, KnownKey,
    NewTenant, PlainKey, Tenant, VirtualKey, operator_keys, operator_tenants,
};
use domain::{Amount, KeyId, OperatorTokenId, TenantId, clock::UnixMs};
use store::{
    Database, DatabaseSettings,
    audit::{self, Actor, AuditRow},
    changes::{Topic, read_versions},
    keyring::ServerKey,
};

pub struct World {
    pub database: Database,
    pub pepper: ServerKey,
    pub actor: Actor,
    pub folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::Sqlite {
            file: folder.path().join("relay.db"),
        };
        let database = Database::open(&settings).await.unwrap();
        store::apply_migrations(&database).await.unwrap();
        let actor = Actor::operator(OperatorTokenId::generate());
        Self {
            database,
            pepper: ServerKey::generate(),
            actor,
            folder,
        }
    }

    pub async fn tenant(&self, name: &str) -> Tenant {
        let tx = self.database.begin().await.unwrap();
        let new = NewTenant {
            name: name.to_owned(),
            tier: None,
            budget: None,
        };
        let tenant = operator_tenants::create(&tx, &self.actor, new).await.unwrap();
        tx.commit().await.unwrap();
        tenant
    }

    pub async fn key(&self, tenant: TenantId, settings: KeySettings) -> (VirtualKey, PlainKey) {
        let tx = self.database.begin().await.unwrap();
        let created = operator_keys::create(&tx, &self.actor, &self.pepper, tenant, settings)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        created
    }

    pub async fn update(&self, key: KeyId, update: KeyUpdate) -> Result<VirtualKey, AccountsError> {
        let tx = self.database.begin().await.unwrap();
        let outcome = operator_keys::update(&tx, &self.actor, key, update).await;
        tx.commit().await.unwrap();
        outcome
    }

    pub async fn versions(&self) -> (i64, i64) {
        let versions = read_versions(self.database.readers(), self.database.backend())
            .await
            .unwrap();
        (versions.of(Topic::Keys), versions.of(Topic::Operators))
    }

    pub async fn audit(&self) -> Vec<AuditRow> {
        audit::list(self.database.readers(), self.database.backend(), None, 1_000)
            .await
            .unwrap()
    }

    pub async fn known(&self, cache: &CallerCache, plain: &PlainKey) -> std::sync::Arc<KnownKey> {
        match cache.resolve(&self.database, plain.hash(&self.pepper)).await.unwrap() {
            CachedLookup::Known(known) => known,
            CachedLookup::Unknown => panic!("the key is not known"),
        }
    }

    pub async fn text(&self, sql: &'static str) -> Vec<String> {
        let tx = self.database.begin().await.unwrap();
        let rows = tx.query(sql, vec![]).await.unwrap();
        rows.iter()
            .map(|row| row.try_get::<String>("", "found").unwrap())
            .collect()
    }
}

pub fn named(name: &str) -> KeySettings {
    KeySettings {
        name: name.to_owned(),
        ..KeySettings::default()
    }
}

pub fn limited() -> KeySettings {
    let limits = KeyLimits {
        allowed_models: Some(vec!["openai/gpt-4o".to_owned(), "sonnet".to_owned()]),
        requests_per_minute: Some(60),
        budget: Some(Budget {
            limit: Amount::from_usd(5),
            period: BudgetPeriod::Week,
        }),
    };
    KeySettings {
        name: " ci ".to_owned(),
        expires_at: Some(UnixMs(4_000_000_000_000)),
        limits,
    }
}
