//! How a command that failed says so: one message for people, with advice where the reason is the machine's.

use std::io;

/// The message of a failure, without a secret and without a backtrace.
pub fn describe(error: &anyhow::Error) -> String {
    let message = joined(error);
    match advice(error, &message) {
        Some(advice) => format!("{message}: {advice}"),
        None => message,
    }
}

/// The reasons from the outermost in. Many errors repeat what is beneath them; it is said once.
fn joined(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn advice(error: &anyhow::Error, message: &str) -> Option<&'static str> {
    let kinds = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    for kind in kinds {
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return Some(FULL),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => return Some(DENIED),
            io::ErrorKind::AddrInUse => return Some(TAKEN),
            _ => {}
        }
    }
    // SQLite's own words for SQLITE_FULL, SQLITE_READONLY and SQLITE_CANTOPEN
    let has = |text: &str| message.contains(text);
    if has("database or disk is full") {
        return Some(FULL);
    }
    if has("the database cannot be reached") {
        return Some(UNREACHABLE);
    }
    (has("attempt to write a readonly database") || has("unable to open database file")).then_some(DENIED)
}

const FULL: &str = "the disk is full, make room and start again";
const DENIED: &str = "this user may not write there, change the owner or choose another data.folder";
const UNREACHABLE: &str = "start it, or correct database.url";
const TAKEN: &str = "another process has this address, stop that one or choose another port";

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn advice_follows_the_reason_however_deep_it_lies() {
        let full = Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull))
            .context("cannot write x")
            .context("start");
        let told = describe(&full.expect_err("an error"));
        assert!(
            told.starts_with("start: cannot write x: ") && told.ends_with(FULL),
            "{told}"
        );
        let denied = Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied)).context("cannot write x");
        assert!(describe(&denied.expect_err("an error")).ends_with(DENIED));
        let repeating = anyhow::anyhow!("it is gone")
            .context("lost: it is gone")
            .context("start");
        assert_eq!(describe(&repeating), "start: lost: it is gone");
        let sqlite = anyhow::anyhow!("database error: (code: 13) database or disk is full");
        assert!(describe(&sqlite).ends_with(FULL));
        let gone = anyhow::anyhow!("connection refused").context("the database cannot be reached");
        assert!(describe(&gone).ends_with(UNREACHABLE));
        assert_eq!(describe(&anyhow::anyhow!("anything else")), "anything else");
    }
}
