//! What is known of a connection when a request on it has failed: whether it had been kept open from before, and whether
//! anything of an answer came.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The past of one connection, shared by all requests on it.
#[derive(Debug, Clone)]
pub(crate) struct History {
    opened: Instant,
    is_multiplexed: bool,
    /// Whether anything was read since something was last written.
    heard: Arc<AtomicBool>,
}

impl History {
    /// Of the connection that an error happened on.
    pub(crate) fn of(connected: &Connected) -> Option<Self> {
        let mut extras = http::Extensions::new();
        connected.get_extras(&mut extras);
        extras.remove()
    }

    /// Whether it had been open before that instant.
    pub(crate) fn was_kept_at(&self, asked: Instant) -> bool {
        self.opened < asked
    }

    /// Whether nothing came back for what was written last. Frames of HTTP/2 come for many requests; there the missing head
    /// says it.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.is_multiplexed || !self.heard.load(Ordering::Relaxed)
    }
}

/// A connection, TLS included, that keeps its history.
pub(crate) struct Watched<S> {
    stream: S,
    opened: Instant,
    heard: Arc<AtomicBool>,
}

impl<S> Watched<S> {
    /// A connection that has just been opened.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            opened: Instant::now(),
            heard: Arc::default(),
        }
    }
}

impl<S: Connection> Connection for Watched<S> {
    fn connected(&self) -> Connected {
        let is_multiplexed = self.stream.connected().is_negotiated_h2();
        let history = History {
            opened: self.opened,
            is_multiplexed,
            heard: Arc::clone(&self.heard),
        };
        let connected = Connected::new().extra(history);
        if is_multiplexed {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.heard.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.heard.store(false, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
