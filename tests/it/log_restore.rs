//! The transparency log after a restore from backup: what was published stays true, or another log begins and says why.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Process, TestApp, TestAppOptions, openai_body};

/// Receipts of some requests, which are all published then.
async fn receipts(app: &TestApp, count: usize) -> Vec<Value> {
    let mut receipts = Vec::new();
    for _ in 0..count {
        let request = app.client().openai(&openai_body(false)).await.request_id();
        app.closed(&request).await;
        receipts.push(receipt(app, &request).await);
    }
    receipts
}

async fn receipt(app: &TestApp, request: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = app.client().get(&format!("/v1/requests/{request}/receipt")).await;
        if answer.status().as_u16() == 200 {
            return answer.json().await;
        }
        assert!(Instant::now() < deadline, "no receipt: {}", answer.json().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn log(app: &TestApp) -> Value {
    let answer = reqwest::get(format!("{}/v1/log", app.relay_url())).await.unwrap();
    answer.json().await.unwrap()
}

/// Waits until the public feed tells of so many logs that began anew.
async fn restarts(app: &TestApp, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = reqwest::get(format!("{}/v1/incidents", app.relay_url())).await.unwrap();
        let feed: Value = answer.json().await.unwrap();
        let mut told = feed["data"].as_array().unwrap().clone();
        told.retain(|incident| incident["kind"] == "log_restarted");
        if told.len() == count {
            return told;
        }
        assert!(Instant::now() < deadline, "{feed}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn stop(app: &mut TestApp) {
    app.process().signal("TERM");
    assert!(app.process().wait(Duration::from_secs(60)).success());
}

fn assert_log_is_clean(app: &TestApp) {
    let (status, report) = app.command(&["ledger", "verify", "--log"]);
    assert!(status.success(), "{report}");
}

/// Asks for the receipt again, and checks that the log in use is still the one of the receipt that was given before.
async fn assert_stands(app: &TestApp, before: &Value) {
    let statement: Value = serde_json::from_str(before["statement"].as_str().unwrap()).unwrap();
    let again = receipt(app, statement["request"].as_str().unwrap()).await;
    assert_eq!(&again, before);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.display().to_string()
    };
    let head = log(app).await["head"].clone();
    let (from, to) = (&before["head"]["size"], &head["size"]);
    let address = format!("{}/v1/log/consistency?from={from}&to={to}", app.relay_url());
    let proof: Value = reqwest::get(address).await.unwrap().json().await.unwrap();
    let (receipt, head, proof) = (file("receipt", before), file("head", &head), file("proof", &proof));
    let arguments = [
        "receipt",
        "verify",
        &receipt,
        "--older-head",
        &head,
        "--consistency",
        &proof,
    ];
    let (status, output) = Process::run(&arguments, &[]);
    assert!(status.success(), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_put_back_from_the_copies() {
    let mut app = TestApp::start().await;
    let mut before = receipts(&app, 2).await;
    let backup = app.backup().await;
    before.extend(receipts(&app, 3).await);
    app.admin.grant(&app.seeded.tenant, "1").await;
    before.extend(receipts(&app, 1).await);
    stop(&mut app);
    app.restore(&backup);
    let (status, told) = app.command(&["ledger", "replay"]);
    assert!(status.success(), "{told}");
    assert!(
        told.contains("transparency log:") && told.contains("put back"),
        "{told}"
    );
    app.restart().await;
    for receipt in &before {
        assert_stands(&app, receipt).await;
    }
    assert_eq!(log(&app).await["logs"].as_array().unwrap().len(), 1);
    receipts(&app, 1).await;
    assert_log_is_clean(&app);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_contradicts_its_copies_ends_and_another_one_says_why() {
    let mut app = TestApp::start_with(TestAppOptions {
        config: "[incidents]\ncheck_every_s = 1\n".to_owned(),
        ..TestAppOptions::default()
    })
    .await;
    let kept = receipts(&app, 1).await.remove(0);
    let backup = app.backup().await;
    receipts(&app, 2).await;
    stop(&mut app);
    app.restore(&backup);
    // the copies are somewhere else, and the log goes on as if nothing had been published since
    let (folder, away) = (app.data_folder().join("log"), app.data_folder().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    let (status, told) = app.command(&["ledger", "replay"]);
    assert!(status.success(), "{told}");
    app.restart().await;
    assert_stands(&app, &kept).await;
    let forked = receipts(&app, 2).await.remove(1);
    stop(&mut app);
    for file in std::fs::read_dir(&away).unwrap() {
        let file = file.unwrap();
        std::fs::rename(file.path(), folder.join(file.file_name())).unwrap();
    }
    app.restart().await;
    let public = log(&app).await;
    let logs = public["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 2, "{public}");
    assert!(
        logs[1]["reason"].as_str().unwrap().contains("says otherwise"),
        "{public}"
    );
    assert!(app.process().log().contains("A NEW TRANSPARENCY LOG BEGINS"));
    let told = restarts(&app, 1).await.remove(0);
    let text = told["updates"][0]["text"].as_str().unwrap();
    for what in [&logs[0]["id"], &logs[1]["id"], &logs[1]["reason"]] {
        assert!(text.contains(what.as_str().unwrap()), "{told}");
    }
    assert!(!text.contains(app.data_folder().to_str().unwrap()), "{told}");
    // receipts of the old log still lead to its heads, and new ones are of the new log
    let request: Value = serde_json::from_str(forked["statement"].as_str().unwrap()).unwrap();
    assert_eq!(receipt(&app, request["request"].as_str().unwrap()).await, forked);
    let fresh = receipts(&app, 1).await.remove(0);
    assert_eq!(fresh["head"]["log"], logs[1]["id"]);
    assert_ne!(fresh["head"]["log"], kept["head"]["log"]);
    assert_log_is_clean(&app);
    stop(&mut app);
    app.restart().await;
    assert_eq!(log(&app).await["logs"].as_array().unwrap().len(), 2, "it is said once");
    // an operator has said what there was to say
    let incident = told["id"].as_str().unwrap();
    app.admin
        .create(
            &format!("/incidents/{incident}/resolve"),
            json!({ "text": "A backup was restored." }),
        )
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(restarts(&app, 1).await[0]["state"], "resolved");
    app.finish().await;
}
