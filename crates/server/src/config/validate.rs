//! What a configuration must fulfil as a whole. Pure; everything that is wrong is told at once.

use anyhow::bail;
use catalog::NoticePeriod;
use domain::secret::SecretText;
use store::keyring::ServerKey;

use super::{
    Config,
    sections::{ArchiveSection, IncidentsSection, KeysSection, OutboundSection, ServerSection},
};

impl Config {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// Lists every problem with what to do about it.
    pub fn validate(&self) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        self.server.check(&mut problems);
        self.outbound.check(&mut problems);
        self.keys.check(&mut problems);
        self.check_addresses(&mut problems);
        if let Err(problem) = self.relay.validate() {
            problems.push(problem);
        }
        require(
            &mut problems,
            self.database.max_connections > 0,
            "database.max_connections must be at least 1",
        );
        require(&mut problems, self.redis.nodes > 0, "redis.nodes must be at least 1");
        require(
            &mut problems,
            self.redis.timeout_ms > 0,
            "redis.timeout_ms must be at least 1",
        );
        require(
            &mut problems,
            self.ledger.queue_capacity >= 100,
            "ledger.queue_capacity must be at least 100",
        );
        require(
            &mut problems,
            self.ledger.close_abandoned_holds_every_s > 0,
            "ledger.close_abandoned_holds_every_s must be at least 1",
        );
        self.archive.check(&mut problems);
        self.incidents.check(&mut problems);
        require(
            &mut problems,
            self.transparency.keep_days > 0,
            "transparency.keep_days must be at least 1",
        );
        require(
            &mut problems,
            NoticePeriod::of_days(self.pricing.notice_days).is_some(),
            "pricing.notice_days must not exceed 90: changes can be published 92 days ahead",
        );
        require(
            &mut problems,
            !self.data.folder.as_os_str().is_empty(),
            "data.folder must name a folder",
        );
        if problems.is_empty() {
            return Ok(());
        }
        bail!("the configuration is wrong:\n  - {}", problems.join("\n  - "))
    }

    fn check_addresses(&self, problems: &mut Vec<String>) {
        let same = self.server.listen == self.admin.listen && self.server.listen.port() != 0;
        require(
            problems,
            !same,
            "server.listen and admin.listen must differ: operators have a listener of their own",
        );
        check_scheme(
            problems,
            "database.url",
            self.database.url.get(),
            &["postgres://", "postgresql://"],
        );
        check_scheme(problems, "redis.url", self.redis.url.get(), &["redis://", "rediss://"]);
    }
}

impl ServerSection {
    fn check(&self, problems: &mut Vec<String>) {
        require(problems, self.workers <= 1_024, "server.workers must not exceed 1024");
        require(
            problems,
            self.max_connections > 0,
            "server.max_connections must be at least 1",
        );
        require(
            problems,
            self.keep_alive_s > 0,
            "server.keep_alive_s must be at least 1",
        );
        require(
            problems,
            self.drain_timeout_s <= 86_400,
            "server.drain_timeout_s must not exceed a day",
        );
        let delay_fits = self.drain_delay_s <= self.drain_timeout_s;
        require(
            problems,
            delay_fits,
            "server.drain_delay_s must not exceed server.drain_timeout_s",
        );
        let believes_all = self.trusted_proxies.iter().any(|network| network.prefix_len() == 0);
        require(
            problems,
            !believes_all,
            "server.trusted_proxies must not name every address: anybody could then choose an address to appear with",
        );
    }
}

impl ArchiveSection {
    fn check(&self, problems: &mut Vec<String>) {
        require(problems, self.keep_days > 0, "archive.keep_days must be at least 1");
        require(problems, self.segment_mib > 0, "archive.segment_mib must be at least 1");
        require(
            problems,
            self.max_mib / 2 >= self.segment_mib,
            "archive.max_mib must be at least twice archive.segment_mib",
        );
    }
}

impl IncidentsSection {
    fn check(&self, problems: &mut Vec<String>) {
        let windows = [self.substitution_window_s, self.outage_window_s];
        require(
            problems,
            windows.iter().all(|window| (1..=7 * 86_400).contains(window)),
            "incidents.substitution_window_s and incidents.outage_window_s must be from 1 second to 7 days",
        );
        require(
            problems,
            self.check_every_s > 0,
            "incidents.check_every_s must be at least 1",
        );
        let percents = 1..=self.outage_percent;
        require(
            problems,
            self.outage_percent <= 100 && percents.contains(&self.outage_recovered_percent),
            "incidents.outage_recovered_percent must be at least 1 and not exceed incidents.outage_percent, nor that 100",
        );
        require(
            problems,
            self.outage_attempts > 0,
            "incidents.outage_attempts must be at least 1",
        );
    }
}

impl OutboundSection {
    fn check(&self, problems: &mut Vec<String>) {
        require(
            problems,
            self.connect_timeout_ms > 0,
            "outbound.connect_timeout_ms must be at least 1",
        );
        require(
            problems,
            self.pool_idle_timeout_s > 0,
            "outbound.pool_idle_timeout_s must be at least 1",
        );
        let ports_named = !self.public_ports.is_empty() && !self.public_ports.contains(&0);
        require(
            problems,
            ports_named,
            "outbound.public_ports must name at least one port, and not 0",
        );
    }
}

impl KeysSection {
    fn check(&self, problems: &mut Vec<String>) {
        for (name, setting) in [("keys.encryption", &self.encryption), ("keys.pepper", &self.pepper)] {
            if let Some(Err(error)) = setting.get().map(ServerKey::parse) {
                problems.push(format!("{name}: {error}"));
            }
        }
    }
}

fn require(problems: &mut Vec<String>, fulfilled: bool, otherwise: &str) {
    if !fulfilled {
        problems.push(otherwise.to_owned());
    }
}

/// The address may hold a password, so it is not repeated.
fn check_scheme(problems: &mut Vec<String>, name: &str, url: Option<&SecretText>, schemes: &[&str]) {
    let Some(url) = url else { return };
    if !schemes.iter().any(|scheme| url.expose().starts_with(scheme)) {
        problems.push(format!("{name} must begin with {}, or be empty", schemes.join(" or ")));
    }
}
