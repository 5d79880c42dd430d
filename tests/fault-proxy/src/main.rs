//! `fault-proxy PORT SERVER CONTROL_PORT`: a proxy on 127.0.0.1 for scripts, until it is ended by a signal.

use std::{io::Write, net::SocketAddr, process::ExitCode};

use fault_proxy::Proxy;

const USAGE: &str = "usage: fault-proxy PORT SERVER_ADDRESS:PORT CONTROL_PORT";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // without a standard error there is nobody to tell
            writeln!(std::io::stderr(), "{message}").ok();
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = next(&mut arguments)?;
    let server: SocketAddr = next(&mut arguments)?;
    let control_port: u16 = next(&mut arguments)?;
    let proxy = Proxy::start(port, server).await.map_err(|error| error.to_string())?;
    let control = proxy
        .start_control(control_port)
        .await
        .map_err(|error| error.to_string())?;
    let mut output = std::io::stdout();
    writeln!(output, "proxy {} control {control}", proxy.address()).map_err(|error| error.to_string())?;
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())
}

fn next<T: std::str::FromStr>(arguments: &mut impl Iterator<Item = String>) -> Result<T, String> {
    let argument = arguments.next().ok_or(USAGE)?;
    argument
        .parse()
        .map_err(|_| format!("`{argument}` cannot be used. {USAGE}"))
}
