//! What can be chosen for a demo, and the configuration that follows.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::bail;
use clap::Args;

use crate::config::{Config, LogFormat, LogLevel, load};

/// What can be chosen for a demo.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The data folder. It is kept, so that a later demo goes on with the same books.
    #[arg(long = "data", value_name = "FOLDER", default_value = "./data/demo")]
    data: PathBuf,
    /// The address to listen on, which must be this machine's own.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// The customers' port; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The operators' port; 0 takes a free one.
    #[arg(long, default_value_t = 8081)]
    admin_port: u16,
    /// The simulated provider's port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(super) simulator_port: u16,
    /// Start although others can reach the address. Whoever reads this terminal can then spend the demo's credit from
    /// anywhere.
    #[arg(long)]
    expose_demo: bool,
    /// Start although the data folder has a real provider's credential.
    #[arg(long)]
    pub(super) allow_real_providers: bool,
}

impl Options {
    /// The configuration of a demo. The environment's settings are for real servers and do not count here.
    ///
    /// # Errors
    /// When others could reach the demo and that was not asked for.
    pub fn config(&self) -> anyhow::Result<Config> {
        if !self.listen.to_canonical().is_loopback() && !self.expose_demo {
            bail!(
                "a demo listens on loopback only: leave out --listen {}, or give --expose-demo",
                self.listen
            );
        }
        let mut config = load(None, HashMap::new())?;
        config.server.listen = SocketAddr::new(self.listen, self.port);
        config.admin.listen = SocketAddr::new(self.listen, self.admin_port);
        config.server.drain_timeout_s = 10;
        config.data.folder.clone_from(&self.data);
        config.archive.enabled = false;
        config.log.level = LogLevel::Warn;
        config.log.format = LogFormat::Text;
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn config(arguments: &[&str]) -> anyhow::Result<Config> {
        Line::try_parse_from(std::iter::once(&"demo").chain(arguments))
            .expect("arguments")
            .options
            .config()
    }

    #[test]
    fn a_demo_is_on_loopback_unless_told() {
        assert_eq!(config(&[]).expect("valid").server.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(
            config(&["--listen", "::1", "--port", "9"])
                .expect("valid")
                .server
                .listen
                .to_string(),
            "[::1]:9"
        );
        for open in ["0.0.0.0", "::", "192.0.2.1", "::ffff:0.0.0.0"] {
            let refusal = config(&["--listen", open])
                .expect_err("others could reach it")
                .to_string();
            assert!(refusal.contains("--expose-demo"), "{refusal}");
        }
        config(&["--listen", "0.0.0.0", "--expose-demo"]).expect("it was asked for");
    }

    #[test]
    fn the_two_listeners_must_differ() {
        assert!(config(&["--port", "8081"]).is_err());
    }
}
