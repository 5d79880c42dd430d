//! The script that customers recompute a charge with, on receipts and price lists as they are served.

use std::{path::Path, process::Command};

use domain::clock::UnixMs;
use serde_json::{Value, json};
use support::{TestApp, anthropic_body, openai_body};

use crate::receipts::{Desk, receipt};

/// Runs the script; answers whether it agrees with the receipt, and what it says.
pub fn recompute(receipt: &Path, prices: &Path) -> (bool, String) {
    let python = std::env::var("TRUERELAY_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recompute.py");
    let output = Command::new(python)
        .args(["-B", script])
        .args([receipt, prices])
        .output()
        .expect("python3 runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// The public price list as it was when the request was admitted.
pub async fn prices_of(app: &TestApp, statement: &Value) -> Value {
    let admitted_at = UnixMs(statement["record"]["started_at"].as_i64().unwrap());
    let url = format!("{}/v1/pricing?at={}", app.relay_url(), admitted_at.to_rfc3339());
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_for_customers_agrees_with_what_was_charged_and_sees_what_was_not() {
    let app = TestApp::start().await;
    let client = app.client();
    let desk = Desk::new();
    let answers = [
        client.openai(&openai_body(true)).await,
        client.openai(&openai_body(false)).await,
        client.anthropic(&anthropic_body(true)).await,
    ];
    for answer in answers {
        let mut proved = receipt(&client, &answer.request_id()).await;
        let mut statement: Value = serde_json::from_str(proved["statement"].as_str().unwrap()).unwrap();
        let charged = statement["amount_nano_usd"].as_i64().unwrap();
        assert!(charged > 0, "{statement}");
        let prices = desk.put("prices.json", &prices_of(&app, &statement).await);
        let (agrees, said) = recompute(&desk.put("receipt.json", &proved), &prices);
        assert!(agrees && said.contains(&charged.to_string()), "{said}");

        statement["amount_nano_usd"] = json!(charged + 1);
        proved["statement"] = json!(statement.to_string());
        let (agrees, said) = recompute(&desk.put("receipt.json", &proved), &prices);
        assert!(!agrees && said.contains("THEY DIFFER"), "{said}");
    }
    app.finish().await;
}
