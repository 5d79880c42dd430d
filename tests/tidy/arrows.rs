//! Which of our crates may use which, and which foreign crates are reserved for whom.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Package};

use crate::{assert_none, metadata};

/// Every crate of ours with all of ours that it may use. A crate that is not here must be added here first.
const MAY_USE: &[(&str, &[&str])] = &[
    // layer 0
    ("domain", &[]),
    ("migrations", &[]),
    ("transparency", &["domain"]),
    // layer 1
    ("store", &["domain", "migrations"]),
    ("transparency-log", &["domain", "store", "transparency"]),
    ("outbound", &["domain"]),
    ("simulator", &["domain"]),
    // a tool of the tests: knows nothing of ours
    ("fault-proxy", &[]),
    // layer 2: never each other
    ("llm", &["domain", "store", "outbound"]),
    ("accounts", &["domain", "store", "outbound"]),
    ("catalog", &["domain", "store", "outbound"]),
    (
        "ledger",
        &["domain", "store", "outbound", "transparency", "transparency-log"],
    ),
    ("rate-limiter", &["domain", "store", "outbound"]),
    ("incidents", &["domain", "store", "outbound"]),
    ("request-log", &["domain", "store", "outbound"]),
    // layer 3
    (
        "relay",
        &[
            "domain",
            "store",
            "outbound",
            "llm",
            "accounts",
            "catalog",
            "ledger",
            "incidents",
            "rate-limiter",
            "request-log",
            "transparency",
            "transparency-log",
        ],
    ),
    // layer 4: never the relay
    (
        "admin-api",
        &[
            "domain",
            "store",
            "outbound",
            "llm",
            "accounts",
            "catalog",
            "ledger",
            "incidents",
            "rate-limiter",
            "request-log",
        ],
    ),
];

/// Layer 5: may use everything.
const TOP: &[&str] = &["server", "tests"];

/// Foreign crates that only some of ours may use, and the reason.
const RESERVED: &[(&str, &[&str], &str)] = &[
    (
        "actix-web",
        &["relay", "admin-api", "simulator", "server", "fault-proxy"],
        "only the crates with an HTTP API know the web framework",
    ),
    (
        "hyper-util",
        &["outbound"],
        "HTTP clients are built in outbound only, where the address guard is",
    ),
    (
        "hyper-rustls",
        &["outbound"],
        "HTTP clients are built in outbound only, where the address guard is",
    ),
    (
        "reqwest",
        &["outbound"],
        "HTTP clients are built in outbound only, where the address guard is",
    ),
    (
        "awc",
        &[],
        "HTTP clients are built in outbound only, where the address guard is",
    ),
    ("redis", &["rate-limiter"], "Redis belongs to the rate limiter"),
    ("deadpool-redis", &["rate-limiter"], "Redis belongs to the rate limiter"),
    (
        "sea-orm",
        &[
            "store",
            "transparency-log",
            "accounts",
            "catalog",
            "ledger",
            "incidents",
            "request-log",
        ],
        "only the store and the crates that own tables speak SQL",
    ),
    (
        "sqlx",
        &["store", "accounts", "catalog", "ledger", "incidents", "request-log"],
        "only the store and the crates that own tables speak SQL",
    ),
    (
        "sea-orm-migration",
        &["store", "migrations"],
        "the schema changes in migrations only",
    ),
    ("anyhow", &["server"], "a library names its errors"),
    ("clap", &["server"], "only the program has a command line"),
    ("config", &["server"], "only the program reads configuration"),
];

/// What our crates use in the product. What only their tests use is free, but for the arrows between our own.
fn uses(package: &Package, with_tests: bool) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| with_tests || dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.clone())
        .collect()
}

#[test]
fn our_crates_use_only_what_lies_below_them() {
    let ours: Vec<&Package> = metadata().workspace_packages();
    let names: BTreeSet<String> = ours.iter().map(|package| package.name.to_string()).collect();
    let mut findings = Vec::new();
    for package in &ours {
        let name = package.name.to_string();
        if TOP.contains(&name.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(crate_name, _)| *crate_name == name) else {
            findings.push(format!(
                "{name} has no line in the table of arrows: decide what it may use"
            ));
            continue;
        };
        for used in uses(package, true).intersection(&names) {
            if !allowed.contains(&used.as_str()) {
                findings.push(format!("{name} must not use {used}"));
            }
        }
    }
    for (name, _) in MAY_USE {
        if !names.contains(*name) {
            findings.push(format!("{name} is in the table of arrows and does not exist"));
        }
    }
    assert_none(&findings);
}

#[test]
fn reserved_crates_stay_where_they_belong() {
    let mut findings = Vec::new();
    for package in metadata()
        .workspace_packages()
        .iter()
        .filter(|package| *package.name != "tests")
    {
        let used = uses(package, false);
        for (reserved, allowed, reason) in RESERVED {
            if used.contains(*reserved) && !allowed.contains(&package.name.as_str()) {
                findings.push(format!("{} must not use {reserved}: {reason}", package.name));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn wire_formats_open_no_socket() {
    let llm = metadata()
        .workspace_packages()
        .into_iter()
        .find(|package| *package.name == "llm")
        .expect("llm exists");
    let sockets = ["tokio", "hyper", "outbound", "actix-web", "reqwest", "store"];
    let used = uses(llm, false);
    let found: Vec<String> = sockets
        .iter()
        .filter(|name| used.contains(**name))
        .map(|name| format!("llm must not use {name}: bytes in, bytes out"))
        .collect();
    assert_none(&found);
}
