//! The binary as a person meets it: what it prints, what it refuses, how it ends. What it serves is tested elsewhere.

#![allow(clippy::expect_used, clippy::panic)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

fn truerelay(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_truerelay"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRUERELAY")) {
        command.env_remove(name);
    }
    command
        .env("TRUERELAY__DATA__FOLDER", folder.join("data"))
        .env("TRUERELAY__SERVER__LISTEN", "127.0.0.1:0")
        .env("TRUERELAY__ADMIN__LISTEN", "127.0.0.1:0")
        .env("TRUERELAY__SERVER__WORKERS", "1")
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    truerelay(folder).args(arguments).output().expect("it can be started")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that is killed with the test that started it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // it has ended already unless the test failed
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A server, and what it logs.
struct Server {
    process: Process,
    log: BufReader<std::process::ChildStderr>,
    relay: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let spawned = truerelay(folder).arg("serve").stderr(Stdio::piped()).spawn();
        let mut process = Process(spawned.expect("it can be started"));
        let mut log = BufReader::new(process.0.stderr.take().expect("it is piped"));
        loop {
            let mut line = String::new();
            assert_ne!(
                log.read_line(&mut line).expect("it is text"),
                0,
                "the server ended before it listened"
            );
            let line: serde_json::Value = serde_json::from_str(&line).expect("every log line is JSON");
            if line["message"] == "listening" {
                let address = |name: &str| line[name].as_str().expect("it is named").parse().expect("an address");
                return Self {
                    relay: address("relay"),
                    admin: address("admin"),
                    process,
                    log,
                };
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.process.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .expect("there is `kill`")
                .success()
        );
    }

    /// Waits for the end, and answers whether it was a success and what was logged.
    fn end(mut self) -> (bool, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("it is text");
        (self.process.0.wait().expect("it ends").success(), rest)
    }
}

/// A demo, and what it printed.
struct Demo {
    _process: Process,
    printed: String,
}

impl Demo {
    fn start(folder: &Path) -> Self {
        let arguments = ["demo", "--data", "demo", "--port", "0", "--admin-port", "0"];
        let spawned = truerelay(folder).args(arguments).stdout(Stdio::piped()).spawn();
        let mut process = Process(spawned.expect("it can be started"));
        let mut lines = BufReader::new(process.0.stdout.take().expect("it is piped"));
        let mut printed = String::new();
        while !printed.contains("Ctrl-C") {
            assert_ne!(
                lines.read_line(&mut printed).expect("it is text"),
                0,
                "the demo ended: {printed}"
            );
        }
        Self {
            _process: process,
            printed,
        }
    }

    /// The first printed word that begins so.
    fn word(&self, prefix: &str) -> &str {
        self.printed
            .split_whitespace()
            .find(|word| word.starts_with(prefix))
            .expect("it is printed")
    }

