//! `truerelay`: the commands, the configuration, the wiring of all crates, and the life of the process.

mod access_log;
mod client_address;
mod commands;
mod config;
mod data_folder;
mod demo;
mod evidence;
mod failure;
mod first_answer;
mod json_lines;
mod keys;
mod listeners;
mod opening;
mod ops_routes;
mod output;
mod readiness;
mod runtimes;
mod serving;
mod shutdown;
mod signing_key;
mod telemetry;
mod watchers;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // one provider for every TLS connection of the process; a second installation would mean somebody chose already
    drop(rustls::crypto::ring::default_provider().install_default());
    let command_line = commands::CommandLine::parse();
    match command_line.run() {
        Ok(code) => code,
        Err(error) => {
            output::complain(format!("truerelay: {}", failure::describe(&error)));
            ExitCode::FAILURE
        }
    }
}
