//! One connection of a client: its two lanes, and how both sockets end.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{Either, select};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use crate::{
    faults::CutKind,
    lane::{Direction, Ended, LaneState},
    proxy::{Counts, InForce, Order},
};

/// How long a broken connection takes what its peers still send: closing a socket with unread bytes would reset it.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection lives with.
pub(crate) struct Surroundings {
    pub(crate) number: u64,
    pub(crate) server: SocketAddr,
    pub(crate) changes: watch::Receiver<Arc<InForce>>,
    pub(crate) orders: watch::Receiver<Order>,
    pub(crate) counts: watch::Sender<Counts>,
}

/// Serves one client until either side ends or a fault does. A server that cannot be reached resets the client.
pub(crate) async fn serve(mut client: TcpStream, mut around: Surroundings) {
    let Ok(mut server) = TcpStream::connect(around.server).await else {
        reset(&client);
        return;
    };
    // an answer must not wait for a full packet in here
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let ended = {
        let lane = |direction| LaneState::new(direction, around.number, around.changes.clone(), around.counts.clone());
        let (to_client, to_server) = (lane(Direction::ToClient), lane(Direction::ToServer));
        let (from_client, into_client) = client.split();
        let (from_server, into_server) = server.split();
        let down = pin!(to_client.run(from_server, into_client));
        let up = pin!(to_server.run(from_client, into_server));
        tokio::select! {
            ended = both(down, up) => ended,
            how = ordered(&mut around.orders) => Ended::Broken(how),
        }
    };
    let Ended::Broken(how) = ended else { return };
    around.counts.send_modify(|counts| counts.broken += 1);
    match how {
        CutKind::Rst => {
            reset(&client);
            reset(&server);
        }
        CutKind::Fin => {
            // whoever has left already needs no end
            tokio::join!(end_in_order(&mut client), end_in_order(&mut server));
        }
    }
}

/// Both lanes have ended in order, or one of them broke.
async fn both<L: Future<Output = Ended>>(down: Pin<&mut L>, up: Pin<&mut impl Future<Output = Ended>>) -> Ended {
    match select(down, up).await {
        Either::Left((Ended::InOrder, up)) => up.await,
        Either::Right((Ended::InOrder, down)) => down.await,
        Either::Left((broken, _)) | Either::Right((broken, _)) => broken,
    }
}

/// Waits for the order to break what is open.
async fn ordered(orders: &mut watch::Receiver<Order>) -> CutKind {
    if orders.changed().await.is_err() {
        // no more orders will come
        std::future::pending::<()>().await;
    }
    orders.borrow_and_update().how
}

/// When it is closed, the peer sees a reset.
fn reset(socket: &TcpStream) {
    // a closed socket is what was asked for: nothing is left to do about a failure
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).ok();
}

async fn end_in_order(socket: &mut TcpStream) {
    if socket.shutdown().await.is_err() {
        return;
    }
    let mut unread = [0_u8; 4096];
    let drained = async { while matches!(socket.read(&mut unread).await, Ok(1..)) {} };
    // a peer that does not close in time is closed
    tokio::time::timeout(LINGER, drained).await.ok();
}