    fn relay(&self) -> SocketAddr {
        let url = self
            .printed
            .lines()
            .find_map(|line| line.trim().strip_prefix("relay"))
            .expect("it is printed");
        let address = url
            .trim()
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next());
        address.expect("a URL").parse().expect("an address")
    }

    fn request(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.relay()).expect("it listens");
        let (key, length) = (self.word("sk-tr-"), body.len());
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn config_check_and_print_say_what_is_in_force_and_hide_secrets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let checked = output(folder.path(), &["config", "check"]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    let printed = truerelay(folder.path())
        .args(["config", "print"])
        .env("TRUERELAY__DATABASE__URL", "postgres://u:hunter2@h/d")
        .output()
        .expect("it can be started");
    assert!(stdout(&printed).contains("workers = 1"), "{}", stdout(&printed));
    assert!(!stdout(&printed).contains("hunter2"), "{}", stdout(&printed));
    std::fs::write(folder.path().join("c.toml"), "[server]\nlistn = 1\n").expect("it can be written");
    let refused = output(folder.path(), &["config", "check", "--config", "c.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("listn") && stderr(&refused).contains("c.toml"),
        "{}",
        stderr(&refused)
    );
    assert!(
        !folder.path().join("data").exists(),
        "looking at the configuration must make nothing"
    );
}

#[test]
fn an_operator_token_is_shown_once_listed_and_revoked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let created = output(
        folder.path(),
        &["operator", "token", "create", "--name", "ada", "--role", "read-only"],
    );
    assert!(created.status.success(), "{}", stderr(&created));
    let token = stdout(&created).trim().to_owned();
    assert!(
        token.starts_with("op-tr-") && !token.contains(char::is_whitespace),
        "{token}"
    );
    let listed = stdout(&output(folder.path(), &["operator", "token", "list"]));
    assert!(
        listed.contains("ada") && listed.contains("read_only") && listed.contains("valid"),
        "{listed}"
    );
    assert!(!listed.contains(&token), "{listed}");
    let id = listed.split_whitespace().next().expect("an id");
    let revoked = stdout(&output(folder.path(), &["operator", "token", "revoke", id]));
    assert!(revoked.contains("revoked"), "{revoked}");
    let unknown = output(
        folder.path(),
        &["operator", "token", "revoke", &id.replace(&id[id.len() - 4..], "0000")],
    );
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        stderr(&unknown).contains("no such operator token"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn a_server_answers_probes_shares_its_folder_with_commands_only_and_stops_cleanly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    for address in [server.relay, server.admin] {
        assert!(get(address, "/healthz").contains("{\"status\":\"up\"}"));
        assert!(get(address, "/readyz").contains("{\"status\":\"ready\"}"));
    }
    assert!(get(server.admin, "/metrics").contains("\ntruerelay_ready 1"));
    assert!(get(server.relay, "/metrics").starts_with("HTTP/1.1 404"));
    let second = output(folder.path(), &["serve"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("in use by another process"),
        "{}",
        stderr(&second)
    );
    let created = output(
        folder.path(),
        &["operator", "token", "create", "--name", "x", "--role", "full"],
    );
    assert!(created.status.success(), "{}", stderr(&created));
    let verified = output(folder.path(), &["ledger", "verify"]);
    assert!(
        verified.status.success() && stdout(&verified).contains("I6"),
        "{}",
        stdout(&verified)
    );
    server.signal("-TERM");
    let (success, log) = server.end();
    assert!(success && log.contains("\"stopped\""), "{log}");
}

#[test]
fn a_command_typed_right_behind_the_first_start_waits_for_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = truerelay(folder.path()).arg("serve").stderr(Stdio::null()).spawn();
    let _server = Process(server.expect("it can be started"));
    let created = output(
        folder.path(),
        &["operator", "token", "create", "--name", "x", "--role", "full"],
    );
    assert!(created.status.success(), "{}", stderr(&created));
}

#[test]
fn config_check_asks_for_the_keys_that_postgres_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |variables: &[(&str, &str)]| {
        let mut command = truerelay(folder.path());
        command.args(["config", "check"]).envs(variables.iter().copied());
        command.output().expect("it can be started")
    };
    let database = ("TRUERELAY__DATABASE__URL", "postgres://u:hunter2@h/d");
    let refused = check(&[database]);
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(
        told.contains("TRUERELAY_ENCRYPTION_KEY_FILE") && !told.contains("hunter2"),
        "{told}"
    );
    assert_eq!(check(&[("TRUERELAY_PEPPER", "short")]).status.code(), Some(1));
    let key = format!("k1:{}", "ab".repeat(32));
    let mut given = vec![
        database,
        ("TRUERELAY_PEPPER", key.as_str()),
        ("TRUERELAY_ENCRYPTION_KEY", key.as_str()),
    ];
    let told = stderr(&check(&given));
    assert!(told.contains("openssl genpkey -algorithm ed25519"), "{told}");
    given.push(("TRUERELAY_SIGNING_KEY", SIGNING_KEY));
    let checked = check(&given);
    assert!(checked.status.success(), "{}", stderr(&checked));
    given.push(("TRUERELAY__TRANSPARENCY__KEY_FILE", "/nowhere"));
    let told = stderr(&check(&given));
    assert!(told.contains("given twice"), "{told}");
    let malformed = check(&[("TRUERELAY_SIGNING_KEY", "hunter2")]);
    assert_eq!(malformed.status.code(), Some(1));
    assert!(!stderr(&malformed).contains("hunter2"), "{}", stderr(&malformed));
}

/// The example of RFC 8410, section 10.3.
const SIGNING_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

