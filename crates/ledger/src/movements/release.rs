//! Releases: suspended credit goes back to the lot that it came from.

use domain::{Amount, LotId, TenantId};
use store::{StoreError, Tx, audit::Actor};
use uuid::Uuid;

use super::{
    lots::{LockedLot, Moved, archived, lock, move_balance, set_remaining},
    post, refuse_repetition, with_credit,
};
use crate::{
    LedgerError,
    archive::{Movement, transaction_row},
    chart::Account,
    claims::{Claim, Purpose},
    posting::{Posting, Transaction, transaction_id},
    rules::Balance,
};

/// Suspended credit to give back.
#[derive(Debug, Clone)]
pub struct Release {
    /// Whose.
    pub tenant: TenantId,
    /// To which lot, from which it was suspended.
    pub lot: LotId,
    /// How much; more than nothing, and no more than is suspended or waits to be.
    pub amount: Amount,
    /// What identifies the release: given twice, it is posted once.
    pub source: String,
}

impl Release {
    /// Made of what identifies the release.
    fn transaction_id(&self) -> Uuid {
        transaction_id(&[
            b"release",
            self.tenant.as_uuid().as_bytes(),
            self.lot.as_uuid().as_bytes(),
            self.source.as_bytes(),
        ])
    }
}

/// What a release did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// How much need not be suspended any more that had only been claimed.
    pub unclaimed: Amount,
    /// How much came back into the lot.
    pub returned: Amount,
    /// What is left of the lot, claims included.
    pub remaining: Amount,
    /// The tenant's available credit afterwards.
    pub available: Amount,
    /// For the archive, after the commit.
    pub movement: Movement,
}

/// Ends a suspension, or part of one: first what was only claimed, then what had been taken.
///
/// # Errors
/// [`LedgerError::InvalidAmount`] for nothing or less, [`LedgerError::UnknownLot`],
/// [`LedgerError::MoreThanSuspended`], [`LedgerError::Duplicate`] when the source was released before,
/// [`LedgerError::AwaitsReplay`] while a restored database waits for its archives, and what the database says.
pub async fn release(tx: &Tx, actor: &Actor, release: &Release) -> Result<Released, LedgerError> {
    if release.amount <= Amount::ZERO {
        return Err(LedgerError::InvalidAmount(
            "the amount of a release must be more than 0",
        ));
    }
    let locked = lock(tx, release.tenant, release.lot).await?;
    refuse_repetition(tx, release.transaction_id()).await?;
    let (balance, lot) = (locked.balance, &locked.lot);
    let claim = lot.claimed_for(Purpose::Suspension);
    let waiting = claim.map_or(Amount::ZERO, |claim| claim.amount);
    let unclaimed = release.amount.min(waiting);
    let returned = release.amount.less(unclaimed);
    let suspended = suspended_of(tx, release.tenant, release.lot).await?;
    if returned > suspended {
        let most = suspended.checked_add(waiting).unwrap_or(Amount::MAX);
        return Err(LedgerError::MoreThanSuspended(most));
    }
    let available = with_credit(balance, returned)?.available;
    let remaining = lot.remaining.checked_add(returned).unwrap_or(Amount::MAX);
    if let Some(claim) = claim {
        lower_claim(tx, claim, unclaimed).await?;
    }
    let now = tx.now().await?;
    let transaction = transaction(release, lot, returned);
    let row = transaction_row(&transaction, actor.as_str(), now);
    post(tx, actor, transaction, now).await?;
    if !returned.is_zero() {
        set_remaining(tx, release.lot, remaining).await?;
    }
    move_balance(tx, release.tenant, returned.nanos(), -unclaimed.nanos()).await?;
    let moved = Moved {
        balance: Balance {
            available,
            claimed: balance.claimed.less(unclaimed),
            ..balance
        },
        remaining,
        transaction: row,
        at: now,
    };
    Ok(Released {
        movement: archived(tx, &locked, moved).await?,
        unclaimed,
        returned,
        remaining,
        available,
    })
}

/// What was suspended of a lot, by its entries.
async fn suspended_of(tx: &Tx, tenant: TenantId, lot: LotId) -> Result<Amount, StoreError> {
    let sql = "SELECT CAST(COALESCE(-SUM(amount), 0) AS BIGINT) AS suspended FROM entry WHERE account = $1";
    let account = Account::CreditSuspended(tenant, lot).to_string();
    let rows = tx.query(sql, vec![account.into()]).await?;
    let nanos: i64 = rows.first().map_or(Ok(0), |row| row.try_get("", "suspended"))?;
    Ok(Amount::from_nanos(nanos))
}

async fn lower_claim(tx: &Tx, claim: &Claim, by: Amount) -> Result<(), StoreError> {
    let left = claim.amount.less(by);
    let mut values = vec![claim.lot.as_uuid().into(), claim.purpose.as_str().into()];
    let sql = if left.is_zero() {
        "DELETE FROM claim WHERE lot_id = $1 AND purpose = $2"
    } else {
        values.push(left.nanos().into());
        "UPDATE claim SET amount = $3 WHERE lot_id = $1 AND purpose = $2"
    };
    tx.execute(sql, values).await?;
    Ok(())
}

fn transaction(release: &Release, lot: &LockedLot, returned: Amount) -> Transaction {
    let Release { tenant, lot: id, .. } = *release;
    let mut posting = Posting::default();
    posting.transfer(
        Account::CreditSuspended(tenant, id),
        Account::Credit(lot.kind, tenant, id),
        returned,
    );
    Transaction {
        id: release.transaction_id(),
        kind: "release",
        tenant: Some(tenant),
        reference: release.source.clone(),
        posting,
    }
}
