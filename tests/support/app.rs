//! The application under test.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use fault_proxy::Proxy;
use serde_json::Value;
use simulator::{Handle, Simulator};

use crate::{
    Admin, Backend, Backup, COMPLETION_CANARY, Client, KeyOptions, LedgerLock, Node, PROMPT_CANARY, Process, Seeded,
    canary::assert_absent,
};

/// The example of RFC 8410, section 10.3.
pub const SIGNING_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

/// What a test may change about the application before it starts.
#[derive(Default)]
pub struct TestAppOptions {
    /// Sections of the configuration file beyond those that the test needs anyway.
    pub config: String,
    /// More environment.
    pub environment: Vec<(String, String)>,
    /// Instead of the run's own.
    pub backend: Option<Backend>,
    /// Whether nodes reach the provider through a fault proxy: [`TestApp::provider_faults`].
    pub provider_proxy: bool,
}

/// One more node of the same relay.
pub struct SecondNode {
    /// Its admin API, with the first node's operator token.
    pub admin: Admin,
    node: Node,
}

impl SecondNode {
    /// A customer of this node.
    pub fn client_with(&self, key: &str) -> Client {
        Client::new(self.node.relay_url().to_owned(), key.to_owned())
    }

    /// Where customers call.
    pub fn relay_url(&self) -> &str {
        self.node.relay_url()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.node.process()
    }

    /// Ends the node at once, as a power cut would.
    pub fn kill(&mut self) {
        self.node.process().kill();
    }

    /// Starts the node again, as often as that takes.
    pub async fn supervise(&mut self) {
        self.node.supervise().await;
    }

    /// Its data folder.
    pub fn data_folder(&self) -> PathBuf {
        self.node.data_folder()
    }

    /// Runs a subcommand of the binary with this node's configuration and environment.
    pub fn command(&self, arguments: &[&str]) -> (std::process::ExitStatus, String) {
        self.node.command_with(arguments, &[])
    }
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
    node: Node,
    _simulator: Simulator,
    provider_proxy: Option<Proxy>,
    environment: Vec<(String, String)>,
    config: String,
    token: String,
    secrets: Vec<String>,
}

impl TestApp {
    /// Starts with the defaults: an OpenAI and an Anthropic pool, a tenant with 5 USD, a key.
    pub async fn start() -> Self {
        Self::start_with(TestAppOptions::default()).await
    }

