//! Receipts and the transparency log over HTTP: what is promised to customers is checked with the program that they have.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Client, KeyOptions, Process, TestApp, anthropic_body, openai_body};

/// Files for the offline check.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn put(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path
    }

    /// Checks a receipt offline; the second is what was said.
    pub fn verify(&self, receipt: &Value, more: &[(&str, &Path)]) -> (bool, String) {
        let receipt = self.put("receipt.json", receipt);
        let mut arguments = vec!["receipt", "verify", receipt.to_str().unwrap()];
        for (option, file) in more {
            arguments.extend([*option, file.to_str().unwrap()]);
        }
        let (status, output) = Process::run(&arguments, &[]);
        (status.success(), output)
    }
}

/// The receipt of a request that has ended, which is there within moments.
pub async fn receipt(client: &Client, request: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = client.get(&format!("/v1/requests/{request}/receipt")).await;
        match answer.status().as_u16() {
            200 => return answer.json().await,
            409 => assert!(Instant::now() < deadline, "no receipt: {}", answer.json().await),
            other => panic!("{other}: {}", answer.json().await),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A public answer: without any key.
async fn public(app: &TestApp, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("{}{path}", app.relay_url())).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn found(app: &TestApp, path: &str) -> Value {
    let (status, body) = public(app, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn statement(receipt: &Value) -> Value {
    serde_json::from_str(receipt["statement"].as_str().unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_what_was_charged_and_every_change_of_it_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let client = app.client();
    let sent = [openai_body(true), anthropic_body(false)];
    let answers = [client.openai(&sent[0]).await, client.anthropic(&sent[1]).await];
    let [first, second] = answers.each_ref().map(support::Answer::request_id);
    let closed = app.closed(&first).await;
    let (one, other) = (receipt(&client, &first).await, receipt(&client, &second).await);
    let said = statement(&one);
    assert_eq!(said["request"], first.as_str());
    assert_eq!(said["state"], "settled");
    let cost: domain::Amount = closed["cost_usd"].as_str().unwrap().parse().unwrap();
    assert_eq!(said["amount_nano_usd"], cost.nanos());
    assert_eq!(said["record"]["lines"], closed["lines"]);
    assert_eq!(said["record"]["attempts"].as_array().unwrap().len(), 1);
    for ((body, answer), receipt) in sent.iter().zip(&answers).zip([&one, &other]) {
        let record = &statement(receipt)["record"];
        assert_eq!(record["request_sha256"], sha256(body.to_string().as_bytes()));
        assert_eq!(record["response_sha256"], sha256(&answer.bytes));
    }
    for operators in ["provider_cost", "unbilled", "overrun"] {
        assert!(!one["statement"].as_str().unwrap().contains(operators), "{said}");
    }

    let desk = Desk::new();
    let keys = desk.put("keys.json", &found(&app, "/.well-known/truerelay-log-keys.json").await);
    let with_keys: &[(&str, &Path)] = &[("--keys", &keys)];
    for whole in [&one, &other] {
        let (holds, output) = desk.verify(whole, with_keys);
        assert!(holds && output.contains("the receipt holds"), "{output}");
    }
    let (holds, output) = desk.verify(&one, &[]);
    assert!(holds && output.contains("--keys"), "{output}");

    let changes: &[(&str, Value, &str)] = &[
        (
            "/statement",
            one["statement"].as_str().unwrap().replacen(':', ": ", 1).into(),
            "statement",
        ),
        ("/statement", other["statement"].clone(), "statement"),
        ("/salt", other["salt"].clone(), "statement"),
        ("/leaf", other["leaf"].clone(), "statement"),
        (
            "/batch/size",
            json!(one["batch"]["size"].as_u64().unwrap() + 1),
            "log path",
        ),
        ("/batch/root", one["head"]["root"].clone(), "batch path"),
        ("/batch/id", json!("00000000-0000-0000-0000-000000000001"), "log path"),
        (
            "/log/index",
            json!(one["log"]["index"].as_u64().unwrap() + 1),
            "log path",
        ),
        ("/head/root", one["leaf"].clone(), "log path"),
        (
            "/head/at_ms",
            json!(one["head"]["at_ms"].as_i64().unwrap() - 1),
            "signature",
        ),
        ("/head/signature", json!("00".repeat(64)), "signature"),
        ("/head/key", json!("00".repeat(16)), "key"),
        ("/format", json!("truerelay-receipt/0"), "format"),
        ("/batch/path", json!("x"), "format"),
    ];
    for (place, value, refused_at) in changes {
        let mut changed = one.clone();
        *changed.pointer_mut(place).unwrap() = value.clone();
        let (holds, output) = desk.verify(&changed, with_keys);
        let wanted = format!("REFUSED at the {refused_at}:");
        assert!(!holds && output.contains(&wanted), "{place}: {output}");
    }
    // each with the proof of the other
    let mut swapped = one.clone();
    for part in ["batch", "log", "head"] {
        swapped[part] = other[part].clone();
    }
    assert_ne!(swapped, one);
    assert!(!desk.verify(&swapped, with_keys).0);
    // a list of keys that retired this one before
    let mut retired = found(&app, "/.well-known/truerelay-log-keys.json").await;
    retired["keys"][0]["retired_at_ms"] = one["head"]["at_ms"].clone();
    let retired = desk.put("retired.json", &retired);
    let (holds, output) = desk.verify(&one, &[("--keys", &retired)]);
    assert!(
        !holds && output.contains("REFUSED at the key") && output.contains("retired"),
        "{output}"
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_their_owners_and_there_are_some_of_refused_requests_too() {
    let mut app = TestApp::start().await;
    let (_, stranger) = app.tenant_with("0", KeyOptions::default()).await;
    let request = app.client().openai(&openai_body(false)).await.request_id();
    receipt(&app.client(), &request).await;
    let path = format!("/v1/requests/{request}/receipt");
    let answer = app.client_with(&stranger).get(&path).await;
    assert_eq!(answer.status().as_u16(), 404);
    assert_eq!(public(&app, &path).await.0, 401);
    let unknown = format!("/v1/requests/req_{}/receipt", "0".repeat(32));
    assert_eq!(app.client().get(&unknown).await.status().as_u16(), 404);
    assert_eq!(app.client().get("/v1/requests/x/receipt").await.status().as_u16(), 404);

    // no credit: refused, nothing charged, and that too is on record
    let poor = app.client_with(&stranger);
    let refused = poor.openai(&openai_body(false)).await;
    assert_eq!(refused.status.as_u16(), 402);
    poor.closed_request(&refused.request_id()).await;
    let said = statement(&receipt(&poor, &refused.request_id()).await);
    assert_eq!(
        (said["state"].as_str(), said["amount_nano_usd"].as_i64()),
        (Some("refused"), Some(0))
    );
    assert_eq!(said["reason"], "insufficient_credit");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_only_grows_and_everybody_can_see_that() {
    let mut app = TestApp::start().await;
    let desk = Desk::new();
    let mut heads: Vec<Value> = Vec::new();
    let mut last = Value::Null;
    for round in 0..4 {
        if round == 2 {
            app.kill();
            app.restart().await;
        }
        let answer = app.client().openai(&openai_body(round % 2 == 0)).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        let request = answer.request_id();
        last = receipt(&app.client(), &request).await;
        let log = found(&app, "/v1/log").await;
        assert_eq!(log["logs"].as_array().unwrap().len(), 1, "{log}");
        heads.push(log["head"].clone());
    }
    let keys = desk.put("keys.json", &found(&app, "/.well-known/truerelay-log-keys.json").await);
    let size = last["head"]["size"].as_u64().unwrap();
    for head in &heads {
        let older = head["size"].as_u64().unwrap();
        assert_eq!(&found(&app, &format!("/v1/log/heads/{older}")).await, head);
        let (from, to) = (older.min(size), older.max(size));
        let proof = desk.put(
            "proof.json",
            &found(&app, &format!("/v1/log/consistency?from={from}&to={to}")).await,
        );
        let head_file = desk.put("head.json", head);
        let more: &[(&str, &Path)] = &[
            ("--keys", &keys),
            ("--older-head", &head_file),
            ("--consistency", &proof),
        ];
        let (holds, output) = desk.verify(&last, more);
        assert!(holds && output.contains("consistent with the head"), "{output}");
    }
    let (status, export) = app.command(&["ledger", "export-log"]);
    assert!(status.success(), "{export}");
    let check = |lines: &[&str]| {
        let path = desk.folder.path().join("export.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let arguments = [
            "receipt",
            "verify-log",
            path.to_str().unwrap(),
            "--keys",
            keys.to_str().unwrap(),
        ];
        let (status, output) = Process::run(&arguments, &[]);
        (status.success(), output)
    };
    let lines: Vec<&str> = export.lines().filter(|line| line.starts_with('{')).collect();
    assert!(check(&lines).0, "{:?}", check(&lines));
    let entry = lines.iter().position(|line| line.contains("\"entry\"")).unwrap();
    let mut dropped = lines.clone();
    dropped.remove(entry);
    assert!(
        check(&dropped).1.contains("REFUSED at the order"),
        "{:?}",
        check(&dropped)
    );
    let flipped = lines[entry].replace("\"leaves\":", "\"leaves\":1");
    let mut changed = lines.clone();
    changed[entry] = &flipped;
    assert!(
        check(&changed).1.contains("REFUSED at the log path"),
        "{:?}",
        check(&changed)
    );

    // a fork: somebody was shown another log of the same size, under the same key
    let mut forked = heads[0].clone();
    forked["root"] = last["leaf"].clone();
    let (from, fork) = (forked["size"].as_u64().unwrap(), desk.put("fork.json", &forked));
    let proof = desk.put(
        "proof.json",
        &found(&app, &format!("/v1/log/consistency?from={from}&to={size}")).await,
    );
    let (holds, output) = desk.verify(&last, &[("--older-head", &fork), ("--consistency", &proof)]);
    assert!(!holds && output.contains("REFUSED at the consistency"), "{output}");

    let entries = found(&app, "/v1/log/entries?from=0").await;
    let listed = entries["entries"].as_array().unwrap();
    assert_eq!(listed.len() as u64, entries["size"].as_u64().unwrap());
    let place = last["log"]["index"].as_u64().unwrap() as usize;
    assert_eq!(listed[place]["batch"], last["batch"]["id"]);
    assert_eq!(listed[place]["root"], last["batch"]["root"]);
    assert_eq!(listed[place]["leaves"], last["batch"]["size"]);
    let today = domain::clock::UnixMs(heads[0]["at_ms"].as_i64().unwrap()).to_rfc3339();
    let day = found(&app, &format!("/v1/log/heads?day={}", &today[..10])).await;
    assert!(
        day["size"].as_u64().unwrap() <= heads[0]["size"].as_u64().unwrap(),
        "{day}"
    );
    for (path, status) in [
        ("/v1/log/heads?day=2020-01-01", 404),
        ("/v1/log/heads?day=x", 400),
        ("/v1/log/heads/999999", 404),
        ("/v1/log/heads/x", 404),
        ("/v1/log/consistency?from=2&to=1", 400),
        ("/v1/log/consistency?from=0&to=999999", 400),
        ("/v1/log/consistency", 400),
        ("/v1/log/entries?from=-1", 400),
        (
            "/v1/log/entries?from=18446744073709551615&limit=18446744073709551615",
            200,
        ),
    ] {
        assert_eq!(public(&app, path).await.0, status, "{path}");
    }
    app.finish().await;
}
