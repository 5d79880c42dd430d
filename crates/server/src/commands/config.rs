//! `truerelay config`.

use std::process::ExitCode;

use clap::Subcommand;

use super::ConfigFile;
use crate::{config::DEFAULTS, opening::check_keys, output::say};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Say whether a server would start with it, as far as can be known without starting one.
    Check(ConfigFile),
    /// Show what is in force, with secrets hidden.
    Print(ConfigFile),
    /// Show the commented defaults, to begin a file from.
    Defaults,
}

/// Checks or shows it.
pub fn run(action: &Action) -> anyhow::Result<ExitCode> {
    match action {
        Action::Check(config) => {
            check_keys(&config.load()?)?;
            say("the configuration is valid");
        }
        Action::Print(config) => say(config.load()?.to_toml()?.trim_end()),
        Action::Defaults => say(DEFAULTS.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}
