//! `GET /v1/requests/{id}/receipt`: the proof of what a request cost, which its owner can check without us.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path},
};
use domain::{RequestId, scope::TenantScope};
use ledger::reading;
use store::StoreError;
use transparency::{LeafKind, RECEIPT_FORMAT, Receipt};

use crate::{
    caller::authenticate, error::RelayError, handlers::models::dialect_of, parts::Relay, reply::error_response,
};

/// The receipt of a request.
pub async fn show_receipt(relay: Data<Relay>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let result = match authenticate(&relay.parts, request.headers()).await {
        Ok(caller) => find(&relay, caller.scope, &id).await,
        Err(error) => Err(error),
    };
    match result {
        // it never changes; it is its owner's alone
        Ok(receipt) => HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, "private, max-age=300"))
            .json(receipt),
        Err(error) => error_response(dialect_of(request.headers()), RequestId::generate(), &error),
    }
}

async fn find(relay: &Relay, scope: TenantScope, id: &str) -> Result<Receipt, RelayError> {
    let id: RequestId = id.parse().map_err(|_| RelayError::UnknownRequest)?;
    let database = &relay.parts.database;
    let connection = database.readers();
    let charge = || reading::logged_charge(connection, scope, id);
    let logged = match charge().await.map_err(unreadable)? {
        Some(logged) => logged,
        None => {
            let held = reading::open_hold(connection, scope, id).await.map_err(unreadable)?;
            if held.is_some() {
                return Err(RelayError::ReceiptNotReady);
            }
            // it may have ended between the two readings
            let ended = charge().await.map_err(unreadable)?;
            ended.ok_or(RelayError::UnknownRequest)?
        }
    };
    let batch = logged.log_batch.ok_or(RelayError::NoReceipt)?;
    let proof = transparency_log::leaf_proof(database, batch, LeafKind::Request, id.as_uuid()).await;
    let proof = proof.map_err(unreadable)?.ok_or(RelayError::ReceiptNotReady)?;
    let record = request_log::find_text(connection, scope, id)
        .await
        .map_err(unreadable)?;
    let keys = transparency_log::key_list(database).await.map_err(unreadable)?.keys;
    let key = keys.into_iter().find(|key| key.id == proof.head.key);
    Ok(Receipt {
        format: RECEIPT_FORMAT.to_owned(),
        statement: logged.statement(record.as_deref()),
        salt: hex::encode(proof.salt),
        leaf: proof.value,
        batch: proof.batch,
        log: proof.log,
        head: proof.head,
        key: key.ok_or_else(|| unreadable(StoreError::damaged("log_signature: its key is missing")))?,
    })
}

fn unreadable(error: StoreError) -> RelayError {
    tracing::error!(%error, "a receipt could not be read");
    RelayError::Unavailable
}
