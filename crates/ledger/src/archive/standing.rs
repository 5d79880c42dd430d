//! Recognising a restored database: a node compares the newest of its own archive with the database before it starts.

use std::{io, path::Path};

use domain::{NodeId, TenantId};
use store::{Database, Tx};
use uuid::Uuid;

use super::{
    gate,
    reader::SegmentReader,
    record::{Header, Record},
    segments::{self, SegmentFile},
    tables,
};
use crate::LedgerError;

/// The newest that a node has archived.
struct Newest {
    header: Header,
    /// The last batch of that boot.
    batch: Option<i64>,
    /// The last movement of that boot: tenant and version.
    movement: Option<(Uuid, i64)>,
}

/// Refuses a database that is older than the node's own archive, and one that is known to be. Answers the line of
/// history that the database is in.
///
/// # Errors
/// [`LedgerError::AwaitsReplay`] for a database that was restored; what the database says.
pub async fn refuse_restored(database: &Database, folder: &Path, node: NodeId) -> Result<i64, LedgerError> {
    let newest = newest(folder, node).map_err(LedgerError::Archive)?;
    let tx = database.begin().await?;
    gate::refuse_while_closed(&tx).await?;
    let line = gate::line(&tx).await?;
    let Some(newest) = newest else { return Ok(line) };
    let Some(what) = ahead(&tx, line, &newest).await? else {
        return Ok(line);
    };
    let detail = format!("{node} has archived {what}");
    gate::close(&tx, &detail).await?;
    tx.commit().await?;
    tracing::error!(
        detail,
        "the database was restored from a backup and waits for its archives"
    );
    Err(LedgerError::AwaitsReplay(detail))
}

/// What the archive has and the database has not.
async fn ahead(tx: &Tx, line: i64, newest: &Newest) -> Result<Option<String>, LedgerError> {
    let Header {
        node,
        boot,
        line: archived,
        ..
    } = newest.header;
    if archived < line {
        // something was declared lost since, and this was too or is in the database
        return Ok(None);
    }
    if archived > line {
        return Ok(Some(
            "a declaration that something was lost, which the database does not know".to_owned(),
        ));
    }
    let Some(known) = tables::last_batch(tx, node, boot).await? else {
        return Ok(Some(format!(
            "commits of its boot {boot}, which the database does not know"
        )));
    };
    let archived_batch = newest.batch.unwrap_or(0);
    if archived_batch < known {
        // a node that dies may leave its last commits out
        let missing = known - archived_batch;
        tracing::warn!(%boot, missing, "the archive lacks the last batches of an earlier boot: take a backup of the database soon");
    }
    if let Some(batch) = newest.batch.filter(|batch| *batch > known) {
        return Ok(Some(format!(
            "batch {batch} of its boot {boot}, the database knows {known}"
        )));
    }
    if let Some((tenant, version)) = newest.movement {
        let positions = tables::positions(tx, std::iter::once(tenant)).await?;
        if positions.get(&tenant).is_none_or(|position| position.version < version) {
            let tenant = TenantId::from_uuid(tenant);
            return Ok(Some(format!("a movement of {tenant} that the database does not know")));
        }
    }
    Ok(None)
}

fn newest(folder: &Path, node: NodeId) -> io::Result<Option<Newest>> {
    let mut newest: Option<Newest> = None;
    for segment in segments::list(folder)?.iter().rev() {
        let Some(found) = read(segment, node)? else { continue };
        match &mut newest {
            None => newest = Some(found),
            Some(known) if known.header.boot == found.header.boot => {
                known.batch = known.batch.or(found.batch);
                known.movement = known.movement.or(found.movement);
            }
            Some(_) => break,
        }
        if newest.as_ref().is_some_and(|known| known.batch.is_some()) {
            break;
        }
    }
    Ok(newest)
}

/// What the segment has last; `None` for one that cannot be read or is another node's.
fn read(segment: &SegmentFile, node: NodeId) -> io::Result<Option<Newest>> {
    let mut reader = match SegmentReader::open(&segment.path) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::warn!(%error, segment = %segment.path.display(), "a segment of the archive cannot be read");
            return Ok(None);
        }
    };
    let header = reader.header();
    if header.node != node.as_uuid() {
        return Ok(None);
    }
    let mut newest = Newest {
        header,
        batch: None,
        movement: None,
    };
    while let Some((_, record)) = reader.next()? {
        match record {
            Record::Batch(batch) => newest.batch = newest.batch.max(Some(batch.number)),
            Record::Part(part) if part.batch.is_none() => newest.movement = Some((part.tenant, part.version)),
            _ => {}
        }
    }
    Ok(Some(newest))
}
