//! Sending one batch until its outcome is known.

use std::time::Duration;

use store::StoreError;

use crate::{
    batch::{Batch, Committed, Locking},
    ledger_store::LedgerStore,
};

/// A database that says nothing for so long is taken for away: the batch is sent again on another connection.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Sends the same batch again and again. Only a data error or a store that cannot be trusted any more ends this without
/// an outcome.
pub async fn send_until_known(store: &dyn LedgerStore, batch: &Batch) -> Result<Committed, StoreError> {
    let mut pause = FIRST_RETRY;
    let mut locking = Locking::Wait;
    loop {
        let error = match tokio::time::timeout(APPLY_TIMEOUT, store.apply(batch, locking)).await {
            Ok(Ok(committed)) => return Ok(committed),
            Ok(Err(error)) => error,
            Err(_) => StoreError::Busy,
        };
        if error.is_data_error() || is_fatal(&error) {
            return Err(error);
        }
        metrics::counter!("truerelay_ledger_batch_retries_total").increment(1);
        tracing::warn!(%error, batch = batch.name.number, "a ledger batch is tried again");
        if matches!(error, StoreError::Busy) {
            locking = Locking::SkipLocked;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_RETRY);
    }
}

/// After these the database may have lost what it confirmed, or somebody else writes under our name.
fn is_fatal(error: &StoreError) -> bool {
    matches!(error, StoreError::Fenced(_)) || error.is_io_failure()
}
