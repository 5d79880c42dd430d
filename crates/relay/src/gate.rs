//! The door of the data plane: counts the requests that are inside, and closes for a drain.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Lets requests in until it is closed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: AtomicBool,
    inside: AtomicUsize,
    empty: Notify,
}

/// A request that is inside. It is outside again when this is dropped.
#[derive(Debug)]
pub struct Pass {
    inner: Arc<Inner>,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a request in; `None` once the gate is closed.
    pub fn enter(&self) -> Option<Pass> {
        // counted before the look at `closed`, so that `drained` never misses a request that got in
        self.inner.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass {
            inner: Arc::clone(&self.inner),
        };
        (!self.inner.closed.load(Ordering::SeqCst)).then_some(pass)
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::SeqCst)
    }

    /// How many requests are inside.
    pub fn open_requests(&self) -> usize {
        self.inner.inside.load(Ordering::SeqCst)
    }

    /// Waits until nobody is inside.
    pub async fn drained(&self) {
        loop {
            let emptied = self.inner.empty.notified();
            if self.open_requests() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.inner.inside.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.inner.empty.notify_waiters();
        }
    }
}
