//! Declaring lost what no archive brings back: a new line of history begins, and that is archived too, so that a later
//! restore of an older backup follows the history that counts.

use std::{io, path::Path, time::Duration};

use serde_json::json;
use store::{
    Database, StoreError, Tx,
    audit::{self, Actor},
    bulk::Rows,
};
use uuid::Uuid;

use super::{
    batches::LOST_SHARE,
    gate::{self, Opening},
    losses::{Loss, Losses},
    record::{Fork, Record, TransactionRow},
    replaying::ReplayOrder,
    segments::{ArchiveSettings, Segments},
};
use crate::LedgerError;

const PAGE: i64 = 1_000;
/// Losses that are named in the audit row.
const MOST_AUDITED: usize = 100;

/// Begins a new line and opens the gate.
///
/// # Errors
/// What the database or the disk says; nothing was declared then.
pub async fn declare_lost(
    database: &Database,
    order: &ReplayOrder,
    losses: &Losses,
    (archived_line, reason): (i64, &str),
) -> Result<(), LedgerError> {
    // put in place after the commit: an archive must not tell of a declaration that was never made
    let unfinished = tempfile::Builder::new()
        .prefix("unfinished-")
        .tempdir_in(made(&order.own_folder).map_err(LedgerError::Archive)?)
        .map_err(LedgerError::Archive)?;
    let tx = database.begin().await?;
    let settings = ArchiveSettings {
        folder: unfinished.path().to_path_buf(),
        keep: Duration::MAX,
        max_bytes: u64::MAX,
        segment_bytes: u64::MAX,
    };
    // it belongs to the line that it ends
    let ended = gate::line(&tx).await?.max(archived_line);
    let mut segments =
        Segments::new(settings, order.node.as_uuid(), Uuid::now_v7(), ended).map_err(LedgerError::Archive)?;
    let (line, growth) = gate::begin_line(&tx, ended).await?;
    segments
        .append_records(&[Record::Declaration(line)])
        .map_err(LedgerError::Archive)?;
    archive_forks(&tx, growth, &mut segments).await?;
    archive_lost_shares(&tx, &mut segments).await?;
    gate::open(&tx, Opening::DeclaredLost, line, reason).await?;
    let named: Vec<String> = losses.named.iter().take(MOST_AUDITED).map(Loss::to_string).collect();
    let after = json!({ "reason": reason, "losses": losses.count, "named": named, "line": line });
    let actor = Actor::system("ledger-replay");
    audit::record(&tx, &actor, "ledger.declare_lost", "ledger", None, Some(&after)).await?;
    segments.sync().map_err(LedgerError::Archive)?;
    tx.commit().await?;
    publish(segments.path(), &order.own_folder).map_err(LedgerError::Archive)
}

fn made(folder: &Path) -> io::Result<&Path> {
    std::fs::create_dir_all(folder)?;
    Ok(folder)
}

fn publish(segment: Option<&Path>, folder: &Path) -> io::Result<()> {
    if let Some((segment, name)) = segment.and_then(|segment| Some((segment, segment.file_name()?))) {
        std::fs::rename(segment, folder.join(name))?;
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

async fn archive_forks(tx: &Tx, growth: i64, segments: &mut Segments) -> Result<(), LedgerError> {
    let sql = "SELECT tenant_id, version FROM acct WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2";
    let mut after = Uuid::nil();
    loop {
        let rows = tx.query(sql, vec![after.into(), PAGE.into()]).await?;
        let mut forks = Vec::with_capacity(rows.len());
        for row in &rows {
            let tenant = row.try_get("", "tenant_id").map_err(StoreError::from)?;
            let to: i64 = row.try_get("", "version").map_err(StoreError::from)?;
            forks.push(Record::Fork(Fork {
                tenant,
                from: to - growth,
                to,
            }));
            after = tenant;
        }
        if forks.is_empty() {
            return Ok(());
        }
        segments.append_records(&forks).map_err(LedgerError::Archive)?;
    }
}

/// The corrections of this declaration and of earlier ones; they are inserted once, however often they are replayed.
async fn archive_lost_shares(tx: &Tx, segments: &mut Segments) -> Result<(), LedgerError> {
    let sql = "SELECT seq, id, kind, reference, actor, at_ms FROM tx \
               WHERE seq > $1 AND kind = 'operator_cost' AND reference LIKE $2 ORDER BY seq LIMIT $3";
    let mut after = 0_i64;
    loop {
        let values = vec![after.into(), format!("{LOST_SHARE}%").into(), PAGE.into()];
        let rows = tx.query(sql, values).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get("", "seq").map_err(StoreError::from)?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push(read_row(row).map_err(StoreError::from)?);
        }
        read_entries(tx, &mut found).await?;
        segments
            .append_records(&[Record::Operator(found)])
            .map_err(LedgerError::Archive)?;
    }
}

fn read_row(row: &sea_orm::QueryResult) -> Result<TransactionRow, sea_orm::DbErr> {
    Ok(TransactionRow {
        id: row.try_get("", "id")?,
        kind: row.try_get("", "kind")?,
        tenant: None,
        reference: row.try_get("", "reference")?,
        actor: row.try_get("", "actor")?,
        at_ms: row.try_get("", "at_ms")?,
        entries: Vec::new(),
    })
}

async fn read_entries(tx: &Tx, transactions: &mut [TransactionRow]) -> Result<(), StoreError> {
    const ENTRIES: &str = "SELECT tx_id, account, amount FROM entry \
         WHERE tx_id IN (SELECT r.tx_id FROM {rows}) ORDER BY tx_id, line";
    let rows = Rows::new().uuids("tx_id", transactions.iter().map(|row| row.id));
    for entry in tx.query_rows(ENTRIES, &rows).await? {
        let id: Uuid = entry.try_get("", "tx_id")?;
        let line = (entry.try_get("", "account")?, entry.try_get("", "amount")?);
        if let Some(transaction) = transactions.iter_mut().find(|row| row.id == id) {
            transaction.entries.push(line);
        }
    }
    Ok(())
}
