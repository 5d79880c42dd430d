//! One node: a folder with its configuration and its log, and the process that serves from it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{Backend, Process};

/// A node, and where it is reached. Ends with its owner.
pub struct Node {
    process: Process,
    folder: TempDir,
    environment: Vec<(String, String)>,
    relay_url: String,
    admin_url: String,
}

impl Node {
    /// Starts a node on free ports and waits until it is ready.
    pub async fn start(backend: &Backend, environment: Vec<(String, String)>, more_config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (relay_port, admin_port) = (free_port(), free_port());
        write_config(&folder, backend, relay_port, admin_port, more_config);
        let mut node = Self {
            process: serve(folder.path(), &environment),
            folder,
            environment,
            relay_url: format!("http://127.0.0.1:{relay_port}"),
            admin_url: format!("http://127.0.0.1:{admin_port}"),
        };
        node.wait_ready().await;
        node
    }

    /// Starts it again on the same folder and ports.
    pub async fn restart(&mut self) {
        self.begin_restart();
        self.wait_ready().await;
    }

    /// As [`Node::restart`], without waiting until it serves.
    pub fn begin_restart(&mut self) {
        self.process = serve(self.folder.path(), &self.environment);
    }

    /// Environment for its next start. The last of a name counts.
    pub fn change_environment(&mut self, environment: &[(String, String)]) {
        self.environment.extend_from_slice(environment);
    }

    /// Starts it again on the same folder where it must not start, and answers what it logged since.
    pub fn start_and_fail(&mut self) -> String {
        let logged = self.process.log().len();
        self.process = serve(self.folder.path(), &self.environment);
        let status = self.process.wait(Duration::from_secs(60));
        let log = self.process.log().get(logged..).unwrap_or_default().to_owned();
        assert!(!status.success(), "the node ended well: {log}");
        log
    }

    /// Runs a subcommand with its configuration, and kills it after a while.
    pub fn command_killed_after(&self, arguments: &[&str], after: Duration) {
        let config = config_file(self.folder.path());
        let mut all = arguments.to_vec();
        all.extend(["--config", &config]);
        let mut process = Process::start(&all, &self.environment, self.folder.path().join("killed.log"));
        std::thread::sleep(after);
        process.kill();
    }

    /// Starts it again, and again when it finds no database: as a supervisor does.
    pub async fn supervise(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        self.process = serve(self.folder.path(), &self.environment);
        while !self.is_ready().await {
            assert!(Instant::now() < deadline, "it never serves:\n{}", self.process.log());
            if self.process.has_ended() {
                self.process = serve(self.folder.path(), &self.environment);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let answer = reqwest::get(format!("{}/readyz", self.admin_url)).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Asks it to stop, and waits until it has, with success.
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        let status = self.process.wait(Duration::from_secs(60));
        assert!(
            status.success(),
            "the node stopped with {status}; its log:\n{}",
            self.process.log()
        );
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Where customers call.
    pub fn relay_url(&self) -> &str {
        &self.relay_url
    }

    /// Where operators call.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Its data folder.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs a subcommand with its configuration and environment, changed as given.
    pub fn command_with(&self, arguments: &[&str], environment: &[(String, String)]) -> (ExitStatus, String) {
        let config = config_file(self.folder.path());
        let mut all = arguments.to_vec();
        all.extend(["--config", &config]);
        let mut merged = self.environment.clone();
        merged.extend(environment.iter().cloned());
        Process::run(&all, &merged)
    }

    /// A token made on the command line, beside the running node.
    pub fn operator_token(&self, role: &str) -> String {
        let arguments = ["operator", "token", "create", "--name", "tests", "--role", role];
        let (status, output) = self.command_with(&arguments, &[]);
        assert!(status.success(), "no operator token: {output}");
        output
            .split_whitespace()
            .find(|word| word.starts_with("op-tr-"))
            .unwrap_or_else(|| panic!("no token in: {output}"))
            .to_owned()
    }

    async fn wait_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if self.is_ready().await {
                return;
            }
            let ended = self.process.has_ended();
            assert!(!ended, "the node ended at its start:\n{}", self.process.log());
            assert!(
                Instant::now() < deadline,
                "the node does not become ready:\n{}",
                self.process.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A port that was free a moment ago.
///
/// It is below the range of outgoing connections, and no two tests of a run are given the same one: a port that the
/// system picks may be picked again before the child process has bound it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 9_000;
    let offset = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
    (0..COUNT)
        .map(|_| FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

fn config_file(folder: &Path) -> String {
    let file = folder.join("truerelay.toml");
    file.to_str().expect("a path in UTF-8").to_owned()
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
    std::fs::write(config_file(folder.path()), config).expect("the configuration file");
}

fn serve(folder: &Path, environment: &[(String, String)]) -> Process {
    let config = config_file(folder);
    Process::start(&["serve", "--config", &config], environment, folder.join("node.log"))
}
