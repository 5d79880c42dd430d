//! A tiny server that hands its connections to the test, and a proxy before it.

use std::{io::ErrorKind, time::Duration};

use fault_proxy::{Faults, Handle, Lane, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Longer than anything takes; whoever waits so long waits for ever.
const FOR_EVER: Duration = Duration::from_secs(20);
/// Long enough for bytes on loopback to arrive if they are let through.
const A_MOMENT: Duration = Duration::from_millis(200);

pub struct World {
    pub server: TcpListener,
    pub proxy: Proxy,
    pub faults: Handle,
}

/// How a side saw the end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

impl World {
    pub async fn start() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(0, server.local_addr().unwrap()).await.unwrap();
        Self {
            server,
            faults: proxy.handle(),
            proxy,
        }
    }

    pub async fn with(faults: Faults) -> Self {
        let world = Self::start().await;
        world.faults.set(faults);
        world
    }

    /// A new connection: the client's socket and the server's.
    pub async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.try_connect().await.unwrap();
        let (server, _) = timeout(FOR_EVER, self.server.accept()).await.unwrap().unwrap();
        (client, server)
    }

    pub async fn try_connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.proxy.address()).await
    }
}

pub fn to_client(lane: Lane) -> Faults {
    Faults {
        to_client: lane,
        ..Faults::default()
    }
}

pub fn to_server(lane: Lane) -> Faults {
    Faults {
        to_server: lane,
        ..Faults::default()
    }
}

/// Writes; a socket that is broken already takes nothing.
pub async fn say(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.ok();
}

/// Everything up to the end, and how it ended.
pub async fn hear_all(socket: &mut TcpStream) -> (String, End) {
    let mut heard = Vec::new();
    let end = timeout(FOR_EVER, socket.read_to_end(&mut heard)).await.expect("an end");
    let end = match end {
        Ok(_) => End::Fin,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("{error}"),
    };
    (String::from_utf8_lossy(&heard).into_owned(), end)
}

pub async fn hear(socket: &mut TcpStream, count: usize) -> String {
    let mut heard = vec![0; count];
    timeout(FOR_EVER, socket.read_exact(&mut heard))
        .await
        .expect("it arrives")
        .unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

/// Asserts that neither a byte nor an end arrives.
pub async fn assert_silence(socket: &mut TcpStream) {
    let mut byte = [0];
    let heard = timeout(A_MOMENT, socket.read(&mut byte)).await;
    assert!(heard.is_err(), "silence was expected: {heard:?}");
}
