//! The operator's side: set-up by the admin API, as an operator would do it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The model that the OpenAI pool sells.
pub const OPENAI_MODEL: &str = "openai/gpt-4o";
/// The model that the Anthropic pool sells.
pub const ANTHROPIC_MODEL: &str = "anthropic/claude-sonnet-4.6";

/// Calls the admin API.
#[derive(Clone)]
pub struct Admin {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// What [`Admin::seed`] set up.
#[derive(Debug, Clone)]
pub struct Seeded {
    /// The tenant with 5 USD.
    pub tenant: String,
    /// Its key's id.
    pub key_id: String,
    /// Its key.
    pub key: String,
    /// The provider of the OpenAI dialect.
    pub openai_provider: String,
    /// Its pool.
    pub openai_pool: String,
    /// The offer of [`OPENAI_MODEL`].
    pub openai_offer: String,
    /// Its credential's id.
    pub openai_credential: String,
    /// Its credential.
    pub openai_secret: String,
    /// The Anthropic pool.
    pub anthropic_pool: String,
    /// Its credential.
    pub anthropic_secret: String,
}

/// What a new key may do.
#[derive(Debug, Clone, Default)]
pub struct KeyOptions {
    /// Requests per minute.
    pub requests_per_minute: Option<u32>,
    /// Models.
    pub allowed_models: Option<Vec<String>>,
    /// Budget in USD and its period.
    pub budget: Option<(String, &'static str)>,
    /// When it expires, in RFC 3339.
    pub expires_at: Option<String>,
}

impl Admin {
    /// For the node at this address.
    pub fn new(url: String, token: String) -> Self {
        Self {
            http: reqwest::Client::new(),
            url,
            token,
        }
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls, and answers status and body whatever they are.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.call_with(method, path, body, &[]).await
    }

    /// As [`Admin::call`], with more headers.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> (StatusCode, Value) {
        let mut request = self
            .http
            .request(method, format!("{}/admin/v1{path}", self.url))
            .bearer_auth(&self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("the admin API answers");
        let status = response.status();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Creates, and answers what was created.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// Changes, and answers what became of it.
    pub async fn change(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::PATCH, path, Some(body)).await;
        assert!(status.is_success(), "PATCH {path}: {status} {answer}");
        answer
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call(Method::GET, path, None).await;
        assert!(status.is_success(), "GET {path}: {status} {answer}");
        answer
    }

    /// The node's metrics as text.
    pub async fn metrics(&self) -> String {
        let response = self
            .http
            .get(format!("{}/metrics", self.url))
            .send()
            .await
            .expect("metrics");
        response.text().await.expect("text")
    }

    /// A tenant without credit.
    pub async fn create_tenant(&self, name: &str) -> String {
        id_of(&self.create("/tenants", json!({ "name": name })).await)
    }

    /// A key: its id and its secret.
    pub async fn create_key(&self, tenant: &str, options: KeyOptions) -> (String, String) {
        let mut body = json!({ "name": "a key" });
        if let Some(limit) = options.requests_per_minute {
            body["requests_per_minute"] = limit.into();
        }
        if let Some(models) = options.allowed_models {
            body["allowed_models"] = models.into();
        }
        if let Some((limit, period)) = options.budget {
            body["budget"] = json!({ "limit_usd": limit, "period": period });
        }
        if let Some(instant) = options.expires_at {
            body["expires_at"] = instant.into();
        }
        let created = self.create(&format!("/tenants/{tenant}/keys"), body).await;
        (id_of(&created["key"]), text_of(&created["secret"]))
    }

    /// Promotional credit.
    pub async fn grant(&self, tenant: &str, amount_usd: &str) -> Value {
        let key = uuid::Uuid::now_v7().to_string();
        let body = json!({ "amount_usd": amount_usd, "kind": "promotion", "note": "test" });
        let path = format!("/tenants/{tenant}/grants");
        let (status, answer) = self
            .call_with(Method::POST, &path, Some(body), &[("idempotency-key", &key)])
            .await;
        assert!(status.is_success(), "a grant: {status} {answer}");
        answer
    }

    /// Two providers behind the simulator, a pool and a credential each, an offer each; a tenant with 5 USD and a key.
    pub async fn seed(&self, simulator_url: &str) -> Seeded {
        let base = format!("{simulator_url}/v1");
        let openai = self
            .seed_pool("openai", "openai_chat", &base, "1.7", OPENAI_MODEL)
            .await;
        let anthropic = self
            .seed_pool("anthropic", "anthropic_messages", &base, "1", ANTHROPIC_MODEL)
            .await;
        let tenant = self.create_tenant("tests").await;
        self.grant(&tenant, "5").await;
        let (key_id, key) = self.create_key(&tenant, KeyOptions::default()).await;
        Seeded {
            tenant,
            key_id,
            key,
            openai_provider: openai.provider,
            openai_pool: openai.pool,
            openai_offer: openai.offer,
            openai_credential: openai.credential,
            openai_secret: openai.secret,
            anthropic_pool: anthropic.pool,
            anthropic_secret: anthropic.secret,
        }
    }

    async fn seed_pool(&self, slug: &str, format: &str, base: &str, multiplier: &str, model: &str) -> SeededPool {
        let provider = id_of(
            &self
                .create(
                    "/providers",
                    json!({ "slug": slug, "name": slug, "formats": [format], "base_url": base, "allow_private_address": true }),
                )
                .await,
        );
        let pool = id_of(
            &self
                .create(
                    "/pools",
                    json!({ "provider": provider, "name": format!("{slug}-main"), "multiplier": multiplier }),
                )
                .await,
        );
        let secret = format!("sk-{slug}-{}", uuid::Uuid::now_v7().simple());
        let credential = self.add_credential(&pool, &secret).await;
        let offer = self.create("/offers", json!({ "model": model, "pool": pool })).await;
        SeededPool {
            provider,
            pool,
            offer: id_of(&offer),
            credential,
            secret,
        }
    }

    /// One more credential in a pool.
    pub async fn add_credential(&self, pool: &str, secret: &str) -> String {
        let body = json!({ "name": "a credential", "secret": secret, "basis": "own_contract" });
        id_of(&self.create(&format!("/pools/{pool}/credentials"), body).await)
    }
}

struct SeededPool {
    provider: String,
    pool: String,
    offer: String,
    credential: String,
    secret: String,
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a text: {value}"))
        .to_owned()
}

fn id_of(object: &Value) -> String {
    text_of(&object["id"])
}
