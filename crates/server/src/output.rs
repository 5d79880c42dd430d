//! What a command tells the person who called it. Logs go elsewhere.

use std::io::Write;

/// Writes a line to standard output. A reader that has gone away is no failure of the command.
pub fn say(line: impl AsRef<str>) {
    drop(writeln!(std::io::stdout().lock(), "{}", line.as_ref()));
}

/// Writes a line to standard error.
pub fn complain(line: impl AsRef<str>) {
    drop(writeln!(std::io::stderr().lock(), "{}", line.as_ref()));
}
