//! Closing what nobody will close any more: holds of this node's earlier boots, at start, and holds of anybody
//! that are older than any request may be.
//!
//! Without a record of how far an answer had come, the customer pays nothing; what the provider may bill is booked
//! as the operator's loss, at the most that it can be.

use std::time::Duration;

use domain::request::Reason;
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};
use store::{Backend, Database, StoreError};
use uuid::Uuid;

use crate::{
    NodeIdentity,
    error::LedgerError,
    items::{Closing, End, OpenHold, ProviderCost},
    queue::Queue,
    sql_store::read_hold,
};

const PAGE: i64 = 500;

const OF_EARLIER_BOOTS: &str = "SELECT request_id, tenant_id, key_id, amount, budgets_json, price_version, provider, \
     provider_estimate FROM hold WHERE node_id = $1 AND boot <> $2 AND request_id > $3 ORDER BY request_id LIMIT $4";
const BY_AGE_POSTGRES: &str = "SELECT request_id, tenant_id, key_id, amount, budgets_json, price_version, provider, \
     provider_estimate FROM hold \
     WHERE created_at_ms < (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT - $1 AND request_id > $2 ORDER BY request_id LIMIT $3";
const BY_AGE_SQLITE: &str = "SELECT request_id, tenant_id, key_id, amount, budgets_json, price_version, provider, \
     provider_estimate FROM hold \
     WHERE created_at_ms < CAST(unixepoch('subsec') * 1000 AS INTEGER) - $1 AND request_id > $2 ORDER BY request_id LIMIT $3";

/// Closes the holds of this node's earlier boots. Answers how many there were, when all are durable.
///
/// # Errors
/// When the database cannot be read or the writer has stopped.
pub async fn close_earlier_boots(database: &Database, queue: &Queue, node: &NodeIdentity) -> Result<u64, LedgerError> {
    let of = [node.id.as_uuid().into(), node.boot.into()];
    close_pages(database, queue, OF_EARLIER_BOOTS, &of, Reason::RelayCrashed).await
}

/// Closes holds that are older than `max_age`, whoever placed them. Answers how many there were.
///
/// # Errors
/// When the database cannot be read or the writer has stopped.
pub async fn close_by_age(database: &Database, queue: &Queue, max_age: Duration) -> Result<u64, LedgerError> {
    let sql = match database.backend() {
        Backend::Postgres => BY_AGE_POSTGRES,
        Backend::Sqlite => BY_AGE_SQLITE,
    };
    let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
    close_pages(database, queue, sql, &[max_age_ms.into()], Reason::HoldExpired).await
}

/// Goes on after the last row of a page, so that a hold which cannot be closed does not keep the others from it.
async fn close_pages(
    database: &Database,
    queue: &Queue,
    sql: &'static str,
    of: &[Value],
    reason: Reason,
) -> Result<u64, LedgerError> {
    let mut closed = 0;
    let mut after = Uuid::nil();
    loop {
        let mut values = of.to_vec();
        values.extend([after.into(), PAGE.into()]);
        let holds = read_holds(database, sql, values).await?;
        let Some(last) = holds.last() else { return Ok(closed) };
        after = last.request.as_uuid();
        closed += close_all(queue, &holds, reason).await?;
    }
}

async fn read_holds(database: &Database, sql: &'static str, values: Vec<Value>) -> Result<Vec<OpenHold>, StoreError> {
    let connection = database.readers();
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
    let rows: Vec<QueryResult> = connection.query_all_raw(statement).await?;
    rows.iter().map(read_hold).collect()
}

async fn close_all(queue: &Queue, holds: &[OpenHold], reason: Reason) -> Result<u64, LedgerError> {
    let mut pending = Vec::with_capacity(holds.len());
    for hold in holds {
        pending.push(queue.push_recovered(abandoned(hold, reason)).await?);
    }
    let mut closed = 0;
    for receiver in pending {
        match receiver.await.map_err(|_| LedgerError::Stopped)? {
            Ok(()) => closed += 1,
            // the writer has told which and why; somebody must look, and all others must not wait for that
            Err(LedgerError::Rejected) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(closed)
}

fn abandoned(hold: &OpenHold, reason: Reason) -> Closing {
    let unbilled = ProviderCost {
        provider: hold.provider.clone(),
        amount: hold.provider_estimate,
    };
    Closing {
        request: hold.request,
        tenant: hold.tenant,
        key: hold.key,
        reason,
        end: End::Void,
        unbilled: vec![unbilled],
        record: None,
    }
}
