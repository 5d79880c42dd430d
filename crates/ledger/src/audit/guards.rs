//! The triggers that keep history as it was written: whether the database still refuses to change it.

use std::collections::BTreeSet;

use store::{Backend, StoreError};

use super::{Check, reader::Reader};

/// Tables of which a row is never changed or removed.
const INSERT_ONLY: [&str; 15] = [
    "audit",
    "charge",
    "entry",
    "log",
    "log_batch",
    "log_entry",
    "log_head",
    "log_key",
    "log_key_retirement",
    "log_node",
    "log_signature",
    "price_item",
    "price_version",
    "quarantine",
    "tx",
];

/// The tables whose guard is in force: it comes before updates, deletes and truncation (bits 2, 8, 16 and 32 of
/// `tgtype`), it is enabled, and its function raises an error.
const POSTGRES: &str = "SELECT c.relname AS guarded FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
     JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() JOIN pg_proc p ON p.oid = t.tgfoid \
     WHERE t.tgname = c.relname || '_insert_only' AND t.tgenabled IN ('O', 'A') AND (t.tgtype & 58) = 58 \
     AND p.prosrc LIKE '%RAISE EXCEPTION%'";
const SQLITE: &str = "SELECT u.tbl_name AS guarded FROM sqlite_master u JOIN sqlite_master d ON d.tbl_name = u.tbl_name \
     WHERE u.type = 'trigger' AND d.type = 'trigger' AND u.name = u.tbl_name || '_no_UPDATE' \
     AND d.name = d.tbl_name || '_no_DELETE' AND u.sql LIKE '%BEFORE UPDATE ON%RAISE(ABORT%' \
     AND d.sql LIKE '%BEFORE DELETE ON%RAISE(ABORT%'";

/// Looks for the guard of every such table.
pub async fn are_there(reader: &Reader<'_>) -> Result<Check, StoreError> {
    let mut check = Check::new("I13", "the database refuses to change or remove what was written once");
    let sql = match reader.backend {
        Backend::Postgres => POSTGRES,
        Backend::Sqlite => SQLITE,
    };
    let rows = reader.rows(sql, vec![]).await?;
    let guarded: BTreeSet<String> = rows
        .iter()
        .map(|row| row.try_get("", "guarded"))
        .collect::<Result<_, _>>()?;
    for table in INSERT_ONLY {
        check.rows += 1;
        if !guarded.contains(table) {
            check.offend(|| format!("rows of the table {table} can be changed: its triggers are not in force"));
        }
    }
    Ok(check)
}
