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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use h2::{Reason, server};
    use http::{Request, Response, Uri};
    use http_body_util::{BodyExt, Full};
    use hyper_util::{
        client::legacy::Client,
        rt::{TokioExecutor, TokioIo},
    };
    use tokio::net::{TcpListener, TcpStream};
    use tower_service::Service;

    use super::*;
    use crate::OutboundError;

    /// A connection on which HTTP/2 was agreed upon, as TLS would.
    struct Agreed(TcpStream);

    impl Connection for Agreed {
        fn connected(&self) -> Connected {
            Connected::new().negotiated_h2()
        }
    }

    impl AsyncRead for Agreed {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Agreed {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[derive(Clone)]
    struct Connector;

    impl Service<Uri> for Connector {
        type Response = TokioIo<Watched<Agreed>>;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, uri: Uri) -> Self::Future {
            Box::pin(async move {
                let address = uri.authority().expect("an address").as_str().to_owned();
                let stream = TcpStream::connect(address).await?;
                Ok(TokioIo::new(Watched::new(Agreed(stream))))
            })
        }
    }

    /// What happens to the second request on a connection.
    #[derive(Debug, Clone, Copy)]
    enum Second {
        Closed,
        Reset(Reason),
    }

    async fn serve(listener: TcpListener, second: Second) -> Option<Infallible> {
        let (stream, _) = listener.accept().await.ok()?;
        let mut connection = server::handshake(stream).await.ok()?;
        let (_, mut first) = connection.accept().await?.ok()?;
        first.send_response(Response::new(()), true).ok()?;
        let (_, mut asked) = connection.accept().await?.ok()?;
        match second {
            Second::Closed => return None,
            Second::Reset(reason) => asked.send_reset(reason),
        }
        // drives what was said to the other side, until that has gone
        connection.accept().await?.ok()?;
        None
    }

    async fn error_of(second: Second) -> OutboundError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, second));
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(Connector);
        let request = || Request::post(&url).body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        let first = client.request(request()).await.unwrap();
        first.into_body().collect().await.unwrap();
        let asked = Instant::now();
        let error = client.request(request()).await.unwrap_err();
        OutboundError::from_client(&error, asked)
    }

    #[tokio::test]
    async fn on_http_2_a_connection_that_ends_is_told_from_a_stream_that_is_reset() {
        for second in [Second::Closed, Second::Reset(Reason::REFUSED_STREAM)] {
            let error = error_of(second).await;
            assert!(
                matches!(error, OutboundError::KeptConnectionDied(_)),
                "{second:?}: {error:?}"
            );
        }
        for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL] {
            let error = error_of(Second::Reset(reason)).await;
            assert!(matches!(error, OutboundError::Broken(_)), "{reason}: {error:?}");
        }
    }
}
