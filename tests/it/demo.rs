//! `truerelay demo`, as a new user meets it: the lines that it prints are pasted into a shell.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use support::{Process, free_port};

fn start(folder: &Path, port: u16, admin_port: u16, log: &str) -> Process {
    let data = folder.join("demo");
    let arguments = [
        "demo",
        "--data",
        data.to_str().unwrap(),
        "--port",
        &port.to_string(),
        "--admin-port",
        &admin_port.to_string(),
    ];
    Process::start(&arguments, &[], folder.join(log))
}

fn wait_for_banner(process: &mut Process) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let log = process.log();
        if log.contains("Ctrl-C stops it.") {
            return log;
        }
        assert!(!process.has_ended(), "the demo ended:\n{log}");
        assert!(Instant::now() < deadline, "the demo does not start:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn paste(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
    assert!(
        output.status.success(),
        "{line}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_printed_lines_stream_an_answer_and_show_its_cost() {
    let folder = tempfile::tempdir().unwrap();
    let (port, admin_port) = (free_port(), free_port());
    let mut demo = start(folder.path(), port, admin_port, "first.log");
    let banner = wait_for_banner(&mut demo);
    let lines: Vec<&str> = banner.lines().filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(lines.len(), 2, "{banner}");

    let streamed = paste(lines[0]);
    assert!(
        streamed.contains("chat.completion.chunk") && streamed.trim_end().ends_with("data: [DONE]"),
        "{streamed}"
    );
    // the end is committed a moment after the stream's last byte; nobody pastes faster than that
    let cost = (0..50)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            paste(lines[1])
        })
        .find(|shown| shown.contains("\"state\":\"settled\""))
        .expect("the request is settled");
    assert!(
        cost.contains("\"cost_usd\":\"0.00") && cost.contains("\"available_usd\":\"4.99"),
        "{cost}"
    );

    let (status, output) = Process::run(
        &[
            "demo",
            "--data",
            folder.path().join("other").to_str().unwrap(),
            "--port",
            &port.to_string(),
        ],
        &[],
    );
    assert!(!status.success());
    assert!(
        output.contains(&port.to_string()) && output.contains("in use"),
        "{output}"
    );
    let (status, output) = Process::run(
        &[
            "demo",
            "--data",
            folder.path().join("demo").to_str().unwrap(),
            "--port",
            &free_port().to_string(),
        ],
        &[],
    );
    assert!(!status.success());
    assert!(output.contains("in use"), "{output}");

    demo.signal("INT");
    let status = demo.wait(Duration::from_secs(30));
    assert!(status.success(), "{status}\n{}", demo.log());

    let mut again = start(folder.path(), port, admin_port, "second.log");
    let second = wait_for_banner(&mut again);
    assert!(second.contains("had a demo before"), "{second}");
    again.signal("TERM");
    assert!(again.wait(Duration::from_secs(30)).success());
}

#[test]
fn it_does_not_listen_to_the_world() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let (status, output) = Process::run(&["demo", "--data", data.to_str().unwrap(), "--listen", "0.0.0.0"], &[]);
    assert!(!status.success());
    assert!(output.contains("loopback"), "{output}");
}
