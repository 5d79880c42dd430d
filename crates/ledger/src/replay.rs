//! Writing what earlier boots of this node had kept on disk while the database was away, before anything else happens.
//!
//! Everything goes through the writer like any other item. Doing it twice changes nothing: the first terminal row of a
//! request wins, so a process that dies on the way simply begins again.

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    error::LedgerError,
    queue::Queue,
    spool::Found,
    spooled::decode,
    spools::{SpoolRecords, Spools},
};

/// How many items are under way at a time: enough for full batches.
const UNDER_WAY: usize = 2_000;

/// Writes the spools of all earlier boots, oldest first, and removes each when all of it is durable.
pub async fn write_earlier_spools(spools: &dyn Spools, queue: &Queue, boot: Uuid) -> Result<(), LedgerError> {
    for earlier in spools.earlier(boot).map_err(LedgerError::Spool)? {
        let records = spools.read(earlier).map_err(LedgerError::Spool)?;
        let written = write_all(records, queue, earlier).await?;
        if written > 0 {
            tracing::warn!(boot = %earlier, written, "ends that had been kept on disk are in the database now");
        }
        spools.remove(earlier).map_err(LedgerError::Spool)?;
    }
    Ok(())
}

async fn write_all(records: SpoolRecords, queue: &Queue, boot: Uuid) -> Result<usize, LedgerError> {
    let mut written = 0;
    let mut under_way: Vec<oneshot::Receiver<Result<(), LedgerError>>> = Vec::new();
    for found in records {
        match found.map_err(LedgerError::Spool)? {
            Found::Record(bytes) => match decode(&bytes) {
                Some(item) => under_way.push(queue.push_recovered(item).await?),
                None => tracing::error!(%boot, "an item of the spool cannot be read: its request is left to recovery"),
            },
            Found::Damage(damage) => {
                metrics::counter!("truerelay_ledger_spool_damages_total").increment(1);
                tracing::error!(%boot, %damage, "the spool is damaged: what was there is left to recovery");
            }
        }
        if under_way.len() >= UNDER_WAY {
            written += all_durable(&mut under_way).await?;
        }
    }
    Ok(written + all_durable(&mut under_way).await?)
}

/// An item that can never be written is in quarantine; it must not keep a node from starting.
async fn all_durable(under_way: &mut Vec<oneshot::Receiver<Result<(), LedgerError>>>) -> Result<usize, LedgerError> {
    let mut durable = 0;
    for receiver in under_way.drain(..) {
        match receiver.await.map_err(|_| LedgerError::Stopped)? {
            Ok(()) => durable += 1,
            Err(LedgerError::Rejected) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(durable)
}
