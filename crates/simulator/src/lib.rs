//! A provider that is not one: it speaks OpenAI Chat Completions and Anthropic Messages over real HTTP on loopback,
//! generates deterministic answers, counts what it generated, and fails in every way that a script asks for.
//!
//! Owns: the generated text, the script, the log of what it was asked. Must not: be reachable from another machine, know
//! anything about the relay, or keep a credential (the log has its last eight characters).

mod anthropic;
mod control;
mod openai;
mod output;
mod plan;
mod refusal;
mod script;
mod service;
mod state;
mod text;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, dev::ServerHandle, rt::net::TcpStream, web};
use socket2::SockRef;

pub use script::{
    Answer, Chunking, Cut, CutKind, CutPoint, Drip, ErrorEvent, Faults, Fixed, Generate, Hold, Match, Rule, UsageReport,
};
pub use state::{Counts, LogEntry, Outcome};

use crate::{service::Connection, state::State};

/// How a simulator starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Threads that answer.
    pub workers: usize,
    /// The only credential that is accepted; without it, any that is not empty.
    pub required_key: Option<String>,
    /// The wait before each generated token, unless a rule says otherwise.
    pub token_delay_ms: u64,
    /// How many requests the log keeps.
    pub keep_log_entries: usize,
    /// Whether the log keeps request bodies.
    pub record_bodies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            workers: 1,
            required_key: None,
            token_delay_ms: 0,
            keep_log_entries: 10_000,
            record_bodies: true,
        }
    }
}

/// Why the simulator did not start, or refused a rule.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The port is taken or forbidden. Choose another one, or 0.
    #[error("the simulator cannot listen on 127.0.0.1:{port}: {source}; choose another port")]
    Bind {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The rule cannot be played. The text says what to change.
    #[error("the rule cannot be played: {0}")]
    InvalidRule(String),
}

/// A running simulator. Dropping it stops it.
pub struct Simulator {
    base_url: String,
    control: Handle,
    server: ServerHandle,
}

impl Simulator {
    /// Starts on loopback. Call it within a tokio runtime, which must live as long as the simulator.
    pub async fn start(settings: Settings) -> Result<Self, SimulatorError> {
        let port = settings.port;
        let state = Arc::new(State::new(settings.keep_log_entries));
        let workers = settings.workers.max(1);
        let (app_state, app_settings) = (web::Data::from(Arc::clone(&state)), web::Data::new(settings));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(app_state.clone())
                .app_data(app_settings.clone())
                .app_data(web::PayloadConfig::new(256 * 1024 * 1024))
                .configure(control::configure)
                .default_service(web::to(service::provide))
        })
        .workers(workers)
        .disable_signals()
        .keep_alive(Duration::from_secs(75))
        // as providers do, it has nothing to say on a connection that was opened ahead and has asked nothing yet
        .client_request_timeout(Duration::from_secs(75))
        .shutdown_timeout(1)
        .tcp_nodelay(true)
        // A client that has left is noticed at once, not at the next write.
        .h1_allow_half_closed(false)
        .on_connect(|stream, data| {
            let socket = stream
                .downcast_ref::<TcpStream>()
                .and_then(|stream| SockRef::from(stream).try_clone().ok());
            if let Some(socket) = socket {
                data.insert(Arc::new(Connection(socket)));
            }
        })
        .bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|source| SimulatorError::Bind { port, source })?;
        let bound = server.addrs().first().map_or(port, std::net::SocketAddr::port);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self {
            base_url: format!("http://127.0.0.1:{bound}"),
            control: Handle { state },
            server: handle,
        })
    }

    /// Where it listens, such as `http://127.0.0.1:4010`; the dialects are below `/v1`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The handle to script and to observe it.
    pub fn control(&self) -> Handle {
        self.control.clone()
    }

    /// Stops it; open connections are closed.
    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // The command is sent by the call itself; the future only waits for its end.
        drop(self.server.stop(false));
    }
}

/// Scripts and observes a running simulator. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    state: Arc<State>,
}

impl Handle {
    /// Adds a rule behind those that are there.
    pub fn script(&self, rule: Rule) -> Result<(), SimulatorError> {
        control::check_rule(&rule).map_err(SimulatorError::InvalidRule)?;
        self.state.add_rule(rule);
        Ok(())
    }

    /// Opens a gate: what waits for it goes on, and what comes to it later passes.
    pub fn release(&self, gate: &str) {
        self.state.release(gate);
    }

    /// Every request that is remembered, oldest first.
    pub fn log(&self) -> Vec<LogEntry> {
        self.state.entries()
    }

    /// The totals.
    pub fn counts(&self) -> Counts {
        self.state.counts()
    }

    /// Forgets script, gates, log and totals.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Waits until the log satisfies the condition; bound it by a time limit of your own.
    pub async fn wait_until(&self, mut condition: impl FnMut(&[LogEntry]) -> bool) -> Vec<LogEntry> {
        let mut changes = self.state.changes();
        loop {
            changes.mark_unchanged();
            let log = self.state.entries();
            if condition(&log) {
                return log;
            }
            // The sender lives in the state that this handle holds: waiting cannot fail.
            changes.changed().await.ok();
        }
    }
}
