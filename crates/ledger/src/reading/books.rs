//! Lots and transactions, as an operator sees them.

use std::collections::BTreeMap;

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use sea_orm::{DatabaseConnection, QueryResult};
use serde::Serialize;
use store::StoreError;
use uuid::Uuid;

use super::{amount, rows};
use crate::{
    chart::{Account, LotKind},
    claims::Claim,
    sql_store::read_claim,
};

/// A lot as an operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct LotView {
    /// The lot.
    pub id: LotId,
    /// Paid or promotional.
    pub kind: LotKind,
    /// What was granted.
    pub granted: Amount,
    /// What is left.
    pub remaining: Amount,
    /// When what is left expires, if it does.
    pub expires_at: Option<UnixMs>,
    /// When it was granted.
    pub created_at: UnixMs,
    /// What is to leave it when holds end, oldest first.
    pub claims: Vec<Claim>,
    /// What has left it and must not be used for now.
    pub suspended: Amount,
}

/// One entry of a transaction. Debits are positive, credits negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryView {
    /// The account, as `kind:subject`.
    pub account: String,
    /// The signed amount.
    pub amount: Amount,
}

/// A transaction with its entries.
#[derive(Debug, Clone, Serialize)]
pub struct TransactionView {
    /// Counts up; also the paging cursor.
    pub seq: i64,
    /// Derived from what caused it.
    pub id: Uuid,
    /// `usage`, `operator_cost`, `grant`, ...
    pub kind: String,
    /// The tenant whose credit moved, if one.
    pub tenant: Option<TenantId>,
    /// What caused it.
    pub reference: String,
    /// Who caused it.
    pub actor: String,
    /// When.
    pub at: UnixMs,
    /// The entries; they sum to zero.
    pub entries: Vec<EntryView>,
}

/// A tenant's lots, oldest first.
///
/// # Errors
/// What the database says.
pub async fn operator_lots(connection: &DatabaseConnection, tenant: TenantId) -> Result<Vec<LotView>, StoreError> {
    let sql = "SELECT id, kind, granted, remaining, expires_at_ms, created_at_ms FROM lot WHERE tenant_id = $1 ORDER BY id LIMIT 1000";
    let found = rows(connection, sql, vec![tenant.as_uuid().into()]).await?;
    let mut lots = found.iter().map(read_lot).collect::<Result<Vec<_>, _>>()?;
    let sql = "SELECT lot_id, purpose, amount, reference, created_at_ms FROM claim WHERE tenant_id = $1 \
               ORDER BY created_at_ms, purpose";
    for row in rows(connection, sql, vec![tenant.as_uuid().into()]).await? {
        let claim = read_claim(&row)?;
        if let Some(lot) = lots.iter_mut().find(|lot| lot.id == claim.lot) {
            lot.claims.push(claim);
        }
    }
    let suspended = suspended(connection, tenant, &lots).await?;
    for lot in &mut lots {
        let account = Account::CreditSuspended(tenant, lot.id).to_string();
        lot.suspended = suspended.get(&account).copied().unwrap_or_default();
    }
    Ok(lots)
}

fn read_lot(row: &QueryResult) -> Result<LotView, StoreError> {
    let kind: String = row.try_get("", "kind")?;
    let expires_at: Option<i64> = row.try_get("", "expires_at_ms")?;
    Ok(LotView {
        id: LotId::from_uuid(row.try_get("", "id")?),
        kind: LotKind::parse(&kind).ok_or_else(|| StoreError::damaged("lot.kind"))?,
        granted: amount(row, "granted")?,
        remaining: amount(row, "remaining")?,
        expires_at: expires_at.map(UnixMs),
        created_at: UnixMs(row.try_get("", "created_at_ms")?),
        claims: Vec::new(),
        suspended: Amount::ZERO,
    })
}

/// What is suspended, by account.
async fn suspended(
    connection: &DatabaseConnection,
    tenant: TenantId,
    lots: &[LotView],
) -> Result<BTreeMap<String, Amount>, StoreError> {
    if lots.is_empty() {
        return Ok(BTreeMap::new());
    }
    let places: Vec<String> = (1..=lots.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT account, CAST(-SUM(amount) AS BIGINT) AS suspended FROM entry WHERE account IN ({}) GROUP BY account",
        places.join(", ")
    );
    let accounts = lots
        .iter()
        .map(|lot| Account::CreditSuspended(tenant, lot.id).to_string().into());
    let found = rows(connection, sql, accounts.collect()).await?;
    found
        .iter()
        .map(|row| Ok((row.try_get("", "account")?, amount(row, "suspended")?)))
        .collect()
}

/// A page of transactions, newest first, older than `before_seq` when given; of one tenant when given.
///
/// # Errors
/// What the database says.
pub async fn operator_transactions(
    connection: &DatabaseConnection,
    tenant: Option<TenantId>,
    before_seq: Option<i64>,
    limit: u32,
) -> Result<Vec<TransactionView>, StoreError> {
    let before = before_seq.unwrap_or(i64::MAX);
    let found = match tenant {
        Some(tenant) => {
            let sql = "SELECT seq, id, kind, tenant_id, reference, actor, at_ms FROM tx \
                       WHERE tenant_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3";
            let values = vec![tenant.as_uuid().into(), before.into(), i64::from(limit).into()];
            rows(connection, sql, values).await?
        }
        None => {
            let sql = "SELECT seq, id, kind, tenant_id, reference, actor, at_ms FROM tx \
                       WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
            rows(connection, sql, vec![before.into(), i64::from(limit).into()]).await?
        }
    };
    let mut transactions = Vec::with_capacity(found.len());
    for row in &found {
        transactions.push(read_transaction(connection, row).await?);
    }
    Ok(transactions)
}

async fn read_transaction(connection: &DatabaseConnection, row: &QueryResult) -> Result<TransactionView, StoreError> {
    let id: Uuid = row.try_get("", "id")?;
    let tenant: Option<Uuid> = row.try_get("", "tenant_id")?;
    let sql = "SELECT account, amount FROM entry WHERE tx_id = $1 ORDER BY line";
    let entries = rows(connection, sql, vec![id.into()]).await?;
    let entries = entries
        .iter()
        .map(|entry| {
            Ok(EntryView {
                account: entry.try_get("", "account")?,
                amount: amount(entry, "amount")?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(TransactionView {
        seq: row.try_get("", "seq")?,
        id,
        kind: row.try_get("", "kind")?,
        tenant: tenant.map(TenantId::from_uuid),
        reference: row.try_get("", "reference")?,
        actor: row.try_get("", "actor")?,
        at: UnixMs(row.try_get("", "at_ms")?),
        entries,
    })
}
