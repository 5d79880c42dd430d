//! One correction of one request, with its audit row, in a transaction of its own. Single corrections, lists and whatever
//! else corrects many requests are made of it.

use domain::{Amount, RequestId, request::BudgetKey};
use ledger::{
    LedgerError,
    corrections::CorrectionKind,
    movements::{self, Corrected, Correction},
    reading,
};
use serde_json::json;
use store::{StoreError, Tx, audit};

use crate::{
    access::FullOperator,
    error::{AdminError, Answer},
};

/// What is wanted, of each request that it is wanted of.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Why something goes back.
    pub kind: CorrectionKind,
    /// How much of each request; `None` for all that is left of its charge.
    pub amount: Option<Amount>,
    /// Why, for people and the audit log.
    pub reason: String,
    /// What identifies the wish: each request is corrected once for it, however often it is asked for.
    pub source: String,
}

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Done {
    /// It is corrected now.
    Corrected(Corrected),
    /// It had been before, for the same wish.
    Repeated(reading::CorrectionView),
    /// It cannot be: nothing is left of the charge, or there is none.
    Refused(LedgerError),
}

/// Makes one correction and commits it.
///
/// # Errors
/// What the database says, such as being busy: try again. A request that cannot be corrected is no error.
pub(crate) async fn correct_one(operator: &FullOperator, request: RequestId, wish: &Wish) -> Answer<Done> {
    let Some(correction) = correction(operator, request, wish).await? else {
        return Ok(Done::Refused(LedgerError::UnknownCharge));
    };
    let tx = operator.begin().await?;
    match post(&tx, operator, &correction, wish).await {
        Ok(corrected) => {
            operator.commit_movement(tx, corrected.movement.clone()).await?;
            Ok(Done::Corrected(corrected))
        }
        Err(error) => {
            tx.rollback().await?;
            settled_without(operator, &correction, error).await
        }
    }
}

/// What a correction would do now. Nothing of it stays.
///
/// # Errors
/// As [`correct_one`].
pub(crate) async fn preview_one(operator: &FullOperator, request: RequestId, wish: &Wish) -> Answer<Done> {
    let Some(correction) = correction(operator, request, wish).await? else {
        return Ok(Done::Refused(LedgerError::UnknownCharge));
    };
    let tx = operator.begin().await?;
    let corrected = movements::correct(&tx, operator.actor(), &correction).await;
    tx.rollback().await?;
    match corrected {
        Ok(corrected) => Ok(Done::Corrected(corrected)),
        Err(error) => settled_without(operator, &correction, error).await,
    }
}

/// Makes one correction in an open transaction, with its audit row.
///
/// # Errors
/// As [`movements::correct`].
pub(crate) async fn post(
    tx: &Tx,
    operator: &FullOperator,
    correction: &Correction,
    wish: &Wish,
) -> Result<Corrected, LedgerError> {
    let corrected = movements::correct(tx, operator.actor(), correction).await?;
    let after = json!({
        "transaction": corrected.transaction,
        "kind": wish.kind,
        "amount_usd": corrected.amount,
        "net_charge_usd": corrected.net_charge,
        "reason": wish.reason,
    });
    let request = correction.request.to_string();
    audit::record(tx, operator.actor(), "correction.create", &request, None, Some(&after)).await?;
    Ok(corrected)
}

/// The wish for one request; `None` when it has no charge. In which budgets that was counted stands in its record, which was
/// written with the charge: so the charge is looked for first.
pub(crate) async fn correction(operator: &FullOperator, request: RequestId, wish: &Wish) -> Answer<Option<Correction>> {
    let readers = operator.parts().database.readers();
    if reading::operator_charge(readers, request).await?.is_none() {
        return Ok(None);
    }
    let record = request_log::operator_find(readers, request).await?;
    let budgets: Vec<BudgetKey> = record.map(|record| record.budgets).unwrap_or_default();
    Ok(Some(Correction {
        request,
        kind: wish.kind,
        amount: wish.amount,
        source: wish.source.clone(),
        budgets,
    }))
}

/// What a refusal means for this request, or the error that stops everything.
async fn settled_without(operator: &FullOperator, correction: &Correction, error: LedgerError) -> Answer<Done> {
    match error {
        LedgerError::Duplicate => {
            let readers = operator.parts().database.readers();
            let made = reading::operator_corrections(readers, &[correction.request]).await?;
            let id = correction.transaction_id();
            let earlier = made.into_iter().find(|made| made.transaction == id);
            earlier.map(Done::Repeated).ok_or_else(|| AdminError::from(error))
        }
        LedgerError::UnknownCharge
        | LedgerError::MoreThanCharged(_)
        | LedgerError::MoreThanHeld(_)
        | LedgerError::InvalidAmount(_) => Ok(Done::Refused(error)),
        // no repetition mends it, and the other requests of a list must not wait for it
        LedgerError::Store(StoreError::Contradiction(_) | StoreError::Damaged(_) | StoreError::MissingReference) => {
            tracing::error!(%error, request = %correction.request, "a charge cannot be corrected");
            Ok(Done::Refused(error))
        }
        other => Err(other.into()),
    }
}
