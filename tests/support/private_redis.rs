//! A Redis server of a test's own, to be killed, stopped and emptied without harm to other tests.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{free_port, process_tree};

/// A running server. It is killed with its owner.
pub struct PrivateRedis {
    server: Child,
    port: u16,
    folder: TempDir,
}

impl PrivateRedis {
    /// Starts an empty server that keeps nothing on disk.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let redis = Self {
            server: spawn(port, &folder),
            port,
            folder,
        };
        redis.wait_ready().await;
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Ends it at once; what it knew is gone.
    pub fn kill(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }

    /// Starts it again, empty, on the same port.
    pub async fn restart(&mut self) {
        self.server = spawn(self.port, &self.folder);
        self.wait_ready().await;
    }

    /// Stops it where it stands: its sockets stay open and say nothing.
    pub fn pause(&self) {
        process_tree::signal(self.server.id(), "STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        process_tree::signal(self.server.id(), "CONT");
    }

    /// Sends a command without arguments; answers the first line of what it says.
    pub async fn command(&self, name: &str) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(self.address()).await?;
        socket.write_all(format!("{name}\r\n").as_bytes()).await?;
        let mut answer = [0; 256];
        let count = socket.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(answer.get(..count).unwrap_or_default()).into_owned();
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }

    async fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.command("PING").await.is_ok_and(|answer| answer == "+PONG") {
            assert!(Instant::now() < deadline, "Redis does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, folder: &TempDir) -> Child {
    let log = fs::File::create(folder.path().join("redis.log")).expect("a log file");
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("Redis starts")
}
