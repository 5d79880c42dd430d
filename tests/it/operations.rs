//! Running it: health, metrics, starting with the wrong things.

use support::{TestApp, openai_body};

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
    assert!(metrics.contains("truerelay_requests_total{"), "{metrics}");
    assert!(metrics.contains("truerelay_hold_wait_seconds"), "{metrics}");
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
