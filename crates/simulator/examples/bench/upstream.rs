//! An upstream with fixed answers. `POST /KIND/DELAY_MS/...` answers with `KIND` after the delay:
//!
//! - `small`: a chat completion of 0.8 KB,
//! - `large`: one of 100 KB,
//! - `stream`: the same as events, one each 10 ms.
//!
//! Answers are made once at the start; a request costs one read and one write.

use std::{rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::sleep,
};

use crate::{
    Failure,
    http_bytes::{content_length, head_length},
};

const EVENTS: usize = 40;
const EVENT_PAUSE: Duration = Duration::from_millis(10);
const SMALL_BYTES: usize = 800;
const LARGE_BYTES: usize = 100_000;
const USAGE: &str = r#""usage":{"prompt_tokens":150,"completion_tokens":40,"total_tokens":190}"#;

/// Serves until the process is ended.
pub async fn serve(address: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    let answers = Rc::new(Answers::new());
    LocalSet::new()
        .run_until(async move {
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let answers = Rc::clone(&answers);
                tokio::task::spawn_local(async move {
                    // the other side has closed: nothing is left to do
                    drop(connection(socket, &answers).await);
                });
            }
        })
        .await
}

async fn connection(mut socket: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut bytes: Vec<u8> = Vec::with_capacity(16 * 1024);
    loop {
        let head = loop {
            if let Some(head) = head_length(&bytes) {
                break head;
            }
            if socket.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let wanted = Wanted::read(&bytes[..head]);
        let mut body_left = (head + content_length(&bytes[..head])).saturating_sub(bytes.len());
        while body_left > 0 {
            bytes.clear();
            let read = socket.read_buf(&mut bytes).await?;
            if read == 0 {
                return Ok(());
            }
            body_left = body_left.saturating_sub(read);
        }
        // nobody pipelines here: what was read belongs to this request
        bytes.clear();
        if !wanted.delay.is_zero() {
            sleep(wanted.delay).await;
        }
        match wanted.kind {
            Kind::Small => socket.write_all(&answers.small).await?,
            Kind::Large => socket.write_all(&answers.large).await?,
            Kind::Stream => stream(&mut socket, answers).await?,
        }
    }
}

async fn stream(socket: &mut TcpStream, answers: &Answers) -> std::io::Result<()> {
    socket.write_all(&answers.first_event).await?;
    for _ in 1..EVENTS {
        sleep(EVENT_PAUSE).await;
        socket.write_all(&answers.event).await?;
    }
    socket.write_all(&answers.last_events).await
}

enum Kind {
    Small,
    Large,
    Stream,
}

struct Wanted {
    kind: Kind,
    delay: Duration,
}

impl Wanted {
    /// What `POST /KIND/DELAY_MS/...` asks for.
    fn read(head: &[u8]) -> Self {
        let mut parts = head
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default()
            .split(|byte| *byte == b'/')
            .skip(1);
        let kind = match parts.next() {
            Some(b"large") => Kind::Large,
            Some(b"stream") => Kind::Stream,
            _ => Kind::Small,
        };
        let delay_ms = parts
            .next()
            .and_then(|part| std::str::from_utf8(part).ok()?.parse().ok())
            .unwrap_or(0);
        Self {
            kind,
            delay: Duration::from_millis(delay_ms),
        }
    }
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    first_event: Vec<u8>,
    event: Vec<u8>,
    last_events: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let event = chunk(&event(
            r#""choices":[{"index":0,"delta":{"content":"token "},"finish_reason":null}]"#,
        ));
        let mut last_events = chunk(&self::event(
            r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]"#,
        ));
        last_events.extend(chunk(&self::event(&format!(r#""choices":[],{USAGE}"#))));
        last_events.extend(chunk("data: [DONE]\n\n"));
        last_events.extend(b"0\r\n\r\n");
        let mut first_event =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        first_event.extend(&event);
        Self {
            small: whole(SMALL_BYTES),
            large: whole(LARGE_BYTES),
            first_event,
            event,
            last_events,
        }
    }
}

fn whole(bytes: usize) -> Vec<u8> {
    let around = completion("").len();
    let body = completion(&"word ".repeat(bytes.saturating_sub(around) / 5));
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn completion(content: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],{USAGE}}}"#
    )
}

fn event(rest: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"bench\",{rest}}}\n\n"
    )
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}
