//! `truerelay receipt`: checks without any server.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::{Deserialize, de::DeserializeOwned};
use transparency::{ExportCheck, ExportLine, Hash, KeyList, Place, Receipt, Refused, SignedHead, proof};
use uuid::Uuid;

use crate::output::say;

/// What to do with receipts.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Check a receipt: statement, paths, signature. Asks no server.
    Verify(Options),
    /// Check a whole log: what `truerelay ledger export-log` wrote. Asks no server.
    VerifyLog(LogOptions),
}

/// What is checked against what.
#[derive(Debug, Args)]
pub struct LogOptions {
    /// The export.
    export: PathBuf,
    /// The published keys, as for a receipt. Without them the export's own word is taken for the keys.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

/// What is checked against what.
#[derive(Debug, Args)]
pub struct Options {
    /// The receipt: what `GET /v1/requests/{id}/receipt` answered.
    receipt: PathBuf,
    /// The published keys: what `GET /.well-known/truerelay-log-keys.json` answered. Without them the receipt's own word is
    /// taken for the key.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// A head that was kept earlier or elsewhere: the log of the receipt must be the same one, grown or not yet grown.
    #[arg(long, value_name = "FILE")]
    older_head: Option<PathBuf>,
    /// The proof of that, if the sizes differ: what `GET /v1/log/consistency?from=...&to=...` answered.
    #[arg(long, value_name = "FILE", requires = "older_head")]
    consistency: Option<PathBuf>,
}

/// An answer of `GET /v1/log/consistency`.
#[derive(Debug, Deserialize)]
struct Consistency {
    log: Uuid,
    from: u64,
    to: u64,
    path: Vec<Hash>,
}

/// Checks; a receipt that does not hold makes the command fail.
pub fn run(action: &Action) -> anyhow::Result<ExitCode> {
    let (checked, what) = match action {
        Action::Verify(options) => (check(options)?, "the receipt holds"),
        Action::VerifyLog(options) => (check_log(options)?, "the log holds"),
    };
    match checked {
        Ok(lines) => {
            lines.iter().for_each(say);
            say(what);
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => {
            say(format!("REFUSED at the {}: {}", refused.place, refused.detail));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is worth telling of a receipt that holds.
fn check(options: &Options) -> anyhow::Result<Result<Vec<String>, Refused>> {
    let receipt: Receipt = match parse(&options.receipt)? {
        Ok(receipt) => receipt,
        Err(refused) => return Ok(Err(refused)),
    };
    let keys: Option<KeyList> = options.keys.as_deref().map(read).transpose()?;
    let older: Option<SignedHead> = options.older_head.as_deref().map(read).transpose()?;
    let consistency: Option<Consistency> = options.consistency.as_deref().map(read).transpose()?;
    Ok(verify(&receipt, keys.as_ref(), older.as_ref(), consistency.as_ref()))
}

fn check_log(options: &LogOptions) -> anyhow::Result<Result<Vec<String>, Refused>> {
    let mut check = ExportCheck::new(options.keys.as_deref().map(read).transpose()?);
    let file = std::fs::File::open(&options.export);
    let file = file.with_context(|| format!("cannot read {}", options.export.display()))?;
    for (number, line) in (1_u64..).zip(std::io::BufReader::new(file).lines()) {
        let line = line.with_context(|| format!("cannot read {}", options.export.display()))?;
        let parsed = serde_json::from_str::<ExportLine>(&line);
        let parsed = parsed.map_err(|error| Refused::at(Place::Format, error.to_string()));
        if let Err(refused) = parsed.and_then(|line| check.take(line)) {
            let detail = format!("line {number}: {}", refused.detail);
            return Ok(Err(Refused { detail, ..refused }));
        }
    }
    Ok(Ok(vec![format!(
        "{} entries, {} signed heads",
        check.entries, check.heads
    )]))
}

fn verify(
    receipt: &Receipt,
    keys: Option<&KeyList>,
    older: Option<&SignedHead>,
    consistency: Option<&Consistency>,
) -> Result<Vec<String>, Refused> {
    let verified = receipt.verify(keys)?;
    let word = |name: &str| {
        verified
            .statement
            .get(name)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let head = &receipt.head.head;
    let mut lines = vec![
        format!(
            "request    {} of {}: {}",
            word("request"),
            word("tenant"),
            word("state")
        ),
        format!(
            "charged    {} nano-USD of {} held",
            word("amount_nano_usd"),
            word("held_nano_usd")
        ),
        format!(
            "batch      {}, leaf {} of {}",
            receipt.batch.id, receipt.batch.index, receipt.batch.size
        ),
        format!("log        {}, batch {} of {}", head.log, receipt.log.index, head.size),
        format!("signed by  {}", receipt.head.key),
    ];
    if !verified.is_key_known {
        lines.push("warning    the key is the receipt's own word: give the published ones with --keys".to_owned());
    }
    if let Some(older) = older {
        if let Some(keys) = keys {
            keys.check(older)?;
        }
        check_consistency(receipt, older, consistency)?;
        lines.push(format!("consistent with the head of size {}", older.head.size));
    }
    Ok(lines)
}

fn check_consistency(receipt: &Receipt, older: &SignedHead, given: Option<&Consistency>) -> Result<(), Refused> {
    let refuse = |detail: String| Err(Refused::at(Place::Consistency, detail));
    let (mut one, mut other) = (&older.head, &receipt.head.head);
    if one.log != other.log {
        return refuse(format!(
            "the head is of the log {}, the receipt of {}",
            one.log, other.log
        ));
    }
    if one.size > other.size {
        std::mem::swap(&mut one, &mut other);
    }
    let path = match given {
        None if one.size == other.size => &[][..],
        Some(given) if (given.log, given.from, given.to) == (one.log, one.size, other.size) => &given.path,
        _ => {
            return refuse(format!(
                "give --consistency with the answer of GET /v1/log/consistency?from={}&to={}",
                one.size, other.size
            ));
        }
    };
    if proof::is_consistent(one.size, &one.root, other.size, &other.root, path) {
        return Ok(());
    }
    refuse(format!(
        "the log of size {} did not grow out of the one of size {}: it was forked",
        other.size, one.size
    ))
}

/// A receipt that cannot be read is refused like any other that does not hold.
fn parse(path: &Path) -> anyhow::Result<Result<Receipt, Refused>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|error| Refused::at(Place::Format, format!("it is no receipt: {error}"))))
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what is expected here", path.display()))
}
