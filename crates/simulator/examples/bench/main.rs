//! The two ends of `tests/bench/run` that no package offers: an upstream with fixed answers that costs next to nothing,
//! and a client that measures the time to the first token of concurrent streams. No part of the product.
//!
//! ```text
//! bench upstream ADDRESS
//! bench first-token ADDRESS PATH BODY_FILE STREAMS ROUNDS [KEY]
//! ```

// results go to standard output, microseconds are plain integers
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod first_token;
mod http_bytes;
mod upstream;

use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: bench upstream ADDRESS | bench first-token ADDRESS PATH BODY_FILE STREAMS ROUNDS [KEY]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str]) -> Result<(), Failure> {
    match arguments {
        ["upstream", address] => upstream::serve(address).await,
        ["first-token", address, path, body_file, streams, rounds, key @ ..] => {
            let body = std::fs::read(body_file)?;
            let request = first_token::request(address, path, key.first().copied(), &body);
            let measured = first_token::measure(address, request, streams.parse()?, rounds.parse()?).await?;
            println!("{measured}");
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}
