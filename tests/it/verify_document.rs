//! docs/verify.md, as a customer follows it: its blocks are pasted into one shell.

use std::{path::Path, process::Command};

use support::{OPENAI_MODEL, TestApp};

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verify.md"));
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recompute.py");

/// The blocks of a numbered step, in order.
fn blocks_from(step: usize) -> Vec<&'static str> {
    let (_, rest) = DOCUMENT.split_once(&format!("\n## {step}. ")).expect("the step");
    rest.split("```\n").skip(1).step_by(2).collect()
}

/// What the shell says to all of them. It stops at the first command that fails.
fn paste(blocks: &[&str], environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-ec", &blocks.concat()])
        .current_dir(folder.path())
        .envs(environment.iter().copied())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_the_document_works_when_it_is_pasted() {
    let app = TestApp::start().await;
    let test = std::env::current_exe().unwrap();
    let programs = test.parent().and_then(Path::parent).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let (base, key) = (app.relay_url().to_owned(), app.seeded.key.clone());
    let said = tokio::task::spawn_blocking(move || {
        let environment = [
            ("PATH", path.as_str()),
            ("BASE", &base),
            ("KEY", &key),
            ("MODEL", OPENAI_MODEL),
            ("RECOMPUTE", SCRIPT),
        ];
        paste(&blocks_from(1), &environment)
    })
    .await
    .unwrap();
    for expected in [
        "request_sha256 True",
        "response_sha256 True",
        "they agree",
        "consistent with the head of size",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(said.matches("the receipt holds").count(), 2, "{said}");
    let served = said
        .lines()
        .find(|line| line.contains(" of ["))
        .expect("step 4 answers");
    let (name, names) = served.split_once(" of ").unwrap();
    assert!(names.contains(&format!("'{name}'")), "{served}");
    app.finish().await;
}
