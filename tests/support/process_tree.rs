//! Signals to a process and all that it has started, for servers that consist of several.

use std::process::{Command, Stdio};

/// Sends a signal by name to the process and all its descendants.
pub fn signal_all(root: u32, name: &str) {
    // stopped, a process starts no more children and loses none to another parent while they are looked for
    let family = family_of(root, name != "CONT");
    if name != "STOP" {
        for member in family {
            signal(member, name);
        }
    }
}

/// Sends a signal by name. A process that has ended meanwhile needs none.
pub fn signal(process: u32, name: &str) {
    Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("kill runs");
}

fn family_of(root: u32, stop: bool) -> Vec<u32> {
    let mut family = vec![root];
    let mut seen = 0;
    while let Some(member) = family.get(seen).copied() {
        if stop {
            signal(member, "STOP");
        }
        family.extend(children_of(member));
        seen += 1;
    }
    family
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| parent_of(*process) == Some(parent))
        .collect()
}

/// The fourth field of `/proc/PID/stat`; the second is a name in parentheses, which may hold anything.
fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}
