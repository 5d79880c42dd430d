//! Where foreign code comes from, and under which licence.

use crate::{assert_none, licence::is_accepted, metadata, root};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The lock file names the packages of every platform, the graph only those of this one.
#[test]
fn every_dependency_comes_from_crates_io_with_a_checksum() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    let mut findings = Vec::new();
    let mut foreign = 0;
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let prefix = format!("{name} = \"");
            package
                .lines()
                .find_map(|line| line.strip_prefix(&prefix)?.strip_suffix('"'))
        };
        let name = field("name").expect("a package has a name");
        match field("source") {
            None => {
                if !metadata().workspace_packages().iter().any(|ours| *ours.name == name) {
                    findings.push(format!("{name} comes from a path outside the workspace"));
                }
            }
            Some(CRATES_IO) if field("checksum").is_some() => foreign += 1,
            Some(CRATES_IO) => findings.push(format!("{name} has no checksum")),
            Some(source) => findings.push(format!("{name} comes from {source}")),
        }
    }
    assert!(foreign > 0, "the lock file was not understood");
    assert_none(&findings);
}

#[test]
fn every_dependency_has_an_accepted_licence() {
    let ours = metadata().workspace_packages();
    let mut findings = Vec::new();
    for package in metadata()
        .packages
        .iter()
        .filter(|package| !ours.iter().any(|own| own.id == package.id))
    {
        match package.license.as_deref() {
            Some(expression) if is_accepted(expression) => {}
            Some(expression) => findings.push(format!("{} {}: {expression}", package.name, package.version)),
            None => findings.push(format!("{} {} names no licence", package.name, package.version)),
        }
    }
    assert_none(&findings);
}

#[test]
fn our_crates_are_not_published_and_share_the_lints() {
    let mut findings = Vec::new();
    for package in metadata().workspace_packages() {
        if package.publish.as_deref() != Some(&[]) {
            findings.push(format!(
                "{} may be published: set publish.workspace = true",
                package.name
            ));
        }
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a member has a manifest");
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{} does not take the lints of the workspace", package.name));
        }
    }
    assert_none(&findings);
}

#[test]
fn one_tls_stack_is_linked() {
    let unwanted = ["openssl-sys", "native-tls", "aws-lc-sys"];
    let findings: Vec<String> = metadata()
        .packages
        .iter()
        .filter(|package| unwanted.contains(&package.name.as_str()))
        .map(|package| format!("{} is in the tree: TLS is rustls with ring", package.name))
        .collect();
    assert_none(&findings);
}
