//! The command line: one file per command.

mod config;
mod ledger;
mod migrate;
mod openapi;
mod operator;
mod receipt;
mod replay;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, load, process_environment};

/// A multi-tenant relay for LLM APIs.
#[derive(Debug, Parser)]
#[command(name = "truerelay", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests until SIGTERM or SIGINT.
    Serve(ConfigFile),
    /// Try it: a relay with a simulated provider, a tenant with 5 USD, and a line to paste.
    Demo(crate::demo::Options),
    /// Bring the database's schema up to date.
    Migrate(ConfigFile),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(config::Action),
    /// Manage operator tokens, for the admin API.
    #[command(subcommand)]
    Operator(operator::Subject),
    /// Look after the books.
    #[command(subcommand)]
    Ledger(ledger::Action),
    /// Check receipts of requests.
    #[command(subcommand)]
    Receipt(receipt::Action),
    /// Write the admin API's OpenAPI document, or check that it is current.
    Openapi(openapi::Options),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file. What it leaves out has its default.
    #[arg(long = "config", value_name = "FILE", env = "TRUERELAY_CONFIG")]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// The configuration in force.
    ///
    /// # Errors
    /// When the file, the environment or the whole is wrong.
    pub fn load(&self) -> anyhow::Result<Config> {
        load(self.file.as_deref(), process_environment())
    }
}

impl CommandLine {
    /// Does what was asked for.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(config) => serve::run(&config),
            Command::Demo(options) => crate::demo::run(&options),
            Command::Migrate(config) => migrate::run(&config),
            Command::Config(action) => config::run(&action),
            Command::Operator(subject) => operator::run(&subject),
            Command::Ledger(action) => ledger::run(&action),
            Command::Receipt(action) => receipt::run(&action),
            Command::Openapi(options) => openapi::run(&options),
        }
    }
}

/// Runs a command's future. Commands that do not serve need no threads of their own.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_background();
    outcome
}
