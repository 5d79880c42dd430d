//! `truerelay openapi`: the committed document follows from the code.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use crate::output::say;

/// What to do with the document.
#[derive(Debug, Args)]
pub struct Options {
    /// Write nothing; fail when the file is not what would be written.
    #[arg(long)]
    check: bool,
    /// The file.
    #[arg(long, value_name = "FILE", default_value = "docs/openapi/admin.json")]
    file: PathBuf,
}

/// Writes or checks the document.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let document = format!(
        "{}\n",
        admin_api::openapi()
            .to_pretty_json()
            .context("the document is not JSON")?
    );
    let path = options.file.display();
    if !options.check {
        if let Some(folder) = options.file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::write(&options.file, document).with_context(|| format!("cannot write {path}"))?;
        say(format!("wrote {path}"));
        return Ok(ExitCode::SUCCESS);
    }
    let committed = std::fs::read_to_string(&options.file).with_context(|| format!("cannot read {path}"))?;
    if committed == document {
        say(format!("{path} is current"));
        return Ok(ExitCode::SUCCESS);
    }
    say(format!(
        "{path} is stale: run `truerelay openapi` and commit the result"
    ));
    Ok(ExitCode::FAILURE)
}
