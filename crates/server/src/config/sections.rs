//! The sections of the configuration, typed. Every key is in the default file, so nothing has a default here.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use catalog::NoticePeriod;
use ipnet::IpNet;
use ledger::archive::ArchiveSettings;
use outbound::OutboundSettings;
use relay::RelaySettings;
use serde::{Deserialize, Serialize};
use transparency_log::CopySettings;

use super::{list::comma_separated, secret_setting::SecretSetting};

/// Everything that an operator sets before the start.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The customers' listener and how it stops.
    pub server: ServerSection,
    /// The operators' listener.
    pub admin: AdminSection,
    /// The node's folder.
    pub data: DataSection,
    /// Which database.
    pub database: DatabaseSection,
    /// Where limits are shared.
    pub redis: RedisSection,
    /// The server's own secrets.
    pub keys: KeysSection,
    /// The ledger's limits.
    pub ledger: LedgerSection,
    /// What is kept for a restore from backup.
    pub archive: ArchiveSection,
    /// The transparency log.
    pub transparency: TransparencySection,
    /// The data plane's limits.
    pub relay: RelaySettings,
    /// The rules of the price book.
    pub pricing: PricingSection,
    /// The rules that open incidents.
    pub incidents: IncidentsSection,
    /// Connections to providers.
    pub outbound: OutboundSection,
    /// What is logged.
    pub log: LogSection,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSection {
    /// Where customers' requests arrive.
    pub listen: SocketAddr,
    /// Worker threads; 0 for one per core.
    pub workers: usize,
    /// Connections open at once, over all workers.
    pub max_connections: usize,
    /// Seconds for which an idle connection stays open.
    pub keep_alive_s: u64,
    /// Whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "comma_separated")]
    pub trusted_proxies: Vec<IpNet>,
    /// The longest that a stop waits for requests under way, in seconds.
    pub drain_timeout_s: u64,
    /// How long new requests are still served after readiness went off, in seconds.
    pub drain_delay_s: u64,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSection {
    /// Where operators' requests arrive.
    pub listen: SocketAddr,
}

/// `[data]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// The node's folder.
    pub folder: PathBuf,
}

/// `[database]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// The address of PostgreSQL; empty for SQLite in the data folder.
    pub url: SecretSetting,
    /// Connections beside those of the ledger.
    pub max_connections: u32,
    /// Whether `serve` may bring a PostgreSQL schema up to date.
    pub migrate_on_start: bool,
}

/// `[redis]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSection {
    /// The address; empty for limits in this process.
    pub url: SecretSetting,
    /// How many nodes share the limits.
    pub nodes: u32,
    /// How long a request waits for Redis, in milliseconds.
    pub timeout_ms: u64,
}

/// `[keys]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeysSection {
    /// Seals provider credentials.
    pub encryption: SecretSetting,
    /// Hashes virtual keys and operator tokens.
    pub pepper: SecretSetting,
}

/// `[ledger]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSection {
    /// Items that may wait for the database.
    pub queue_capacity: u32,
    /// How often abandoned holds are looked for, in seconds.
    pub close_abandoned_holds_every_s: u64,
    /// Room on the node's disk for ends of requests while the database is away, in MiB. It is taken at the start.
    pub spool_reserved_mib: u32,
    /// How often the books are audited, in seconds; 0 for never.
    pub audit_every_s: u64,
}

impl LedgerSection {
    /// The spool's room in bytes.
    pub fn spool_reserved_bytes(&self) -> u64 {
        u64::from(self.spool_reserved_mib) * 1024 * 1024
    }
}

/// `[archive]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSection {
    /// Whether anything is kept.
    pub enabled: bool,
    /// For how many days.
    pub keep_days: u32,
    /// How much at most, in MiB.
    pub max_mib: u32,
    /// How large one file may grow, in MiB.
    pub segment_mib: u32,
}