#[test]
fn a_postgres_that_is_away_is_told_with_its_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // a port that nobody listens on: it was free a moment ago, and is closed again
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.expect("a free port").port();
    let key = format!("k1:{}", "ab".repeat(32));
    let refused = truerelay(folder.path())
        .arg("serve")
        .env(
            "TRUERELAY__DATABASE__URL",
            format!("postgres://u:hunter2@127.0.0.1:{port}/d"),
        )
        .env("TRUERELAY_PEPPER", &key)
        .env("TRUERELAY_ENCRYPTION_KEY", &key)
        .env("TRUERELAY_SIGNING_KEY", SIGNING_KEY)
        .output()
        .expect("it can be started");
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(told.contains("refused") && told.contains("database.url"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_wrong_key_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(output(folder.path(), &["migrate"]).status.success());
    assert!(output(folder.path(), &["operator", "token", "list"]).status.success());
    let wrong = format!("k1:{}", "ab".repeat(32));
    for variable in ["TRUERELAY_PEPPER", "TRUERELAY_ENCRYPTION_KEY"] {
        let refused = truerelay(folder.path())
            .arg("serve")
            .env(variable, &wrong)
            .output()
            .expect("it can be started");
        assert_eq!(refused.status.code(), Some(1));
        let told = stderr(&refused);
        assert!(
            told.contains("give the original key") && !told.contains("abab"),
            "{told}"
        );
    }
    std::fs::remove_dir_all(folder.path().join("data/keys")).expect("it is there");
    let refused = output(folder.path(), &["serve"]);
    assert!(stderr(&refused).contains("Restore"), "{}", stderr(&refused));
}

#[test]
fn a_taken_port_and_a_missing_database_are_told_in_one_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = output(folder.path(), &["ledger", "verify"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(stderr(&missing).lines().count(), 1, "{}", stderr(&missing));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let refused = output(
        folder.path(),
        &["demo", "--data", "demo", "--port", &port, "--admin-port", "0"],
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains(&port) && stderr(&refused).contains("choose another port"),
        "{}",
        stderr(&refused)
    );
    let open = output(folder.path(), &["demo", "--listen", "0.0.0.0"]);
    assert!(stderr(&open).contains("--expose-demo"), "{}", stderr(&open));
}

#[test]
fn the_committed_openapi_document_is_compared_exactly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(output(folder.path(), &["openapi"]).status.success());
    assert!(output(folder.path(), &["openapi", "--check"]).status.success());
    let path = folder.path().join("docs/openapi/admin.json");
    let document = std::fs::read_to_string(&path).expect("it was written");
    std::fs::write(&path, document.replacen("\"3.1", "\"3.0", 1)).expect("it can be written");
    let stale = output(folder.path(), &["openapi", "--check"]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(stdout(&stale).contains("stale"), "{}", stdout(&stale));
}

#[test]
fn a_demo_streams_an_answer_charges_it_and_goes_on_with_the_same_books() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let demo = Demo::start(folder.path());
    assert!(demo.request("GET /v1/key", "").contains("\"available_usd\":\"5.00\""));
    let body = "{\"model\":\"openai/gpt-5-mini\",\"stream\":true,\"max_completion_tokens\":8,\
                \"messages\":[{\"role\":\"user\",\"content\":\"Tell me about rivers.\"}]}";
    let answer = demo.request("POST /v1/chat/completions", body);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("data: [DONE]"),
        "{answer}"
    );
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .expect("the answer names its request");
    // the charge is written after the answer has ended: asked again until it is there, and a test that waits in vain
    // is ended by whoever runs it
    let cost = loop {
        let record = demo.request(&format!("GET /v1/requests/{id}"), "");
        if record.contains("\"state\":\"settled\"") {
            break record;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(!cost.contains("\"cost_usd\":\"0.00\""), "{cost}");
    let balance = demo.request("GET /v1/key", "");
    assert!(balance.contains("\"available_usd\":\"4.99"), "{balance}");
    let first_key = demo.word("sk-tr-").to_owned();
    drop(demo);
    let again = Demo::start(folder.path());
    assert_ne!(again.word("sk-tr-"), first_key);
    assert!(again.printed.contains("had a demo before"), "{}", again.printed);
    assert!(
        again.request("GET /v1/key", "").contains("\"available_usd\":\"4.99"),
        "the books went on"
    );
}

#[test]
fn a_demo_refuses_a_real_providers_credential() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let demo = Demo::start(folder.path());
    let admin = demo
        .printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("admin API"))
        .expect("it is printed");
    let admin = admin
        .trim()
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next())
        .expect("a URL");
    let token = demo.word("op-tr-");
    let call = |head: &str, body: &str| {
        let mut stream = TcpStream::connect(admin).expect("it listens");
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let pools = call("GET /admin/v1/pools", "");
    let pool = pools
        .split('"')
        .find(|part| part.starts_with("pool_"))
        .expect("the demo has a pool");
    let real = "{\"name\":\"real\",\"secret\":\"sk-a-real-one\",\"basis\":\"own_contract\"}";
    let created = call(&format!("POST /admin/v1/pools/{pool}/credentials"), real);
    assert!(created.starts_with("HTTP/1.1 201"), "{created}");
    drop(demo);
    let refused = output(
        folder.path(),
        &["demo", "--data", "demo", "--port", "0", "--admin-port", "0"],
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("--allow-real-providers"),
        "{}",
        stderr(&refused)
    );
}
