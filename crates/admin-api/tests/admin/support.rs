//! A database of its own for every test, operators of both roles, and calls that remember every answer.

use std::{cell::RefCell, sync::Arc};

use accounts::{CallerCache, OperatorCache, OperatorRole, operator_tokens};
use actix_web::{
    App,
    http::{Method, StatusCode, header::HeaderMap},
    test::{TestRequest, call_service, init_service, read_body},
};
use admin_api::AdminParts;
use catalog::CatalogCache;
use serde_json::{Value, json};
use store::{
    Database, DatabaseSettings,
    audit::Actor,
    keyring::{Keyring, ServerKey},
};
use tempfile::TempDir;

pub struct World {
    pub parts: Arc<AdminParts>,
    pub full: String,
    pub read_only: String,
    answers: RefCell<Vec<String>>,
    _folder: TempDir,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The body, after checking the status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    /// Checks status, code and field of a failure, and answers its message.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str, field: Option<&str>) -> String {
        let body = self.expect(status);
        assert_eq!(body["error"]["code"], code, "{body}");
        assert_eq!(body["error"]["field"].as_str(), field, "{body}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// A call before it is sent.
pub struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    pub authorization: Vec<String>,
    pub body: Option<Vec<u8>>,
    pub content_type: &'a str,
    pub idempotency_key: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            authorization: Vec::new(),
            body: None,
            content_type: "application/json",
            idempotency_key: None,
        }
    }

    pub fn bearer(mut self, token: &str) -> Self {
        self.authorization.push(format!("Bearer {token}"));
        self
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with_notice(0).await
    }

    /// A world in which rises need so many days of notice.
    pub async fn with_notice(notice_days: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::Sqlite {
            file: folder.path().join("db"),
        };
        let database = Database::open(&settings).await.unwrap();
        store::apply_migrations(&database).await.unwrap();
        let keyring = Keyring {
            encryption: ServerKey::generate(),
            pepper: ServerKey::generate(),
        };
        let tx = database.begin().await.unwrap();
        let actor = Actor::system("test");
        let mut tokens = Vec::new();
        for role in [OperatorRole::Full, OperatorRole::ReadOnly] {
            let (_, plain) = operator_tokens::create(&tx, &actor, &keyring.pepper, "test", role)
                .await
                .unwrap();
            tokens.push(plain.expose().to_owned());
        }
        tx.commit().await.unwrap();
        let catalog = CatalogCache::load(&database, &keyring.encryption).await.unwrap();
        let parts = AdminParts {
            database,
            keyring,
            operators: Arc::new(OperatorCache::new()),
            catalog: Arc::new(catalog),
            archive: ledger::archive::Archive::off(),
            reports: admin_api::Reports::default(),
            callers: Arc::new(CallerCache::new()),
            notice: catalog::NoticePeriod::of_days(notice_days).unwrap(),
        };
        let read_only = tokens.pop().unwrap();
        let full = tokens.pop().unwrap();
        Self {
            parts: Arc::new(parts),
            full,
            read_only,
            answers: RefCell::default(),
            _folder: folder,
        }
    }

    pub async fn send(&self, call: Call<'_>) -> Reply {
        let parts = Arc::clone(&self.parts);
        let app = init_service(App::new().configure(|config| admin_api::configure(parts, config))).await;
        let mut request = TestRequest::with_uri(call.path).method(call.method);
        for value in call.authorization {
            request = request.append_header(("authorization", value));
        }
        if let Some(key) = call.idempotency_key {
            request = request.append_header(("idempotency-key", key));
        }
        if let Some(body) = call.body {
            request = request
                .insert_header(("content-type", call.content_type))
                .set_payload(body);
        }
        let response = call_service(&app, request.to_request()).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        self.answers.borrow_mut().push(text.clone());
        Reply { status, headers, text }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Call::new(Method::GET, path).bearer(&self.read_only)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.write(Call::new(Method::POST, path).bearer(&self.full).json(&body))
            .await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.write(Call::new(Method::PATCH, path).bearer(&self.full).json(&body))
            .await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.write(Call::new(Method::DELETE, path).bearer(&self.full)).await
    }

    /// A write that succeeds leaves an audit row, and one that is refused leaves none: asserted of every write of
    /// every test.
    async fn write(&self, call: Call<'_>) -> Reply {
        let what = format!("{} {}", call.method, call.path);
        let before = self.newest_audit_row().await;
        let reply = self.send(call).await;
        let after = self.newest_audit_row().await;
        assert_eq!(reply.status.is_success(), after > before, "{what}: {}", reply.text);
        reply
    }

    async fn newest_audit_row(&self) -> i64 {
        let database = &self.parts.database;
        let newest = store::audit::list(database.readers(), database.backend(), None, 1)
            .await
            .unwrap();
        newest.first().map_or(0, |row| row.seq)
    }

    pub async fn grant(&self, tenant: &str, key: &str, body: Value) -> Reply {
        let path = format!("/admin/v1/tenants/{tenant}/grants");
        let mut call = Call::new(Method::POST, &path).bearer(&self.full).json(&body);
        call.idempotency_key = Some(key);
        self.send(call).await
    }

    /// How many answers so far contain a text.
    pub fn answers_with(&self, text: &str) -> usize {
        self.answers
            .borrow()
            .iter()
            .filter(|answer| answer.contains(text))
            .count()
    }

    pub async fn new_provider(&self, slug: &str) -> String {
        let body = json!({
            "slug": slug, "name": slug, "formats": ["openai_chat"], "base_url": format!("https://{slug}.example/v1")
        });
        id_of(&self.post("/admin/v1/providers", body).await)
    }

    pub async fn new_pool(&self, provider: &str, name: &str) -> String {
        let body = json!({"provider": provider, "name": name, "multiplier": "1.7"});
        id_of(&self.post("/admin/v1/pools", body).await)
    }

    pub async fn new_model(&self, id: &str) -> String {
        let body = json!({"id": id, "name": id, "kind": "chat"});
        id_of(&self.post("/admin/v1/models", body).await)
    }

    pub async fn new_offer(&self, model: &str, pool: &str) -> String {
        let body = json!({
            "model": model, "pool": pool, "upstream_model_id": "upstream", "format": "openai_chat",
            "usage_profile": "openai_chat", "price": {"price": {"input": "2.5", "output": "10"}}
        });
        id_of(&self.post("/admin/v1/offers", body).await)
    }

    pub async fn new_tenant(&self) -> String {
        id_of(&self.post("/admin/v1/tenants", json!({"name": "Acme"})).await)
    }

    /// The actions of the newest audit entries, newest first.
    pub async fn audit_actions(&self, count: usize) -> Vec<String> {
        let page = self.get(&format!("/admin/v1/audit?limit={count}")).await.expect(200);
        let rows = page["data"].as_array().unwrap();
        rows.iter()
            .map(|row| row["action"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[track_caller]
pub fn id_of(reply: &Reply) -> String {
    reply.expect(201)["id"].as_str().unwrap().to_owned()
}
