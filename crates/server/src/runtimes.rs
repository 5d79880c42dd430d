//! The threads that are not web workers: a runtime for money and one for work that outlives its request. Tasks of a
//! web worker die with the worker, and a handler that is stuck must not hold up the ledger.

use anyhow::Context;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinError,
};

/// One writer, one batch in flight: a second thread would only be woken in vain.
const MONEY_THREADS: usize = 1;
const BACKGROUND_THREADS: usize = 2;

/// The runtimes that the server owns beside the web workers. Made and stopped outside of any runtime.
pub struct Runtimes {
    money: Runtime,
    background: Runtime,
}

/// Where to start tasks.
#[derive(Debug, Clone)]
pub struct RuntimeHandles {
    /// The ledger's writer and its database connection.
    pub money: Handle,
    /// What outlives its request, and what watches the database.
    pub background: Handle,
}

impl Runtimes {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start() -> anyhow::Result<Self> {
        let start = |name: &str, threads| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                .enable_all()
                .build()
                .with_context(|| format!("cannot start the threads `{name}`"))
        };
        Ok(Self {
            money: start("money", MONEY_THREADS)?,
            background: start("background", BACKGROUND_THREADS)?,
        })
    }

    /// Where to start tasks.
    pub fn handles(&self) -> RuntimeHandles {
        RuntimeHandles {
            money: self.money.handle().clone(),
            background: self.background.handle().clone(),
        }
    }

    /// Ends the threads without waiting for what they do.
    pub fn stop(self) {
        self.background.shutdown_background();
        self.money.shutdown_background();
    }
}

/// Runs a future on another runtime, so that what it opens lives there.
///
/// # Errors
/// When the future panicked or its runtime has ended.
pub async fn run_on<T: Send + 'static>(
    runtime: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    runtime.spawn(future).await
}
