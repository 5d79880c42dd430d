//! The official SDKs as clients. The checks themselves are in `tests/sdk`, in Python.

use std::process::Command;

use support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_sdks_find_what_they_expect() {
    let python = std::env::var("TRUERELAY_TEST_PYTHON")
        .expect("TRUERELAY_TEST_PYTHON names a Python with the SDKs: run the tests by `make test`");
    let app = TestApp::start().await;
    let simulator = app
        .admin
        .get(&format!("/providers/{}", app.seeded.openai_provider))
        .await["base_url"]
        .as_str()
        .unwrap()
        .trim_end_matches("/v1")
        .to_owned();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk");
    let (url, key) = (app.relay_url().to_owned(), app.seeded.key.clone());
    let output = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .current_dir(folder)
            .args(["-m", "unittest", "-v"])
            .env("TRUERELAY_URL", url)
            .env("TRUERELAY_KEY", key)
            .env("SIMULATOR_URL", simulator)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect("Python runs")
    })
    .await
    .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{text}");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Ran ") && !text.contains("Ran 0 tests"), "{text}");
    app.wait_for_holds(0).await;
    app.finish().await;
}
