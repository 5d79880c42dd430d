//! Layering, refusals and hiding, on the real default file.

use std::{collections::HashMap, io::Write};

use super::{Config, DEFAULTS, load};

const KEY: &str = "k1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load_text(text: &str, pairs: &[(&str, &str)]) -> anyhow::Result<Config> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it can be written");
    load(Some(file.path()), environment(pairs))
}

fn refusal(text: &str, pairs: &[(&str, &str)]) -> String {
    format!("{:#}", load_text(text, pairs).expect_err("it must be refused"))
}

#[test]
fn the_default_file_is_complete_and_says_the_crates_own_defaults() {
    let config = load(None, HashMap::new()).expect("the defaults are valid");
    assert_eq!(config.relay, relay::RelaySettings::default());
    assert_eq!(config.outbound.settings(), outbound::OutboundSettings::default());
    assert!(config.database.url.get().is_none());
    assert!(config.server.trusted_proxies.is_empty());
}

#[test]
fn the_file_overrides_the_defaults_and_the_environment_overrides_the_file() {
    let text = "[server]\nlisten = \"127.0.0.1:1000\"\nworkers = 3\n[relay]\nmax_attempts = 2\n";
    let config = load_text(
        text,
        &[
            ("TRUERELAY__SERVER__LISTEN", "127.0.0.1:2000"),
            ("TRUERELAY__SERVER__TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8"),
            ("TRUERELAY__OUTBOUND__PUBLIC_PORTS", "443"),
            ("TRUERELAY__DATABASE__MIGRATE_ON_START", "true"),
            ("TRUERELAY__RELAY__TOTAL_TIMEOUT_MS", "1234"),
            ("UNRELATED__SERVER__WORKERS", "9"),
            ("TRUERELAY_PEPPER", "is no setting of this kind"),
        ],
    )
    .expect("it is valid");
    assert_eq!(config.server.listen.port(), 2000);
    assert_eq!(config.server.workers, 3);
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.outbound.public_ports, [443]);
    assert!(config.database.migrate_on_start);
    assert_eq!((config.relay.max_attempts, config.relay.total_timeout_ms), (2, 1234));
}

#[test]
fn unknown_keys_are_refused_by_name_wherever_they_come_from() {
    assert!(refusal("[server]\nlistn = \"127.0.0.1:1\"\n", &[]).contains("listn"));
    assert!(refusal("[relay]\nmax_atempts = 1\n", &[]).contains("max_atempts"));
    assert!(refusal("[sever]\n", &[]).contains("sever"));
    assert!(refusal("", &[("TRUERELAY__SERVER__WORKER", "1")]).contains("worker"));
}

#[test]
fn values_of_a_wrong_type_are_refused_with_their_key() {
    assert!(refusal("[server]\nworkers = \"many\"\n", &[]).contains("workers"));
    assert!(refusal("[server]\nworkers = -1\n", &[]).contains("-1"));
    assert!(refusal("[log]\nlevel = \"loud\"\n", &[]).contains("loud"));
    assert!(refusal("[server]\nlisten = \"nowhere\"\n", &[]).contains("listen"));
    assert!(refusal("", &[("TRUERELAY__SERVER__TRUSTED_PROXIES", "10.0.0.0/8,x")]).contains("`x`"));
}

#[test]
fn everything_that_makes_no_sense_is_told_at_once() {
    let text = "[server]\nlisten = \"127.0.0.1:8081\"\ntrusted_proxies = [\"0.0.0.0/0\"]\n\
                [database]\nurl = \"mysql://root:hunter2@h/d\"\n[redis]\nnodes = 0\n[relay]\nmax_attempts = 0\n\
                [outbound]\npublic_ports = []\n[keys]\npepper = \"short-hunter2\"\n";
    let refusal = refusal(text, &[]);
    for part in [
        "admin.listen",
        "trusted_proxies",
        "database.url",
        "redis.nodes",
        "relay.max_attempts",
        "public_ports",
        "keys.pepper",
    ] {
        assert!(refusal.contains(part), "{part} is missing in: {refusal}");
    }
    assert!(!refusal.contains("hunter2"), "a secret is shown: {refusal}");
}

#[test]
fn a_syntax_error_is_told_by_its_line_and_shows_no_content() {
    let refusal = refusal("[keys]\npepper = \"hunter2\n", &[]);
    assert!(refusal.contains("line 2"), "{refusal}");
    assert!(!refusal.contains("hunter2"), "{refusal}");
}

#[test]
fn secrets_are_shown_neither_by_print_nor_by_debug() {
    let config = load_text(
        "[database]\nurl = \"postgres://u:hunter2@h/d\"\n[redis]\nurl = \"redis://:hunter2@h\"\n",
        &[("TRUERELAY__KEYS__PEPPER", KEY), ("TRUERELAY__KEYS__ENCRYPTION", KEY)],
    )
    .expect("it is valid");
    assert_eq!(config.keys.pepper.get().expect("it is set").expose(), KEY);
    for shown in [config.to_toml().expect("it is TOML"), format!("{config:?}")] {
        assert!(
            !shown.contains("hunter2") && !shown.contains("ccddeeff"),
            "a secret is shown: {shown}"
        );
    }
}

#[test]
fn what_is_printed_can_be_read_back() {
    let config = load(None, HashMap::new()).expect("the defaults are valid");
    let printed = config.to_toml().expect("it is TOML");
    let again = load_text(&printed, &[]).expect("it is a configuration");
    assert_eq!(again.to_toml().expect("it is TOML"), printed);
    assert!(DEFAULTS.contains("TRUERELAY__SECTION__KEY"));
}

#[test]
fn a_variable_with_too_few_underscores_is_refused_and_a_platforms_own_is_not() {
    for (wrong, right) in [
        ("TRUERELAY_SERVER_LISTEN", "TRUERELAY__SERVER__LISTEN"),
        ("TRUERELAY_DATABASE_URL", "TRUERELAY__DATABASE__URL"),
        (
            "TRUERELAY_DATABASE_MAX_CONNECTIONS",
            "TRUERELAY__DATABASE__MAX_CONNECTIONS",
        ),
    ] {
        let told = refusal("", &[(wrong, "postgres://u:hunter2@h/d")]);
        assert!(told.contains(right) && !told.contains("hunter2"), "{told}");
    }
    let platform = [
        ("TRUERELAY_SERVICE_HOST", "10.0.0.1"),
        ("TRUERELAY_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TRUERELAY_ADMIN_SERVICE_PORT", "8081"),
    ];
    load_text("", &platform).expect("they are none of ours");
}
