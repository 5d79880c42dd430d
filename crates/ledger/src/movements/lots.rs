//! One lot with its claims, locked after its account.

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use store::{Backend, StoreError, Tx};

use crate::{
    LedgerError,
    chart::LotKind,
    claims::{Claim, Purpose},
    sql_store::read_claim,
};

/// A lot under lock.
pub(super) struct LockedLot {
    pub kind: LotKind,
    pub remaining: Amount,
    pub expires_at: Option<UnixMs>,
    pub claims: Vec<Claim>,
}

impl LockedLot {
    /// What is left and not claimed yet.
    pub fn unclaimed(&self) -> Amount {
        let claimed = Amount::checked_sum(self.claims.iter().map(|claim| claim.amount));
        self.remaining.less(claimed.unwrap_or(Amount::MAX))
    }

    /// What waits for a purpose.
    pub fn claimed_for(&self, purpose: Purpose) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.purpose == purpose)
    }
}

/// Locks a lot of the tenant, and the claims on it.
pub(super) async fn lock_lot(tx: &Tx, tenant: TenantId, lot: LotId) -> Result<LockedLot, LedgerError> {
    find_lot(tx, tenant, lot).await?.ok_or(LedgerError::UnknownLot)
}

async fn find_lot(tx: &Tx, tenant: TenantId, lot: LotId) -> Result<Option<LockedLot>, StoreError> {
    let lock = match tx.backend() {
        Backend::Postgres => "FOR UPDATE",
        Backend::Sqlite => "",
    };
    let sql = format!("SELECT kind, remaining, expires_at_ms FROM lot WHERE id = $1 AND tenant_id = $2 {lock}");
    let values = vec![lot.as_uuid().into(), tenant.as_uuid().into()];
    let rows = tx.query(sql, values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let kind: String = row.try_get("", "kind")?;
    let expires_at: Option<i64> = row.try_get("", "expires_at_ms")?;
    let sql = format!(
        "SELECT lot_id, purpose, amount, reference, created_at_ms FROM claim WHERE lot_id = $1 ORDER BY purpose {lock}"
    );
    let claims = tx.query(sql, vec![lot.as_uuid().into()]).await?;
    Ok(Some(LockedLot {
        kind: LotKind::parse(&kind).ok_or_else(|| StoreError::damaged("lot.kind"))?,
        remaining: Amount::from_nanos(row.try_get("", "remaining")?),
        expires_at: expires_at.map(UnixMs),
        claims: claims.iter().map(read_claim).collect::<Result<_, _>>()?,
    }))
}

/// What is left of a lot from now on.
pub(super) async fn set_remaining(tx: &Tx, lot: LotId, remaining: Amount) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE lot SET remaining = $2 WHERE id = $1",
        vec![lot.as_uuid().into(), remaining.nanos().into()],
    )
    .await?;
    Ok(())
}

/// Moves a tenant's balance: what is available and what is claimed change by these amounts, which may be negative.
pub(super) async fn move_balance(
    tx: &Tx,
    tenant: TenantId,
    available_nanos: i64,
    claimed_nanos: i64,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE acct SET available = available + $2, claimed = claimed + $3, version = version + 1 \
         WHERE tenant_id = $1",
        vec![tenant.as_uuid().into(), available_nanos.into(), claimed_nanos.into()],
    )
    .await?;
    Ok(())
}
