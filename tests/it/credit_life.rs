//! What becomes of credit that is not spent, and how a node watches over its books.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{TestApp, TestAppOptions, openai_body};

/// A node that looks at its books each second.
async fn watchful() -> TestApp {
    let setting = |name: &str| (format!("TRUERELAY__LEDGER__{name}"), "1".to_owned());
    TestApp::start_with(TestAppOptions {
        environment: vec![setting("AUDIT_EVERY_S"), setting("CLOSE_ABANDONED_HOLDS_EVERY_S")],
        ..TestAppOptions::default()
    })
    .await
}

async fn withdraw(app: &TestApp, key: &str, purpose: &str, amount_usd: &str) -> (StatusCode, Value) {
    let tenant = &app.seeded.tenant;
    let balance = app.admin.get(&format!("/tenants/{tenant}/balance")).await;
    let body = json!({
        "lot_id": balance["lots"][0]["id"], "amount_usd": amount_usd, "purpose": purpose,
        "reference": "case 7", "reason": "a test"
    });
    let path = format!("/tenants/{tenant}/withdrawals");
    let headers = [("idempotency-key", key)];
    app.admin.call_with(Method::POST, &path, Some(body), &headers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_by_the_clock_finds_what_was_tampered_with() {
    let mut app = watchful().await;
    app.wait_for_metric("truerelay_ledger_audit_clean 1").await;
    app.execute("UPDATE acct SET available = available + 1").await;
    app.wait_for_metric("truerelay_ledger_audit_clean 0").await;
    app.wait_for_metric("truerelay_ledger_audit_offences 1").await;
    for name in ["duration_seconds", "last_run_timestamp_seconds"] {
        app.wait_for_metric(&format!("truerelay_ledger_audit_{name} ")).await;
    }
    let (status, report) = app.command(&["ledger", "verify"]);
    assert!(!status.success(), "{report}");
    assert!(
        report.contains("FAILED  I2") && report.contains(&app.seeded.tenant),
        "{report}"
    );
    let tenant = app.seeded.tenant.clone();
    let log = app.process().log();
    let told = |line: &&str| line.contains("the books are not consistent") && line.contains(&tenant);
    assert!(log.lines().any(|line| told(&line)), "{log}");
    app.execute("UPDATE acct SET available = available - 1").await;
    app.wait_for_metric("truerelay_ledger_audit_clean 1").await;
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_was_put_aside_fails_the_audit() {
    let app = TestApp::start().await;
    app.assert_books_are_clean();
    app.execute(
        "INSERT INTO quarantine (request_id, tenant_id, node_id, boot, kind, item_json, error, at_ms) \
         SELECT tenant_id, tenant_id, tenant_id, tenant_id, 'end', '{}', 'it was too long', 1 FROM acct",
    )
    .await;
    let (status, report) = app.command(&["ledger", "verify"]);
    assert!(!status.success(), "{report}");
    assert!(
        report.contains("could not be written") && report.contains("it was too long"),
        "{report}"
    );
    assert!(
        report.contains("I14") && report.contains("waits for payments"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_that_has_expired_cannot_be_used() {
    let app = watchful().await;
    assert_eq!(app.client().openai(&openai_body(false)).await.status, 200);
    app.execute("UPDATE lot SET expires_at_ms = 1").await;
    app.wait_for_number("SELECT COUNT(*) FROM tx WHERE kind = 'expiry'", 1)
        .await;
    assert_eq!(app.client().openai(&openai_body(false)).await.status, 402);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_credit_cannot_be_used_until_it_is_released() {
    let app = TestApp::start().await;
    let (status, answer) = withdraw(&app, "1", "refund", "1").await;
    assert_eq!(
        (status.as_u16(), &answer["error"]["code"]),
        (422, &json!("rule_broken")),
        "the seeded credit is promotional: {answer}"
    );
    let (status, answer) = withdraw(&app, "2", "suspension", "5").await;
    assert_eq!(
        (status.as_u16(), &answer["moved_usd"]),
        (201, &json!("5.00")),
        "{answer}"
    );
    assert_eq!(app.client().openai(&openai_body(false)).await.status, 402);
    let (status, answer) = withdraw(&app, "3", "release", "5").await;
    assert_eq!(
        (status.as_u16(), &answer["available_usd"]),
        (201, &json!("5.00")),
        "{answer}"
    );
    let served = app.client().openai(&openai_body(false)).await;
    assert_eq!(served.status, 200, "{}", served.text());
    app.closed(&served.request_id()).await;
    let audit = app.admin.get("/audit?limit=2").await;
    for row in [&audit["data"][0], &audit["data"][1]] {
        assert_eq!(row["action"], "withdrawal.create", "{row}");
    }
    app.finish().await;
}