    /// Starts with changes.
    pub async fn start_with(options: TestAppOptions) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let backend = match options.backend {
            Some(backend) => backend,
            None => Backend::fresh().await,
        };
        let provider = Simulator::start(simulator::Settings::default())
            .await
            .expect("the simulator starts");
        let provider_proxy = if options.provider_proxy {
            Some(start_proxy(provider.base_url()).await)
        } else {
            None
        };
        let provider_url = provider_proxy.as_ref().map_or_else(
            || provider.base_url().to_owned(),
            |proxy| format!("http://{}", proxy.address()),
        );
        let mut environment = vec![
            (
                "TRUERELAY_ENCRYPTION_KEY".to_owned(),
                format!("test:{}", "1b".repeat(32)),
            ),
            ("TRUERELAY_PEPPER".to_owned(), format!("test:{}", "2c".repeat(32))),
            ("TRUERELAY_SIGNING_KEY".to_owned(), SIGNING_KEY.to_owned()),
        ];
        environment.extend(options.environment);
        let node = Node::start(&backend, environment.clone(), &options.config).await;
        let token = node.operator_token("full");
        let admin = Admin::new(node.admin_url().to_owned(), token.clone());
        let seeded = admin.seed(&provider_url).await;
        let secrets = vec![
            token.clone(),
            seeded.key.clone(),
            seeded.openai_secret.clone(),
            seeded.anthropic_secret.clone(),
            "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC".to_owned(),
        ];
        let app = Self {
            simulator: provider.control(),
            admin,
            seeded,
            backend,
            node,
            _simulator: provider,
            provider_proxy,
            environment,
            config: options.config,
            token,
            secrets,
        };
        app.wait_for_sale().await;
        app
    }

    /// The faults between the node and the provider. Only with [`TestAppOptions::provider_proxy`].
    pub fn provider_faults(&self) -> fault_proxy::Handle {
        self.provider_proxy
            .as_ref()
            .expect("the test asked for a proxy")
            .handle()
    }

    /// A customer with the seeded key.
    pub fn client(&self) -> Client {
        Client::new(self.relay_url().to_owned(), self.seeded.key.clone())
    }

    /// A customer with another key.
    pub fn client_with(&self, key: &str) -> Client {
        Client::new(self.relay_url().to_owned(), key.to_owned())
    }

    /// Where customers call.
    pub fn relay_url(&self) -> &str {
        self.node.relay_url()
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
        self.node.process()
    }

    /// The node's data folder.
    pub fn data_folder(&self) -> PathBuf {
        self.node.data_folder()
    }

    /// Ends the node at once, as a power cut would.
    pub fn kill(&mut self) {
        self.node.process().kill();
    }

    /// Starts the node again on the same folder and ports.
    pub async fn restart(&mut self) {
        self.node.restart().await;
    }

    /// As [`TestApp::restart`], with more environment from here on, which goes before what was there.
    pub async fn restart_with(&mut self, environment: &[(String, String)]) {
        self.node.change_environment(environment);
        self.node.restart().await;
    }

    /// As [`TestApp::restart`], without waiting until it serves.
    pub fn begin_restart(&mut self) {
        self.node.begin_restart();
    }

    /// A backup of the database, made beside the running node.
    pub async fn backup(&self) -> Backup {
        self.backend.back_up(&self.data_folder()).await
    }

    /// Puts a backup in place of the database of a node that has stopped.
    pub fn restore(&self, backup: &Backup) {
        self.backend.restore(&self.data_folder(), backup);
    }

    /// Starts the node again where it must refuse to start, and answers what it logged.
    pub fn start_and_fail(&mut self) -> String {
        self.node.start_and_fail()
    }

    /// Runs a subcommand and kills it after a while, if it has not ended by then.
    pub fn command_killed_after(&self, arguments: &[&str], after: Duration) {
        self.node.command_killed_after(arguments, after);
    }

    /// Starts the node again, as often as that takes.
    pub async fn supervise(&mut self) {
        self.node.supervise().await;
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
        self.node.command_with(arguments, environment)
    }

    /// Starts one more node on the same database and Redis. Only where [`Backend::is_shared`].
    pub async fn start_second_node(&self) -> SecondNode {
        self.start_node_on(&self.backend, Vec::new()).await
    }

    /// As [`TestApp::start_second_node`], where the node reaches the database in another way or has more environment.
    pub async fn start_node_on(&self, backend: &Backend, more: Vec<(String, String)>) -> SecondNode {
        assert!(backend.is_shared(), "the embedded default has one node");
        let environment = [self.environment.clone(), more].concat();
        let node = Node::start(backend, environment, &self.config).await;
        SecondNode {
            admin: Admin::new(node.admin_url().to_owned(), self.token.clone()),
            node,
        }
    }

    /// Stops the second node and asserts that it leaked nothing.
    pub async fn finish_second_node(&self, mut second: SecondNode) {
        let metrics = second.admin.metrics().await;
        second.node.stop();
        let needles = self.needles();
        assert_absent("the second node's log", &second.node.log(), &needles);
        assert_absent("the second node's metrics", &metrics, &needles);
    }

    /// Runs a statement on the database, beside the product.
    pub async fn execute(&self, sql: &'static str) {
        self.try_execute(sql).await.expect("the statement runs");
    }

    /// As [`TestApp::execute`], with what the database says when it refuses.
    pub async fn try_execute(&self, sql: &'static str) -> Result<(), String> {
        self.backend.execute(&self.data_folder(), sql).await
    }

    /// Asserts that the books keep every invariant, and that the transparency log agrees with them.
    pub fn assert_books_are_clean(&self) {
        let (status, report) = self.command(&["ledger", "verify"]);
        assert!(status.success(), "the books are not clean:\n{report}");
        let (status, report) = self.command(&["ledger", "verify", "--log"]);
        assert!(status.success(), "the log does not agree with the books:\n{report}");
    }

    /// Waits until the number of open holds is as expected.
    pub async fn wait_for_holds(&self, expected: i64) {
        self.wait_for_number("SELECT COUNT(*) FROM hold", expected).await;
    }

    /// Waits until a query answers as expected.
    pub async fn wait_for_number(&self, sql: &'static str, expected: i64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let number = self.number(sql).await;
            if number == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{sql}: {number}, not {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the metrics have a line that begins so.
    pub async fn wait_for_metric(&self, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let metrics = self.admin.metrics().await;
            if metrics.lines().any(|found| found.starts_with(line)) {
                return;
            }
            assert!(Instant::now() < deadline, "no {line} in:\n{metrics}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Keeps the ledger's writer waiting until the guard is released. Keep it short: waits have limits.
    pub async fn lock_ledger(&self) -> LedgerLock {
        self.backend.lock_ledger(&self.data_folder()).await
    }

    /// The end of a test: stops the node and asserts that the world is clean.
    pub async fn finish(mut self) {
        let metrics = self.admin.metrics().await;
        self.node.stop();
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
        let needles = self.needles();
        assert_absent("the log", &self.node.log(), &needles);
        assert_absent("the metrics", metrics, &needles);
        assert_absent("the database", &self.backend.dump(&self.data_folder()).await, &needles);
    }

    /// What must be found nowhere.
    fn needles(&self) -> Vec<String> {
        let mut needles = vec![PROMPT_CANARY.to_owned(), COMPLETION_CANARY.to_owned()];
        needles.extend(self.secrets.iter().cloned());
        needles
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

/// A proxy before the server of this address.
async fn start_proxy(url: &str) -> Proxy {
    let server = url.strip_prefix("http://").and_then(|address| address.parse().ok());
    Proxy::start(0, server.expect("an address on loopback"))
        .await
        .expect("the proxy starts")
}
