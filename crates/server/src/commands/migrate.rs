//! `truerelay migrate`.

use std::process::ExitCode;

use store::Backend;

use super::{ConfigFile, block_on};
use crate::{opening, output::say};

/// Brings the schema up to date.
pub fn run(config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.load()?;
    let backend = block_on(opening::migrate(&config))?;
    let name = match backend {
        Backend::Sqlite => "SQLite",
        Backend::Postgres => "PostgreSQL",
    };
    say(format!("the {name} schema is up to date"));
    Ok(ExitCode::SUCCESS)
}
