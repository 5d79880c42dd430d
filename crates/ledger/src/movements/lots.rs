//! One lot with its claims, locked after its account; and what a movement made of them, for the archive.

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use store::{Backend, StoreError, Tx};

use super::lock_account;
use crate::{
    LedgerError,
    archive::{
        Movement, gate,
        record::{ClaimRow, LotRow, TransactionRow},
        standing,
    },
    chart::LotKind,
    claims::{Claim, Purpose},
    rules::Balance,
    sql_store::read_claim,
};

/// An account and one of its lots, under lock.
pub(super) struct Locked {
    pub tenant: TenantId,
    pub balance: Balance,
    /// Every movement counts it up.
    pub version: i64,
    pub lot: LockedLot,
}

/// A lot under lock.
pub(super) struct LockedLot {
    pub id: LotId,
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

/// Locks an account, then a lot of it, then the claims on that.
///
/// # Errors
/// [`LedgerError::AwaitsReplay`] while a restored database waits for its archives, [`LedgerError::UnknownLot`], and what
/// the database says.
pub(super) async fn lock(tx: &Tx, tenant: TenantId, lot: LotId) -> Result<Locked, LedgerError> {
    gate::refuse_while_closed(tx).await?;
    let (balance, version) = lock_account(tx, tenant).await?;
    let lot = find_lot(tx, tenant, lot).await?.ok_or(LedgerError::UnknownLot)?;
    Ok(Locked {
        tenant,
        balance,
        version,
        lot,
    })
}

/// What a movement has made of an account and its lot.
pub(super) struct Moved {
    pub balance: Balance,
    pub remaining: Amount,
    pub transaction: TransactionRow,
    pub at: UnixMs,
}

/// A movement as the archive keeps it. Everything is written by now.
pub(super) async fn archived(tx: &Tx, before: &Locked, moved: Moved) -> Result<Movement, StoreError> {
    let mut movement = Movement::step(before.tenant, before.version + 1, moved.at);
    let part = &mut movement.0;
    part.was = standing(before.balance);
    part.now = standing(moved.balance);
    if moved.remaining != before.lot.remaining {
        part.drawn.push((before.lot.id.as_uuid(), moved.remaining.nanos()));
    }
    if !before.balance.claimed.is_zero() || !moved.balance.claimed.is_zero() {
        let sql = "SELECT lot_id, purpose, amount, reference, created_at_ms FROM claim WHERE tenant_id = $1";
        let rows = tx.query(sql, vec![before.tenant.as_uuid().into()]).await?;
        let claims = rows.iter().map(|row| Ok(ClaimRow::of(&read_claim(row)?)));
        part.claims = Some(claims.collect::<Result<_, StoreError>>()?);
    }
    part.transactions.push(moved.transaction);
    Ok(movement)
}

pub(super) async fn find_lot(tx: &Tx, tenant: TenantId, lot: LotId) -> Result<Option<LockedLot>, StoreError> {
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
        id: lot,
        kind: LotKind::parse(&kind).ok_or_else(|| StoreError::damaged("lot.kind"))?,
        remaining: Amount::from_nanos(row.try_get("", "remaining")?),
        expires_at: expires_at.map(UnixMs),
        claims: claims.iter().map(read_claim).collect::<Result<_, _>>()?,
    }))
}

/// A new lot.
pub(super) async fn insert_lot(tx: &Tx, tenant: TenantId, lot: &LotRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO lot (id, tenant_id, kind, granted, remaining, expires_at_ms, created_at_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = vec![
        lot.id.into(),
        tenant.as_uuid().into(),
        lot.kind.clone().into(),
        lot.granted.into(),
        lot.remaining.into(),
        lot.expires_at_ms.into(),
        lot.created_at_ms.into(),
    ];
    tx.execute(sql, values).await?;
    Ok(())
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