impl ArchiveSection {
    /// As the ledger takes it.
    pub fn settings(&self, folder: PathBuf) -> ArchiveSettings {
        let mib = |count: u32| u64::from(count) * 1024 * 1024;
        ArchiveSettings {
            folder,
            keep: Duration::from_secs(u64::from(self.keep_days) * 86_400),
            max_bytes: mib(self.max_mib),
            segment_bytes: mib(self.segment_mib),
        }
    }
}

/// `[transparency]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TransparencySection {
    /// The key that signs heads; empty for one that is made, with the embedded default.
    pub key_file: PathBuf,
    /// Where heads and leaves are copied to before they are published; empty for the data folder.
    pub copies: PathBuf,
    /// For how many days copies are kept.
    pub keep_days: u32,
}

impl TransparencySection {
    /// As the log takes it.
    pub fn copies(&self, default_folder: PathBuf) -> CopySettings {
        let is_given = !self.copies.as_os_str().is_empty();
        CopySettings {
            folder: if is_given { self.copies.clone() } else { default_folder },
            keep: Duration::from_secs(u64::from(self.keep_days) * 86_400),
            file_bytes: 64 << 20,
        }
    }
}

/// `[pricing]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PricingSection {
    /// Days between the publication of a price that rises and its instant.
    pub notice_days: u32,
}

impl PricingSection {
    /// As the price book takes it. What is too long was refused before.
    pub fn notice(&self) -> NoticePeriod {
        NoticePeriod::of_days(self.notice_days).unwrap_or(NoticePeriod::LONGEST)
    }
}

/// `[incidents]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentsSection {
    /// How often the rules look, in seconds.
    pub check_every_s: u64,
    /// After so many answers of another model an offer goes out of sale; 0 for never.
    pub substitutions: u32,
    /// Within so many seconds.
    pub substitution_window_s: u64,
    /// From so many failures in a hundred attempts on a provider counts as failing.
    pub outage_percent: u32,
    /// Below so many it has recovered.
    pub outage_recovered_percent: u32,
    /// Of at least so many attempts.
    pub outage_attempts: u32,
    /// Within so many seconds.
    pub outage_window_s: u64,
    /// By how much a provider's bill may differ from the books, in hundredths of a percent.
    pub drift_basis_points: u32,
}

impl IncidentsSection {
    /// As the rules take it.
    pub const fn rules(&self, longest_request: Duration) -> incidents::Rules {
        incidents::Rules {
            substitution: incidents::SubstitutionRule {
                mismatches: self.substitutions,
                window: Duration::from_secs(self.substitution_window_s),
            },
            outage: incidents::OutageRule {
                percent: self.outage_percent,
                recovered_percent: self.outage_recovered_percent,
                attempts: self.outage_attempts,
                window: Duration::from_secs(self.outage_window_s),
            },
            drift_basis_points: self.drift_basis_points,
            longest_request,
        }
    }
}

/// `[outbound]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundSection {
    /// The longest time to connect, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long an unused connection stays open, in seconds.
    pub pool_idle_timeout_s: u64,
    /// Unused connections kept per provider and worker.
    pub pool_max_idle_per_host: usize,
    /// Ports that may be called at public providers.
    #[serde(deserialize_with = "comma_separated")]
    pub public_ports: Vec<u16>,
}

impl OutboundSection {
    /// As the HTTP clients take it.
    pub fn settings(&self) -> OutboundSettings {
        OutboundSettings {
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            pool_idle_timeout: Duration::from_secs(self.pool_idle_timeout_s),
            pool_max_idle_per_host: self.pool_max_idle_per_host,
            public_ports: self.public_ports.clone(),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogSection {
    /// From which severity on.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether every request leaves a line.
    pub requests: bool,
}

/// The least severe lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed for good.
    Error,
    /// Something is wrong and was dealt with.
    Warn,
    /// What an operator wants to see.
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name in a filter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// For people.
    Text,
}
