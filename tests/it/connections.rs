//! Connections as clients keep them: opened ahead of their request, and many of them.

use std::time::Duration;

use support::{TestApp, openai_body};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Clients open connections ahead, and use them when the one that they wait for is not free. One that is told 408 before
/// its request was sent takes that for the answer to it, and there is no id to ask about.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_opened_ahead_of_its_request_is_served() {
    let app = TestApp::start().await;
    let address = app.relay_url().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    let body = openai_body(false).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        app.seeded.key,
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\nx-request-id: req_"), "{answer}");
    app.wait_for_holds(0).await;
    app.finish().await;
}
