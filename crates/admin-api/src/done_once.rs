//! Objects that an operator creates once, however often the request is sent.

use serde::Serialize;
use sha2::{Digest, Sha256};
use store::{
    Tx,
    idempotency::{self, Known},
};

use crate::{
    access::FullOperator,
    answer::Created,
    error::{AdminError, Answer, ErrorCode},
    input::IdempotencyKey,
};

/// Does the work and remembers its answer in one transaction; of a repetition the answer is what it was. What was done is
/// audited by whoever does it.
///
/// # Errors
/// [`ErrorCode::IdempotencyMismatch`] when the key belongs to another request; what `work` says.
pub(crate) async fn do_once<C: Serialize, P: Serialize>(
    operator: &FullOperator,
    kind: &'static str,
    key: &IdempotencyKey,
    content: &C,
    work: impl AsyncFnOnce(&Tx) -> Answer<P>,
) -> Answer<Created<serde_json::Value>> {
    let scope = format!("admin.{kind}");
    let content = serde_json::to_vec(content).map_err(|error| AdminError::internal(&error))?;
    let fingerprint = hex::encode(Sha256::digest(content));
    let tx = operator.begin().await?;
    match idempotency::claim(&tx, &scope, &key.0, &fingerprint).await? {
        Known::Repeated(answer) => Ok(Created(answer)),
        Known::Mismatch => Err(AdminError::new(
            ErrorCode::IdempotencyMismatch,
            format!("this idempotency key belongs to another {kind}: repeat that one unchanged, or use a new key"),
        )),
        Known::New => {
            let done = work(&tx).await?;
            let answer = serde_json::to_value(done).map_err(|error| AdminError::internal(&error))?;
            idempotency::remember(&tx, &scope, &key.0, &answer).await?;
            tx.commit().await?;
            Ok(Created(answer))
        }
    }
}
