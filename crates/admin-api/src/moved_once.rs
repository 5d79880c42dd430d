//! Credit that an operator moves, is moved once, however often the request is sent.

use accounts::operator_tenants;
use domain::TenantId;
use ledger::archive::Movement;
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::{
    Tx, audit,
    idempotency::{self, Known},
};

use crate::{
    access::FullOperator,
    answer::Created,
    error::{AdminError, Answer, ErrorCode},
    input::IdempotencyKey,
};

/// A request to move credit.
pub(crate) struct Wanted<'a, C> {
    /// `grant`, `withdrawal`. Idempotency keys are known by it, whoever sends them: an operator who repeats a request with
    /// a new token repeats it.
    pub kind: &'static str,
    /// Whose credit.
    pub tenant: TenantId,
    /// New for every request, the same for every repetition of it.
    pub key: &'a IdempotencyKey,
    /// What makes two requests the same: their meaning, not their spelling.
    pub content: C,
}

/// What was done in the open transaction.
pub(crate) struct Moved<P> {
    /// For the audit log.
    pub id: String,
    /// For the operator, now and whenever he repeats the request.
    pub posted: P,
    /// For the archive.
    pub movement: Movement,
}

/// Moves the credit, audits it, remembers the answer and commits; of a repetition the answer is what it was.
///
/// # Errors
/// [`ErrorCode::IdempotencyMismatch`] when the key belongs to another request; what `post` says.
pub(crate) async fn move_once<C: Serialize, P: Serialize>(
    operator: &FullOperator,
    wanted: &Wanted<'_, C>,
    post: impl AsyncFnOnce(&Tx) -> Answer<Moved<P>>,
) -> Answer<Created<serde_json::Value>> {
    let kind = wanted.kind;
    let scope = format!("admin.{kind}");
    let key = &wanted.key.0;
    let tx = operator.begin().await?;
    operator_tenants::get(tx.connection(), wanted.tenant).await?;
    match idempotency::claim(&tx, &scope, key, &fingerprint(wanted)?).await? {
        Known::Repeated(answer) => Ok(Created(answer)),
        Known::Mismatch => Err(AdminError::new(
            ErrorCode::IdempotencyMismatch,
            format!("this idempotency key belongs to another {kind}: repeat that one unchanged, or use a new key"),
        )),
        Known::New => {
            let moved = post(&tx).await?;
            let answer = serde_json::to_value(&moved.posted).map_err(|error| AdminError::internal(&error))?;
            let action = format!("{kind}.create");
            audit::record(&tx, operator.actor(), &action, &moved.id, None, Some(&answer)).await?;
            idempotency::remember(&tx, &scope, key, &answer).await?;
            operator.commit_movement(tx, moved.movement).await?;
            Ok(Created(answer))
        }
    }
}

fn fingerprint<C: Serialize>(wanted: &Wanted<'_, C>) -> Answer<String> {
    let text = serde_json::to_vec(&(wanted.tenant, &wanted.content)).map_err(|error| AdminError::internal(&error))?;
    Ok(hex::encode(Sha256::digest(text)))
}
