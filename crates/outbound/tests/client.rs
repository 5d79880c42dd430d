//! The client against real sockets on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use outbound::{AddressPolicy, OutboundError, OutboundSettings, Resolve, UpstreamClient, Via};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Answers every question from a list, one entry per question, the last one for ever.
struct Answers {
    list: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Answers {
    fn new(list: &[&[&str]]) -> Arc<Self> {
        let list = list
            .iter()
            .map(|answer| answer.iter().map(|a| a.parse().unwrap()).collect())
            .collect();
        Arc::new(Self {
            list,
            asked: AtomicUsize::new(0),
        })
    }
}

impl Resolve for Answers {
    fn resolve<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.list.len() - 1);
        Box::pin(async move { Ok(self.list[turn].clone()) })
    }
}

fn request(url: &str) -> Request<Full<Bytes>> {
    Request::post(url).body(Full::new(Bytes::from_static(b"{}"))).unwrap()
}

fn client(resolver: Arc<Answers>) -> UpstreamClient {
    UpstreamClient::with_resolver(&OutboundSettings::default(), resolver).unwrap()
}

async fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n{}") {
        if socket.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

/// Accepts connections for ever; answers each request with `answer`; reports every accepted connection and every head.
async fn serve(answer: &'static str) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (report, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let report = report.clone();
            report.send("accepted".to_owned()).ok();
            tokio::spawn(async move {
                while let Some(head) = read_head(&mut socket).await {
                    report.send(head).ok();
                    socket.write_all(answer.as_bytes()).await.ok();
                }
                report.send("closed".to_owned()).ok();
            });
        }
    });
    (port, reports)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_name_is_resolved_once_and_its_connection_is_kept() {
    let (port, mut reports) = serve(OK).await;
    let resolver = Answers::new(&[&["127.0.0.1:1"], &["169.254.169.254:1"]]);
    let client = client(Arc::clone(&resolver));
    for _ in 0..3 {
        let url = format!("http://provider.example:{port}/v1");
        let response = client
            .send(AddressPolicy::AllowPrivate, Via::Pool, request(&url))
            .await
            .unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hi");
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    assert_eq!(reports.recv().await.unwrap(), "accepted");
    for _ in 0..3 {
        assert!(reports.recv().await.unwrap().starts_with("POST /v1 HTTP/1.1"));
    }
}

#[tokio::test]
async fn a_rebinding_name_is_refused_and_nothing_is_connected() {
    let (port, mut reports) = serve(OK).await;
    let local = format!("127.0.0.1:{port}");
    let settings = OutboundSettings {
        public_ports: vec![port],
        ..OutboundSettings::default()
    };
    let answers: [&[&str]; 3] = [&[&local], &["1.1.1.1:443", &local], &["[::ffff:127.0.0.1]:443"]];
    for answer in answers {
        let client = UpstreamClient::with_resolver(&settings, Answers::new(&[answer])).unwrap();
        let url = format!("https://rebind.example:{port}/");
        let error = client
            .send(AddressPolicy::PublicOnly, Via::Pool, request(&url))
            .await
            .unwrap_err();
        assert!(matches!(error, OutboundError::ForbiddenAddress(_)), "{error:?}");
        assert!(error.is_before_send());
    }
    assert!(reports.try_recv().is_err());
}

#[tokio::test]
async fn literal_addresses_are_judged_although_no_resolver_sees_them() {
    let resolver = Answers::new(&[&["1.1.1.1:443"]]);
    let client = client(Arc::clone(&resolver));
    for url in [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.0.0.1./",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "http://1.1.1.1/",
    ] {
        let error = client
            .send(AddressPolicy::PublicOnly, Via::Pool, request(url))
            .await
            .unwrap_err();
        assert!(matches!(error, OutboundError::ForbiddenAddress(_)), "{url}: {error:?}");
    }
    let error = client
        .send(
            AddressPolicy::AllowPrivate,
            Via::Pool,
            request("http://169.254.169.254/"),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::ForbiddenAddress(_)), "{error:?}");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_of_one_policy_is_never_lent_to_the_other() {
    let (port, _reports) = serve(OK).await;
    let settings = OutboundSettings {
        public_ports: vec![port],
        ..OutboundSettings::default()
    };
    let client = UpstreamClient::new(&settings).unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let response = client
        .send(AddressPolicy::AllowPrivate, Via::Pool, request(&url))
        .await
        .unwrap();
    response.into_body().collect().await.unwrap();
    let error = client
        .send(AddressPolicy::PublicOnly, Via::Pool, request(&url))
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::ForbiddenAddress(_)), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let (port, mut reports) =
        serve("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n").await;
    let client = UpstreamClient::new(&OutboundSettings::default()).unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let response = client
        .send(AddressPolicy::AllowPrivate, Via::Pool, request(&url))
        .await
        .unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(reports.recv().await.unwrap(), "accepted");
    assert!(reports.recv().await.unwrap().starts_with("POST / "));
    assert!(reports.try_recv().is_err());
}

#[tokio::test]
async fn dropping_the_body_closes_the_connection() {
    let (port, mut reports) = serve("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n").await;
    let client = UpstreamClient::new(&OutboundSettings::default()).unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let response = client
        .send(AddressPolicy::AllowPrivate, Via::Pool, request(&url))
        .await
        .unwrap();
    let mut body = response.into_body();
    assert_eq!(body.next_chunk().await.unwrap().unwrap(), "hi");
    drop(body);
    assert_eq!(reports.recv().await.unwrap(), "accepted");
    assert!(reports.recv().await.unwrap().starts_with("POST"));
    assert_eq!(reports.recv().await.unwrap(), "closed");
}

