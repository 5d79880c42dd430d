//! Running it: health, metrics, starting with the wrong things.

use serde_json::Value;
use support::{TestApp, TestAppOptions, openai_body};

/// The log's lines, each of which must be an object of JSON.
fn log_lines(log: &str) -> Vec<Value> {
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    assert!(lines.iter().all(Value::is_object));
    lines
}

/// Sends one request that claims to come from elsewhere; answers its id and the line that it left.
async fn forwarded_request(app: &mut TestApp) -> (String, Value) {
    let bearer = format!("Bearer {}", app.seeded.key);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-forwarded-for", "198.51.100.7, 203.0.113.9"),
    ];
    let body = openai_body(false).to_string().into_bytes();
    let answer = app.client().raw("/v1/chat/completions", &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.request_id();
    app.closed(&id).await;
    let lines = log_lines(&app.process().log());
    let line = lines
        .iter()
        .find(|line| line["message"] == "request" && line["request_id"] == id.as_str());
    (id.clone(), line.unwrap_or_else(|| panic!("no line for {id}")).clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_leaves_a_line_with_its_id_and_the_connections_address() {
    let mut app = TestApp::start().await;
    let (_, line) = forwarded_request(&mut app).await;
    assert_eq!(line["route"], "/v1/chat/completions");
    assert_eq!((&line["listener"], &line["status"]), (&"relay".into(), &200.into()));
    assert_eq!(line["client"], "127.0.0.1", "a stranger's header is ignored");
    let lines = log_lines(&app.process().log());
    let served = |line: &&Value| line["message"] == "request";
    for line in lines.iter().filter(served) {
        let id = line["request_id"].as_str();
        assert!(id.is_some_and(|id| id.starts_with("req_")), "{line}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_configured_proxy_the_forwarded_address_counts() {
    let mut app = TestApp::start_with(TestAppOptions {
        environment: vec![(
            "TRUERELAY__SERVER__TRUSTED_PROXIES".to_owned(),
            "127.0.0.0/8,203.0.113.0/24".to_owned(),
        )],
        ..TestAppOptions::default()
    })
    .await;
    let (_, line) = forwarded_request(&mut app).await;
    assert_eq!(line["client"], "198.51.100.7");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_on_the_command_line_is_in_the_audit_log_too() {
    let mut app = TestApp::start().await;
    let create = ["operator", "token", "create", "--name", "typed", "--role", "read-only"];
    let (status, output) = app.command(&create);
    assert!(status.success(), "{output}");
    let secret = output
        .split_whitespace()
        .find(|word| word.starts_with("op-tr-"))
        .expect("it is shown once");
    app.must_not_leak(secret.to_owned());
    let page = app.admin.get("/audit?limit=1").await;
    let row = &page["data"][0];
    assert_eq!(row["action"], "operator_token.create", "{row}");
    assert_eq!(row["actor"], "system:command-line");
    assert_eq!(row["after"]["name"], "typed");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_be_given_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = Vec::new();
    for (name, digits) in [("TRUERELAY_ENCRYPTION_KEY", "1b"), ("TRUERELAY_PEPPER", "2c")] {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("test:{}\n", digits.repeat(32))).unwrap();
        // an empty variable counts as none
        environment.push((name.to_owned(), String::new()));
        environment.push((format!("{name}_FILE"), file.display().to_string()));
    }
    let app = TestApp::start_with(TestAppOptions {
        environment,
        ..TestAppOptions::default()
    })
    .await;
    assert_eq!(app.client().openai(&openai_body(false)).await.status, 200);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_it_is_up_and_ready_and_what_it_does() {
    let app = TestApp::start().await;
    for url in [app.relay_url(), app.admin.url()] {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(
                reqwest::get(format!("{url}{path}")).await.unwrap().status(),
                200,
                "{url}{path}"
            );
        }
    }
    let answer = app.client().openai(&openai_body(true)).await;
    app.closed(&answer.request_id()).await;
    let metrics = app.admin.metrics().await;
    for begins in [
        "truerelay_requests_total{",
        "truerelay_http_responses_total{",
        "truerelay_http_response_head_seconds_bucket{",
        "truerelay_upstream_first_byte_seconds_bucket{",
        "truerelay_hold_wait_seconds_bucket{",
        "truerelay_ledger_batch_items_bucket{",
        "truerelay_requests_in_flight ",
        "truerelay_credentials_resting ",
        "truerelay_ready 1",
    ] {
        let is_told = metrics.lines().any(|line| line.starts_with(begins));
        assert!(is_told, "{begins} in {metrics}");
    }
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_at_start() {
    let mut app = TestApp::start().await;
    app.kill();
    for (name, what) in [
        ("TRUERELAY_ENCRYPTION_KEY", "encryption"),
        ("TRUERELAY_PEPPER", "pepper"),
    ] {
        let wrong = format!("test:{}", "3d".repeat(32));
        let (status, output) = app.command_with(&["serve"], &[(name.to_owned(), wrong)]);
        assert!(!status.success());
        assert!(output.contains(what) && output.contains("original key"), "{output}");
    }
    app.restart().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_serves_one_process() {
    let app = TestApp::start().await;
    let (status, output) = app.command(&["serve"]);
    assert!(!status.success());
    assert!(output.contains("in use"), "{output}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_release_is_refused() {
    let mut app = TestApp::start().await;
    app.kill();
    app.execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_future', 0)")
        .await;
    let (status, output) = app.command(&["serve"]);
    assert!(!status.success());
    assert!(
        output.contains("m29990101_000001_future") && output.contains("newer release"),
        "{output}"
    );
    app.execute("DELETE FROM seaql_migrations WHERE version = 'm29990101_000001_future'")
        .await;
    app.restart().await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_can_be_checked_and_printed_without_its_secrets() {
    let app = TestApp::start().await;
    let (status, output) = app.command(&["config", "check"]);
    assert!(status.success(), "{output}");
    let (status, output) = app.command(&["config", "print"]);
    assert!(status.success(), "{output}");
    assert!(output.contains("listen"), "{output}");
    assert!(
        !output.contains(&"1b".repeat(32)) && !output.contains(&"2c".repeat(32)),
        "{output}"
    );
    let (status, output) = app.command_with(
        &["config", "check"],
        &[("TRUERELAY__RELAY__MAX_ATTEMPTS".to_owned(), "0".to_owned())],
    );
    assert!(!status.success() && output.contains("max_attempts"), "{output}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_never_changed() {
    let app = TestApp::start().await;
    let answer = app.client().openai(&openai_body(false)).await;
    app.closed(&answer.request_id()).await;
    for sql in [
        "UPDATE entry SET amount = amount + 1",
        "DELETE FROM entry",
        "UPDATE tx SET kind = 'x'",
        "DELETE FROM charge",
        "UPDATE audit SET action = 'x'",
        "UPDATE price_version SET note = 'x'",
        "DELETE FROM price_item",
    ] {
        let error = app.try_execute(sql).await.expect_err(sql);
        assert!(error.contains("insert-only"), "{sql}: {error}");
    }
    app.finish().await;
}
