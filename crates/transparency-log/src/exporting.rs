//! The log written out for somebody who checks it alone: keys, entries, heads. It says no more than what everybody may read.

use sea_orm::ConnectionTrait;
use store::Database;
use transparency::{ExportLine, Hash};
use uuid::Uuid;

use crate::{
    error::LogError,
    keys,
    publishing::{EntryView, entries},
    rows::{self, HeadRow},
};

const PAGE: u64 = 1_000;

/// Hands every line to `each`, in order, up to the newest published head of each log.
///
/// # Errors
/// What the database says, and what `each` does.
pub async fn export(
    database: &Database,
    mut each: impl FnMut(&ExportLine) -> std::io::Result<()>,
) -> Result<(), LogError> {
    let connection = database.readers();
    let mut put = |line: ExportLine| each(&line).map_err(LogError::Copies);
    for key in keys::all(connection).await?.keys {
        put(ExportLine::Key(key))?;
    }
    for log in rows::logs(connection).await? {
        put(ExportLine::Log {
            id: log.id,
            created_at_ms: log.created_at_ms,
            reason: log.reason,
        })?;
        let mut from = 0;
        for head in published(connection, log.no).await? {
            while from < head.head.size {
                let page = entries(database, &head, from, PAGE).await?;
                if page.is_empty() {
                    break;
                }
                for entry in page {
                    from = entry.index + 1;
                    put(line_of(&entry))?;
                }
            }
            if let Some(signed) = head.published() {
                put(ExportLine::Head(signed))?;
            }
        }
    }
    Ok(())
}

const fn line_of(entry: &EntryView) -> ExportLine {
    let (batch, root): (Uuid, Hash) = (entry.batch, entry.root);
    ExportLine::Entry {
        index: entry.index,
        batch,
        leaves: entry.leaves,
        root,
    }
}

async fn published(connection: &impl ConnectionTrait, log_no: i64) -> Result<Vec<HeadRow>, LogError> {
    let rest = "WHERE h.log_no = $1 AND s.key_id IS NOT NULL ORDER BY h.size";
    Ok(rows::heads(connection, rest, vec![log_no.into()]).await?)
}
