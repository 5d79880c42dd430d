//! The application under test.

use std::{
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;
use simulator::{Handle, Simulator};
use tempfile::TempDir;

use crate::{
    Admin, Backend, COMPLETION_CANARY, Client, KeyOptions, PROMPT_CANARY, Process, Seeded, canary::assert_absent,
};

/// What a test may change about the application before it starts.
#[derive(Default)]
pub struct TestAppOptions {
    /// Sections of the configuration file beyond those that the test needs anyway.
    pub config: String,
    /// More environment.
    pub environment: Vec<(String, String)>,
}

/// A running node with a simulated provider.
pub struct TestApp {
    /// Scripts and observes the provider.
    pub simulator: Handle,
    /// The operator's side.
    pub admin: Admin,
    /// What was set up.
    pub seeded: Seeded,
    /// The database and limiter.
    pub backend: Backend,
    process: Process,
    _simulator: Simulator,
    folder: TempDir,
    relay_url: String,
    environment: Vec<(String, String)>,
    secrets: Vec<String>,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

impl TestApp {
    /// Starts with the defaults: an OpenAI and an Anthropic pool, a tenant with 5 USD, a key.
    pub async fn start() -> Self {
        Self::start_with(TestAppOptions::default()).await
    }

    /// Starts with changes.
    pub async fn start_with(options: TestAppOptions) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let backend = Backend::fresh().await;
        let provider = Simulator::start(simulator::Settings::default())
            .await
            .expect("the simulator starts");
        let folder = tempfile::tempdir().expect("a folder");
        let mut environment = vec![
            (
                "TRUERELAY_ENCRYPTION_KEY".to_owned(),
                format!("test:{}", "1b".repeat(32)),
            ),
            ("TRUERELAY_PEPPER".to_owned(), format!("test:{}", "2c".repeat(32))),
        ];
        environment.extend(options.environment);
        let (relay_port, admin_port) = (free_port(), free_port());
        write_config(&folder, &backend, relay_port, admin_port, &options.config);
        let process = start_node(&folder, &environment);
        let relay_url = format!("http://127.0.0.1:{relay_port}");
        let admin_url = format!("http://127.0.0.1:{admin_port}");
        let mut app_process = process;
        wait_ready(&admin_url, &mut app_process).await;
        let token = operator_token(&folder, &environment, "full");
        let admin = Admin::new(admin_url, token.clone());
        let seeded = admin.seed(provider.base_url()).await;
        let secrets = vec![
            token,
            seeded.key.clone(),
            seeded.openai_secret.clone(),
            seeded.anthropic_secret.clone(),
        ];
        let app = Self {
            simulator: provider.control(),
            admin,
            seeded,
            backend,
            process: app_process,
            _simulator: provider,
            folder,
            relay_url,
            environment,
            secrets,
        };
        app.wait_for_sale().await;
        app
    }

    /// A customer with the seeded key.
    pub fn client(&self) -> Client {
        Client::new(self.relay_url.clone(), self.seeded.key.clone())
    }

    /// A customer with another key.
    pub fn client_with(&self, key: &str) -> Client {
        Client::new(self.relay_url.clone(), key.to_owned())
    }

    /// Where customers call.
    pub fn relay_url(&self) -> &str {
        &self.relay_url
    }

    /// A new tenant with so much promotional credit, and a key of it.
    pub async fn tenant_with(&mut self, credit_usd: &str, options: KeyOptions) -> (String, String) {
        let tenant = self.admin.create_tenant("another").await;
        if credit_usd != "0" {
            self.admin.grant(&tenant, credit_usd).await;
        }
        let key = self.key_of(&tenant, options).await.1;
        (tenant, key)
    }

    /// A new key of a tenant: its id and its secret.
    pub async fn key_of(&mut self, tenant: &str, options: KeyOptions) -> (String, String) {
        let (id, key) = self.admin.create_key(tenant, options).await;
        self.secrets.push(key.clone());
        (id, key)
    }

    /// Remembers another secret that must be found nowhere.
    pub fn must_not_leak(&mut self, secret: String) {
        self.secrets.push(secret);
    }

    /// The node's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The node's data folder.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends the node at once, as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the node again on the same folder and ports.
    pub async fn restart(&mut self) {
        self.process = start_node(&self.folder, &self.environment);
        wait_ready(self.admin.url(), &mut self.process).await;
    }

    /// One number out of the database.
    pub async fn number(&self, sql: &'static str) -> i64 {
        self.backend.number(&self.data_folder(), sql).await
    }

    /// Waits until the request is closed, and answers what it cost and why.
    pub async fn closed(&self, request_id: &str) -> Value {
        self.client().closed_request(request_id).await
    }

    /// Runs a subcommand of the binary with this node's configuration.
    pub fn command(&self, arguments: &[&str]) -> (std::process::ExitStatus, String) {
        self.command_with(arguments, &[])
    }

    /// As [`TestApp::command`], with other environment.
    pub fn command_with(
        &self,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> (std::process::ExitStatus, String) {
        let config = self.folder.path().join("truerelay.toml");
        let config = config.to_str().expect("a path in UTF-8").to_owned();
        let mut all = arguments.to_vec();
        all.extend(["--config", &config]);
        let mut merged = self.environment.clone();
        merged.extend(environment.iter().cloned());
        Process::run(&all, &merged)
    }

    /// Runs a statement on the database, beside the product.
    pub async fn execute(&self, sql: &'static str) {
        self.try_execute(sql).await.expect("the statement runs");
    }

    /// As [`TestApp::execute`], with what the database says when it refuses.
    pub async fn try_execute(&self, sql: &'static str) -> Result<(), String> {
        self.backend.execute(&self.data_folder(), sql).await
    }

    /// Asserts that the books keep every invariant.
    pub fn assert_books_are_clean(&self) {
        let (status, report) = self.command(&["ledger", "verify"]);
        assert!(status.success(), "the books are not clean:\n{report}");
    }

    /// Waits until the number of open holds is as expected.
    pub async fn wait_for_holds(&self, expected: i64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.number("SELECT COUNT(*) FROM hold").await != expected {
            assert!(Instant::now() < deadline, "there are not {expected} open holds");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of a test: stops the node and asserts that the world is clean.
    pub async fn finish(mut self) {
        let metrics = self.admin.metrics().await;
        self.process.signal("TERM");
        let status = self.process.wait(Duration::from_secs(60));
        assert!(
            status.success(),
            "the node stopped with {status}; its log:\n{}",
            self.process.log()
        );
        self.assert_clean_after_stop(&metrics).await;
    }

    /// Asserts about a node that has stopped: no open hold, clean books, no leak.
    pub async fn assert_clean_after_stop(&self, metrics: &str) {
        assert_eq!(
            self.number("SELECT COUNT(*) FROM hold").await,
            0,
            "no hold is left open"
        );
        self.assert_books_are_clean();
        let mut needles = vec![PROMPT_CANARY.to_owned(), COMPLETION_CANARY.to_owned()];
        needles.extend(self.secrets.iter().cloned());
        assert_absent("the log", &self.process.log(), &needles);
        assert_absent("the metrics", metrics, &needles);
        assert_absent("the database", &self.backend.dump(&self.data_folder()).await, &needles);
    }

    /// A price is published a few seconds before its instant; a first price may be in force at once.
    async fn wait_for_sale(&self) {
        let client = self.client();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let models = client.get("/v1/models").await.json().await;
            let for_sale = |id: &str| {
                models["data"]
                    .as_array()
                    .is_some_and(|models| models.iter().any(|model| model["id"] == id))
            };
            if for_sale(crate::admin::OPENAI_MODEL) && for_sale(crate::admin::ANTHROPIC_MODEL) {
                return;
            }
            assert!(Instant::now() < deadline, "the models are not for sale: {models}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn write_config(folder: &TempDir, backend: &Backend, relay_port: u16, admin_port: u16, more: &str) {
    let data = folder.path().join("data");
    let mut config = format!(
        "[data]\nfolder = \"{}\"\n\n[server]\nlisten = \"127.0.0.1:{relay_port}\"\nworkers = 2\ndrain_timeout_s = 20\n\n\
         [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\n",
        data.display()
    );
    config.push_str(&backend.config());
    config.push_str(more);
    std::fs::write(folder.path().join("truerelay.toml"), config).expect("the configuration file");
}

fn start_node(folder: &TempDir, environment: &[(String, String)]) -> Process {
    let config = folder.path().join("truerelay.toml");
    let config = config.to_str().expect("a path in UTF-8").to_owned();
    Process::start(
        &["serve", "--config", &config],
        environment,
        folder.path().join("node.log"),
    )
}

async fn wait_ready(admin_url: &str, process: &mut Process) {
    let http = reqwest::Client::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(response) = http.get(format!("{admin_url}/readyz")).send().await
            && response.status().is_success()
        {
            return;
        }
        assert!(!process.has_ended(), "the node ended at its start:\n{}", process.log());
        assert!(
            Instant::now() < deadline,
            "the node does not become ready:\n{}",
            process.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A token made on the command line, beside the running node.
fn operator_token(folder: &TempDir, environment: &[(String, String)], role: &str) -> String {
    let config = folder.path().join("truerelay.toml");
    let config = config.to_str().expect("a path in UTF-8").to_owned();
    let arguments = [
        "operator", "token", "create", "--name", "tests", "--role", role, "--config", &config,
    ];
    let (status, output) = Process::run(&arguments, environment);
    assert!(status.success(), "no operator token: {output}");
    output
        .split_whitespace()
        .find(|word| word.starts_with("op-tr-"))
        .unwrap_or_else(|| panic!("no token in: {output}"))
        .to_owned()
}
