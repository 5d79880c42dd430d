//! A fresh database per test, and the objects that most tests need.

use std::sync::Arc;

use catalog::{
    Basis, CatalogCache, CredentialView, NewCredential, NewModel, NewOffer, NewPool, NewProvider, OfferView, PoolView,
    ProviderView,
};
use domain::{PoolId, ProviderId, clock::UnixMs, pricing::PriceEntry, request::Dialect, secret::SecretText};
use store::{Database, DatabaseSettings, Tx, audit::Actor, keyring::ServerKey};

pub struct World {
    pub database: Database,
    pub key: ServerKey,
    pub actor: Actor,
    _folder: tempfile::TempDir,
}

pub const SECRET: &str = "sk-canary-provider-secret-0123456789";

pub async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let settings = DatabaseSettings::Sqlite {
        file: folder.path().join("truerelay.sqlite"),
    };
    let database = Database::open(&settings).await.unwrap();
    store::apply_migrations(&database).await.unwrap();
    World {
        database,
        key: ServerKey::generate(),
        actor: Actor::system("test"),
        _folder: folder,
    }
}

pub fn price(json: &str) -> Arc<PriceEntry> {
    Arc::new(serde_json::from_str(json).unwrap())
}

pub fn plain_price(input: &str, output: &str) -> Arc<PriceEntry> {
    price(&format!(r#"{{"price":{{"input":"{input}","output":"{output}"}}}}"#))
}

pub fn new_provider(slug: &str) -> NewProvider {
    NewProvider {
        slug: slug.to_owned(),
        name: slug.to_owned(),
        formats: vec![Dialect::OpenaiChat],
        base_url: format!("https://{slug}.example/v1"),
        allow_private_address: false,
    }
}

pub fn new_pool(provider: ProviderId, name: &str) -> NewPool {
    NewPool {
        provider,
        name: name.to_owned(),
        multiplier: "1.5".parse().unwrap(),
    }
}

pub fn new_credential(pool: PoolId, secret: &str) -> NewCredential {
    NewCredential {
        pool,
        name: "account".to_owned(),
        secret: SecretText::new(secret.to_owned()),
        basis: Basis::OwnContract,
    }
}

pub fn new_model(id: &str) -> NewModel {
    serde_json::from_value(serde_json::json!({ "id": id, "name": id, "kind": "chat" })).unwrap()
}

/// A model with one offer of one pool with one credential.
pub struct Shop {
    pub provider: ProviderView,
    pub pool: PoolView,
    pub credential: CredentialView,
    pub offer: OfferView,
}

impl World {
    pub async fn tx(&self) -> Tx {
        self.database.begin().await.unwrap()
    }

    pub async fn cache(&self) -> CatalogCache {
        CatalogCache::load(&self.database, &self.key).await.unwrap()
    }

    pub async fn now(&self) -> UnixMs {
        self.database.now().await.unwrap()
    }

    pub async fn shop(&self) -> Shop {
        let tx = self.tx().await;
        let provider = catalog::create_provider(&tx, &self.actor, new_provider("acme"))
            .await
            .unwrap();
        let pool = catalog::create_pool(&tx, &self.actor, new_pool(provider.id, "acme-main"))
            .await
            .unwrap();
        let credential = catalog::create_credential(&tx, &self.actor, &self.key, new_credential(pool.id, SECRET))
            .await
            .unwrap();
        catalog::create_model(
            &tx,
            &self.actor,
            NewModel {
                aliases: vec!["One".to_owned(), "acme-one".to_owned()],
                ..new_model("acme/one")
            },
        )
        .await
        .unwrap();
        let offer = catalog::create_offer(
            &tx,
            &self.actor,
            NewOffer {
                upstream_model_id: Some("one-2026".to_owned()),
                price: Some(plain_price("1", "2")),
                ..NewOffer::of("acme/one", pool.id)
            },
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        Shop {
            provider,
            pool,
            credential,
            offer,
        }
    }
}
