//! Time to the first token of streams that run at the same time, as their clients see it.

use std::{
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
    time::sleep,
};

use crate::{Failure, http_bytes::find};

/// Streams begin one after the other, this far apart, so that they do not arrive as one burst.
const APART: Duration = Duration::from_millis(7);

/// What was measured, in microseconds.
pub struct Measured {
    p50_us: u128,
    p99_us: u128,
    answers: usize,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.p50_us, self.p99_us, self.answers)
    }
}

/// A request as bytes.
pub fn request(address: &str, path: &str, key: Option<&str>, body: &[u8]) -> Vec<u8> {
    let authorization = key.map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"));
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}content-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

/// Keeps `streams` streams running, each `rounds` times; the first round warms up and is not counted.
///
/// # Errors
/// When a stream does not begin with status 200 or does not end as a whole one.
pub async fn measure(address: &str, request: Vec<u8>, streams: u32, rounds: usize) -> Result<Measured, Failure> {
    let request = Rc::new(request);
    let tasks = LocalSet::new();
    let waiting: Vec<_> = (0..streams)
        .map(|number| {
            let (address, request) = (address.to_owned(), Rc::clone(&request));
            tasks.spawn_local(async move {
                sleep(APART * number).await;
                one_client(&address, &request, rounds).await
            })
        })
        .collect();
    let mut times: Vec<u128> = Vec::new();
    tasks
        .run_until(async {
            for client in waiting {
                times.extend(client.await??);
            }
            Ok::<(), Failure>(())
        })
        .await?;
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    Ok(Measured {
        p50_us: at(50).copied().ok_or("nothing was measured")?,
        p99_us: at(99).copied().ok_or("nothing was measured")?,
        answers: times.len(),
    })
}

async fn one_client(address: &str, request: &[u8], rounds: usize) -> std::io::Result<Vec<u128>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let taken = one_stream(&mut socket, request).await?;
        if round > 0 {
            times.push(taken);
        }
    }
    Ok(times)
}

async fn one_stream(socket: &mut TcpStream, request: &[u8]) -> std::io::Result<u128> {
    let mut bytes: Vec<u8> = Vec::with_capacity(32 * 1024);
    let started = Instant::now();
    socket.write_all(request).await?;
    while find(&bytes, b"data:").is_none() {
        read_more(socket, &mut bytes).await?;
    }
    let taken = started.elapsed().as_micros();
    while !bytes.ends_with(b"\r\n0\r\n\r\n") {
        read_more(socket, &mut bytes).await?;
    }
    if !bytes.starts_with(b"HTTP/1.1 200") || find(&bytes, b"[DONE]").is_none() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(taken)
}

/// Reads what has arrived. An answer that is no stream has no end that is looked for: it must not be waited for.
async fn read_more(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    if socket.read_buf(bytes).await? == 0 || (bytes.len() > 12 && !bytes.starts_with(b"HTTP/1.1 200")) {
        return Err(std::io::Error::other(String::from_utf8_lossy(bytes).into_owned()));
    }
    Ok(())
}
