//! A running proxy: its listener, its open connections, and the handle that changes its faults.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::{
    connection::{Surroundings, serve},
    control,
    faults::{CutKind, Faults},
    lane::Direction,
};

const BACKLOG: i32 = 1024;

/// Why a proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The port is taken or forbidden. Choose another one, or 0.
    #[error("the fault proxy cannot listen on {address}: {source}; choose another port")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that did not end in order: cut, broken by order, or reset by a peer.
    pub broken: u64,
    /// Bytes passed to clients.
    pub bytes_to_client: u64,
    /// Bytes passed to the server.
    pub bytes_to_server: u64,
}

/// The faults in force.
pub(crate) struct InForce {
    pub(crate) number: u64,
    pub(crate) faults: Faults,
    cuts_to_client: AtomicU64,
    cuts_to_server: AtomicU64,
}

impl InForce {
    fn new(number: u64, faults: Faults) -> Self {
        let cuts = |lane: &crate::Lane| {
            let times = lane.cut.as_ref().and_then(|cut| cut.times);
            AtomicU64::new(times.map_or(u64::MAX, u64::from))
        };
        Self {
            number,
            cuts_to_client: cuts(&faults.to_client),
            cuts_to_server: cuts(&faults.to_server),
            faults,
        }
    }

    /// Whether one more connection is cut.
    pub(crate) fn take_cut(&self, direction: Direction) -> bool {
        let left = match direction {
            Direction::ToClient => &self.cuts_to_client,
            Direction::ToServer => &self.cuts_to_server,
        };
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

/// To break everything that is open.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Order {
    pub(crate) how: CutKind,
}

/// Changes the faults of a running proxy and reads its counts. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    faults: watch::Sender<Arc<InForce>>,
    orders: watch::Sender<Order>,
    counts: watch::Sender<Counts>,
}

impl Handle {
    /// Puts these faults in place of all others.
    pub fn set(&self, faults: Faults) {
        self.faults.send_modify(|in_force| {
            *in_force = Arc::new(InForce::new(in_force.number.wrapping_add(1), faults));
        });
    }

    /// Changes the faults in force.
    pub fn change(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults();
        change(&mut faults);
        self.set(faults);
    }

    /// Takes all faults back. What was broken stays so.
    pub fn heal(&self) {
        self.set(Faults::default());
    }

    /// Nothing passes in either direction until [`Handle::heal`]: accepted, and then silence.
    pub fn blackhole(&self) {
        self.change(|faults| {
            faults.to_client.stalled = true;
            faults.to_server.stalled = true;
        });
    }

    /// Breaks every connection that is open now.
    pub fn break_open(&self, how: CutKind) {
        self.orders.send_replace(Order { how });
    }

    /// The faults in force.
    pub fn faults(&self) -> Faults {
        self.faults.borrow().faults.clone()
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counts satisfy the condition; bound it by a time limit of your own.
    pub async fn wait_until(&self, mut condition: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.counts.subscribe();
        // the sender lives in this handle: waiting cannot fail
        counts.wait_for(|counts| condition(counts)).await.ok();
        self.counts()
    }
}

/// A running proxy. Dropping it closes its listener and its connections.
pub struct Proxy {
    address: SocketAddr,
    handle: Handle,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on 127.0.0.1 (port 0 takes a free one) and passes every connection on to `server`. Call it within a
    /// tokio runtime, which must live as long as the proxy.
    ///
    /// # Errors
    /// [`ProxyError::Bind`] when the port is not to be had.
    pub async fn start(port: u16, server: SocketAddr) -> Result<Self, ProxyError> {
        let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let failed = |source| ProxyError::Bind { address: asked, source };
        let listener = listen(reserve(asked).map_err(failed)?).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let handle = Handle {
            faults: watch::Sender::new(Arc::new(InForce::new(0, Faults::default()))),
            orders: watch::Sender::default(),
            counts: watch::Sender::default(),
        };
        let accepting = accept_all(listener, address, server, handle.clone());
        Ok(Self {
            address,
            task: tokio::spawn(accepting).abort_handle(),
            handle,
        })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The handle to its faults and counts.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Opens a control port on 127.0.0.1 (0 takes a free one) for scripts; answers where it listens. It lives as long as
    /// the runtime.
    ///
    /// # Errors
    /// [`ProxyError::Bind`] when the port is not to be had.
    pub async fn start_control(&self, port: u16) -> Result<SocketAddr, ProxyError> {
        control::start(self.handle(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_all(listener: TcpListener, address: SocketAddr, server: SocketAddr, handle: Handle) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut changes = handle.faults.subscribe();
    let mut number = 0;
    loop {
        let refuse = changes.borrow_and_update().faults.refuse;
        if refuse {
            // a port that is bound and not listened on refuses, and nobody else can take it
            drop(listener.take());
            let reserved = reserve(address);
            while changes.borrow_and_update().faults.refuse {
                if changes.changed().await.is_err() {
                    return;
                }
            }
            listener = reserved.and_then(listen).ok();
        }
        let Some(listening) = &listener else { return };
        tokio::select! {
            accepted = listening.accept() => if let Ok((client, _)) = accepted {
                number += 1;
                connections.spawn(counted(client, number, server, handle.clone()));
            },
            changed = changes.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn counted(client: TcpStream, number: u64, server: SocketAddr, handle: Handle) {
    let around = Surroundings {
        number,
        server,
        changes: handle.faults.subscribe(),
        orders: handle.orders.subscribe(),
        counts: handle.counts.clone(),
    };
    handle.counts.send_modify(|counts| {
        counts.accepted += 1;
        counts.open += 1;
    });
    serve(client, around).await;
    handle.counts.send_modify(|counts| counts.open -= 1);
}

fn reserve(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> std::io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
