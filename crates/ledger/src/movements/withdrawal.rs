//! Withdrawals: credit leaves a lot without being spent. What open holds cover cannot leave yet; a claim waits for it,
//! and is served by what those holds give back.

use domain::{Amount, LotId, TenantId};
use store::{Tx, audit::Actor};
use uuid::Uuid;

use super::{
    lock_account,
    lots::{LockedLot, lock_lot, move_balance, set_remaining},
    post, refuse_repetition,
};
use crate::{
    LedgerError,
    chart::Account,
    claims::Purpose,
    posting::{Posting, Transaction, transaction_id},
};

/// Credit to take out of a lot.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// Whose.
    pub tenant: TenantId,
    /// From which of its lots.
    pub lot: LotId,
    /// Why.
    pub purpose: Purpose,
    /// How much; more than nothing, and no more than is left and not claimed.
    pub amount: Amount,
    /// What identifies the withdrawal: given twice, it is posted once. It is the reference of its postings.
    pub source: String,
}

impl Withdrawal {
    /// Made of what identifies the withdrawal.
    fn transaction_id(&self) -> Uuid {
        transaction_id(&[
            self.purpose.as_str().as_bytes(),
            self.tenant.as_uuid().as_bytes(),
            self.lot.as_uuid().as_bytes(),
            self.source.as_bytes(),
        ])
    }
}

/// What a withdrawal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawn {
    /// How much left the lot at once.
    pub taken: Amount,
    /// How much waits until requests under way end. It goes down by what they spend of the lot.
    pub claimed: Amount,
    /// What is left of the lot, claims included.
    pub remaining: Amount,
    /// The tenant's available credit afterwards.
    pub available: Amount,
}

/// Takes credit out of a lot: at once as far as the tenant has it available, and a claim for the rest.
///
/// # Errors
/// [`LedgerError::InvalidAmount`] for nothing or less, [`LedgerError::UnknownLot`], [`LedgerError::NotRefundable`],
/// [`LedgerError::MoreThanLeft`], [`LedgerError::ClaimWaits`], [`LedgerError::Duplicate`] when the source was withdrawn
/// before, and what the database says.
pub async fn withdraw(tx: &Tx, actor: &Actor, withdrawal: &Withdrawal) -> Result<Withdrawn, LedgerError> {
    if withdrawal.amount <= Amount::ZERO {
        return Err(LedgerError::InvalidAmount(
            "the amount of a withdrawal must be more than 0",
        ));
    }
    let (balance, _) = lock_account(tx, withdrawal.tenant).await?;
    refuse_repetition(tx, withdrawal.transaction_id()).await?;
    let lot = lock_lot(tx, withdrawal.tenant, withdrawal.lot).await?;
    if !withdrawal.purpose.allows(lot.kind) {
        return Err(LedgerError::NotRefundable);
    }
    let unclaimed = lot.unclaimed();
    if withdrawal.amount > unclaimed {
        return Err(LedgerError::MoreThanLeft(unclaimed));
    }
    let taken = withdrawal.amount.min(balance.available);
    let claimed = withdrawal.amount.less(taken);
    // which withdrawal a claim stands for must be told by its reference
    if !claimed.is_zero() && lot.claimed_for(withdrawal.purpose).is_some() {
        return Err(LedgerError::ClaimWaits);
    }
    take(tx, actor, withdrawal, &lot, taken, claimed).await?;
    Ok(Withdrawn {
        taken,
        claimed,
        remaining: lot.remaining.less(taken),
        available: balance.available.less(taken),
    })
}

/// Posts what is taken, writes the claim for the rest, and moves lot and balance. Account and lot are locked.
pub(super) async fn take(
    tx: &Tx,
    actor: &Actor,
    withdrawal: &Withdrawal,
    lot: &LockedLot,
    taken: Amount,
    claimed: Amount,
) -> Result<(), LedgerError> {
    let now = tx.now().await?;
    post(tx, actor, transaction(withdrawal, lot, taken), now).await?;
    if !taken.is_zero() {
        set_remaining(tx, withdrawal.lot, lot.remaining.less(taken)).await?;
    }
    if !claimed.is_zero() {
        let values = vec![
            withdrawal.lot.as_uuid().into(),
            withdrawal.purpose.as_str().into(),
            withdrawal.tenant.as_uuid().into(),
            claimed.nanos().into(),
            withdrawal.source.clone().into(),
            now.0.into(),
        ];
        let sql = "INSERT INTO claim (lot_id, purpose, tenant_id, amount, reference, created_at_ms) \
                   VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (lot_id, purpose) DO UPDATE SET amount = claim.amount + excluded.amount";
        tx.execute(sql, values).await?;
    }
    move_balance(tx, withdrawal.tenant, -taken.nanos(), claimed.nanos()).await?;
    Ok(())
}

fn transaction(withdrawal: &Withdrawal, lot: &LockedLot, taken: Amount) -> Transaction {
    let Withdrawal {
        tenant,
        lot: id,
        purpose,
        ..
    } = *withdrawal;
    let mut posting = Posting::default();
    let credited = purpose.credited(lot.kind, tenant, id);
    posting.transfer(Account::Credit(lot.kind, tenant, id), credited, taken);
    Transaction {
        id: withdrawal.transaction_id(),
        kind: purpose.as_str(),
        tenant: Some(tenant),
        reference: withdrawal.source.clone(),
        posting,
    }
}
