//! The gate: while a restored database waits for its archives, nothing moves credit outside the writer, and no node
//! starts.
//!
//! It also keeps the line of history. Whenever something is declared lost the line changes, to the minute of the
//! declaration, and every account's version grows by as many times 2^32: versions of what was given up are never
//! taken for versions of what came after.

use store::{Backend, StoreError, Tx};

use crate::LedgerError;

/// By how much a version grows for each number of a line.
const VERSIONS_OF_A_LINE: i64 = 1 << 32;

/// Refuses whatever must wait for a replay. A gate is closed before anything is replayed: what is under way at that
/// moment is found by the replay, which locks the accounts, as a history that went another way.
///
/// # Errors
/// [`LedgerError::AwaitsReplay`] while the gate is closed; what the database says.
pub async fn refuse_while_closed(tx: &Tx) -> Result<(), LedgerError> {
    let sql = "SELECT detail FROM restore_gate WHERE opened_at_ms IS NULL ORDER BY seq LIMIT 1";
    match tx.query(sql, vec![]).await?.first() {
        None => Ok(()),
        Some(row) => Err(LedgerError::AwaitsReplay(
            row.try_get("", "detail").map_err(StoreError::from)?,
        )),
    }
}

/// The line of history that the database is in; 0 until something was declared lost.
///
/// # Errors
/// What the database says.
pub async fn line(tx: &Tx) -> Result<i64, StoreError> {
    let sql = "SELECT COALESCE(MAX(line), 0) AS line FROM restore_gate";
    let rows = tx.query(sql, vec![]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.try_get("", "line"))?)
}

/// Closes the gate, unless it is closed.
///
/// # Errors
/// What the database says.
pub async fn close(tx: &Tx, detail: &str) -> Result<(), StoreError> {
    let now = tx.now().await?;
    tx.execute(
        "INSERT INTO restore_gate (detail, closed_at_ms) SELECT $1, $2 \
         WHERE NOT EXISTS (SELECT 1 FROM restore_gate WHERE opened_at_ms IS NULL)",
        vec![detail.into(), now.0.into()],
    )
    .await?;
    Ok(())
}

/// How a gate was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Everything that was archived is in the database.
    Replayed,
    /// What is missing will not come any more.
    DeclaredLost,
}

/// Opens the gate, in the line of history that the database is in from now on.
///
/// # Errors
/// What the database says.
pub async fn open(tx: &Tx, opening: Opening, line: i64, reason: &str) -> Result<(), StoreError> {
    let now = tx.now().await?;
    let outcome = match opening {
        Opening::Replayed => "replayed",
        Opening::DeclaredLost => "declared_lost",
    };
    tx.execute(
        "UPDATE restore_gate SET opened_at_ms = $1, outcome = $2, reason = $3, line = $4 WHERE opened_at_ms IS NULL",
        vec![now.0.into(), outcome.into(), reason.into(), line.into()],
    )
    .await?;
    Ok(())
}

/// Moves every account from a line to a new one. Answers the line, and by how much each version grew.
///
/// # Errors
/// What the database says.
pub async fn begin_line(tx: &Tx, current: i64) -> Result<(i64, i64), StoreError> {
    if tx.backend() == Backend::Postgres {
        // there may be many accounts
        tx.execute("SET LOCAL statement_timeout = 0", vec![]).await?;
    }
    let minutes = tx.now().await?.0.div_euclid(60_000);
    let next = minutes.max(current + 1);
    let growth = (next - current).saturating_mul(VERSIONS_OF_A_LINE);
    tx.execute("UPDATE acct SET version = version + $1", vec![growth.into()])
        .await?;
    Ok((next, growth))
}
