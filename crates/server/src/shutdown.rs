//! How a node ends. The order matters: connections to clients and providers live on the web workers, and every hold
//! must have ended before the ledger does, so the workers stop after the requests, and the database after everything.

use std::time::Duration;

use anyhow::{anyhow, bail};
use ledger::WriterEnd;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinHandle},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{config::ServerSection, listeners::Listener, wiring::Node};

/// How long the ledger has to confirm the last ends. Its database may be away.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same when somebody wants the process gone. What is then open is closed at the next start.
const LEDGER_TIMEOUT_WHEN_CUT: Duration = Duration::from_secs(5);
/// How long the archive has to write what was handed to it last.
const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a drain says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A node that serves.
pub struct Running {
    /// Its parts.
    pub node: Node,
    /// The customers' listener.
    pub relay: Listener,
    /// The operators' listener.
    pub admin: Listener,
    /// The ledger's writer.
    pub writer: JoinHandle<WriterEnd>,
    /// Requests to stop.
    pub signals: StopSignals,
}

/// SIGTERM and SIGINT, which mean the same.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on the signals are ours.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// For the last head of the transparency log.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// How the wait for open requests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    Completely,
    /// Time was up, or a second signal came.
    Cut,
}

impl Running {
    /// Serves until a signal comes, then lets requests end and stops.
    ///
    /// # Errors
    /// When the ledger's writer or a listener ended by itself, or requests had to be cut off.
    pub async fn until_stopped(mut self, settings: &ServerSection) -> anyhow::Result<()> {
        tokio::select! {
            () = self.signals.next() => {}
            end = &mut self.writer => return Err(writer_ended(end)),
            error = self.relay.ended() => return Err(error),
            error = self.admin.ended() => return Err(error),
        }
        tracing::info!(
            open_requests = self.node.gate.open_requests(),
            "stopping: a second signal stops at once"
        );
        self.node.readiness.start_draining();
        let node = self.node.clone();
        let drained = tokio::select! {
            drained = drain(&node, settings) => drained,
            () = self.signals.next() => Drained::Cut,
            end = &mut self.writer => return Err(writer_ended(end)),
        };
        self.finish(drained).await
    }

    async fn finish(self, drained: Drained) -> anyhow::Result<()> {
        let node = &self.node;
        node.gate.close();
        let cut_off = node.gate.open_requests();
        if drained == Drained::Cut {
            // their handlers are dropped, and each hold with them
            self.relay.stop(false).await;
        }
        let limit = if drained == Drained::Cut {
            LEDGER_TIMEOUT_WHEN_CUT
        } else {
            LEDGER_TIMEOUT
        };
        let durable = timeout(limit, node.ledger.drain()).await.is_ok();
        self.relay.stop(true).await;
        self.admin.stop(true).await;
        // a writer that died has dropped its queue, which then looks as if everything in it were durable
        if self.writer.is_finished() {
            return Err(writer_ended(self.writer.await));
        }
        // every movement and every batch is committed by now: the log is brought up to them
        if timeout(LOG_TIMEOUT, node.log.finish()).await.is_err() {
            tracing::warn!("the transparency log was not brought up to date: the next start does that");
        }
        // and the rest of the archive is written
        let archive = node.archive.clone();
        if timeout(ARCHIVE_TIMEOUT, tokio::task::spawn_blocking(move || archive.close()))
            .await
            .is_err()
        {
            tracing::warn!("the end of the ledger's archive could not be written in time");
        }
        node.database.close().await;
        if !durable {
            bail!("the ledger could not confirm the end of every request: what is open is closed at the next start");
        }
        if drained == Drained::Cut {
            bail!("stopped with {cut_off} requests under way, which were cut off");
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Waits for everything under way, as long as the settings allow.
async fn drain(node: &Node, settings: &ServerSection) -> Drained {
    let deadline = Instant::now() + Duration::from_secs(settings.drain_timeout_s);
    sleep(Duration::from_secs(settings.drain_delay_s)).await;
    node.gate.close();
    let ended = async {
        node.gate.drained().await;
        node.background.finished().await;
    };
    let report = async {
        loop {
            sleep(REPORT_EVERY).await;
            tracing::info!(open_requests = node.gate.open_requests(), "waiting for requests to end");
        }
    };
    let waited = timeout_at(deadline, async {
        tokio::select! {
            () = ended => {}
            () = report => {}
        }
    });
    if waited.await.is_ok() {
        Drained::Completely
    } else {
        Drained::Cut
    }
}

/// Nothing else may write charges, so without its writer a node must not go on.
fn writer_ended(end: Result<WriterEnd, JoinError>) -> anyhow::Error {
    match end {
        Ok(end) => anyhow!(end).context("the ledger's writer has ended"),
        Err(error) if error.is_panic() => anyhow!("the ledger's writer has panicked"),
        Err(_) => anyhow!("the ledger's writer was stopped"),
    }
}