#[tokio::test]
async fn dropping_the_call_before_its_head_closes_the_connection() {
    let (port, mut reports) = serve("").await;
    let client = UpstreamClient::new(&OutboundSettings::default()).unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    let mut call = Box::pin(client.send(AddressPolicy::AllowPrivate, Via::Pool, request(&url)));
    let head = tokio::select! {
        _ = &mut call => panic!("nothing was answered"),
        head = async { reports.recv().await; reports.recv().await } => head.unwrap(),
    };
    assert!(head.starts_with("POST"));
    drop(call);
    assert_eq!(reports.recv().await.unwrap(), "closed");
}

#[tokio::test]
async fn failures_say_whether_the_provider_can_have_seen_the_request() {
    let client = client(Answers::new(&[&[]]));
    let error = client
        .send(
            AddressPolicy::AllowPrivate,
            Via::Pool,
            request("http://nowhere.example/"),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::Resolve(_)), "{error:?}");
    assert!(error.is_before_send());

    // bound and not listening: nobody answers there, and nobody else can take the port meanwhile
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let error = client
        .send(AddressPolicy::AllowPrivate, Via::Pool, request(&url))
        .await
        .unwrap_err();
    assert!(matches!(error, OutboundError::ConnectFailed(_)), "{error:?}");
    assert!(error.is_before_send());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let call = client.send(AddressPolicy::AllowPrivate, Via::Pool, request(&url));
    let cut = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_head(&mut socket).await.unwrap();
    };
    let (answer, ()) = tokio::join!(call, cut);
    let error = answer.unwrap_err();
    assert!(matches!(error, OutboundError::Broken(_)), "{error:?}");
    assert!(!error.is_before_send());
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_at_the_connect_timeout() {
    // Accepts and says nothing: TCP stands, TLS does not.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let settings = OutboundSettings {
        connect_timeout: Duration::from_millis(50),
        ..OutboundSettings::default()
    };
    let client = UpstreamClient::new(&settings).unwrap();
    let error = client
        .send(AddressPolicy::AllowPrivate, Via::Pool, request(&url))
        .await
        .unwrap_err();
    assert_eq!(error, OutboundError::ConnectTimeout { timeout_ms: 50 });
    assert!(error.is_before_send());
}

#[tokio::test]
async fn a_body_cut_short_is_an_error_not_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let client = UpstreamClient::new(&OutboundSettings::default()).unwrap();
    let call = client.send(AddressPolicy::AllowPrivate, Via::Pool, request(&url));
    let half = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_head(&mut socket).await.unwrap();
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
            .await
            .unwrap();
    };
    let (answer, ()) = tokio::join!(call, half);
    let mut body = answer.unwrap().into_body();
    assert_eq!(body.next_chunk().await.unwrap().unwrap(), "hi");
    assert!(matches!(body.next_chunk().await, Some(Err(OutboundError::Broken(_)))));
}

/// Answers the first request of each connection; what comes second on one meets `and_then`.
async fn serve_once_each(and_then: &'static str, how: Ending) -> (String, mpsc::UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let (report, reports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let report = report.clone();
            tokio::spawn(async move {
                read_head(&mut socket).await.unwrap();
                report.send(number).ok();
                socket.write_all(OK.as_bytes()).await.unwrap();
                if read_head(&mut socket).await.is_some() {
                    report.send(number).ok();
                    socket.write_all(and_then.as_bytes()).await.unwrap();
                    if how == Ending::Reset {
                        socket.set_zero_linger().unwrap();
                    }
                }
            });
        }
    });
    (url, reports)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    Reset,
}

async fn fetch(client: &UpstreamClient, via: Via, url: &str) -> Result<Bytes, OutboundError> {
    let response = client.send(AddressPolicy::AllowPrivate, via, request(url)).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn a_kept_connection_that_dies_unanswered_is_told_from_one_that_broke() {
    for how in [Ending::Close, Ending::Reset] {
        let (url, mut reports) = serve_once_each("", how).await;
        let client = UpstreamClient::new(&OutboundSettings::default()).unwrap();
        assert_eq!(fetch(&client, Via::Pool, &url).await.unwrap(), "hi");
        let error = fetch(&client, Via::Pool, &url).await.unwrap_err();
        assert!(matches!(error, OutboundError::KeptConnectionDied(_)), "{error:?}");
        assert!(!error.is_before_send(), "it had been read");
        // two over fresh connections: neither is kept
        for _ in 0..2 {
            assert_eq!(fetch(&client, Via::Fresh, &url).await.unwrap(), "hi");
        }
        let seen: Vec<_> = std::iter::from_fn(|| reports.try_recv().ok()).collect();
        assert_eq!(seen, [0, 0, 1, 2]);
    }
}

#[tokio::test]
async fn a_kept_connection_that_breaks_within_the_answer_is_not_dead() {
    let (url, _reports) = serve_once_each("HTTP/1.1 200 O", Ending::Close).await;
    let client = UpstreamClient::new(&OutboundSettings::default()).unwrap();
    assert_eq!(fetch(&client, Via::Pool, &url).await.unwrap(), "hi");
    let error = fetch(&client, Via::Pool, &url).await.unwrap_err();
    assert!(matches!(error, OutboundError::Broken(_)), "{error:?}");
}
