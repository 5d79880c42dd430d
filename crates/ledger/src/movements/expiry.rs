//! Expiry: what is left of lots whose time has passed, by the database's clock, is withdrawn. Each lot in a transaction
//! of its own, looked at again under its lock, so several nodes may do this at once and any of them may die.

use domain::{Amount, LotId, TenantId, clock::UnixMs};
use store::{Database, StoreError, audit::Actor};
use uuid::Uuid;

use super::{
    lots::lock,
    withdrawal::{Withdrawal, take},
};
use crate::{LedgerError, archive::Archive, claims::Purpose, reading::rows};

/// Lots read at a time.
const PAGE: i64 = 100;

/// Lots of which something is left that is not claimed yet. The rest of a claimed one leaves when holds end.
const DUE: &str = "SELECT l.id, l.tenant_id, l.expires_at_ms FROM lot l \
     WHERE NOT l.spent AND l.expires_at_ms IS NOT NULL AND l.expires_at_ms <= $1 \
     AND (l.expires_at_ms, l.id) > ($2, $3) \
     AND l.remaining > (SELECT COALESCE(SUM(c.amount), 0) FROM claim c WHERE c.lot_id = l.id) \
     ORDER BY l.expires_at_ms, l.id LIMIT $4";

/// What a round of expiry did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Lots of which something was taken or claimed.
    pub lots: u64,
    /// How much left them at once.
    pub taken: Amount,
    /// How much waits until requests under way end.
    pub claimed: Amount,
    /// Lots that somebody else was using, or that are not as the rules require; they are due again in the next round.
    pub skipped: u64,
}

/// Withdraws what is left of every lot that has expired. The archive is told after each commit.
///
/// # Errors
/// When the database cannot be read or written, or waits for its archives after a restore. What was withdrawn until then stays so.
pub async fn expire_lots(database: &Database, archive: &Archive) -> Result<Expired, LedgerError> {
    let now = database.now().await?;
    let mut expired = Expired::default();
    let mut after = Due {
        expires_at_ms: i64::MIN,
        ..Due::default()
    };
    loop {
        let page = page_of_due(database, now, &after).await?;
        let Some(last) = page.last() else { return Ok(expired) };
        after = last.clone();
        for due in page {
            match expire(database, archive, &due).await {
                Ok(Some((taken, claimed))) => {
                    expired.add(taken, claimed);
                    metrics::counter!("truerelay_ledger_lots_expired_total").increment(1);
                    tracing::info!(lot = %LotId::from_uuid(due.lot), %taken, %claimed, "credit has expired");
                }
                Ok(None) => {}
                Err(LedgerError::Store(error)) if !concerns_one_lot(&error) => return Err(error.into()),
                Err(error @ LedgerError::AwaitsReplay(_)) => return Err(error),
                Err(error) => {
                    expired.skipped += 1;
                    tracing::warn!(lot = %LotId::from_uuid(due.lot), %error, "credit that has expired cannot be withdrawn now");
                }
            }
        }
    }
}

/// A lot that is in use or broken does not keep the others from expiring.
fn concerns_one_lot(error: &StoreError) -> bool {
    matches!(error, StoreError::Busy) || error.is_data_error()
}

/// A lot that has expired.
#[derive(Debug, Clone, Default)]
struct Due {
    lot: Uuid,
    tenant: Uuid,
    expires_at_ms: i64,
}

async fn page_of_due(database: &Database, now: UnixMs, after: &Due) -> Result<Vec<Due>, StoreError> {
    let values = vec![now.0.into(), after.expires_at_ms.into(), after.lot.into(), PAGE.into()];
    let page = rows(database.readers(), DUE, values).await?;
    page.iter()
        .map(|row| {
            Ok(Due {
                lot: row.try_get("", "id")?,
                tenant: row.try_get("", "tenant_id")?,
                expires_at_ms: row.try_get("", "expires_at_ms")?,
            })
        })
        .collect()
}

impl Expired {
    fn add(&mut self, taken: Amount, claimed: Amount) {
        self.lots += 1;
        self.taken = self.taken.checked_add(taken).unwrap_or(Amount::MAX);
        self.claimed = self.claimed.checked_add(claimed).unwrap_or(Amount::MAX);
    }
}

/// Takes what is left of one lot, and a claim for what holds cover. `None` when nothing is due any more.
async fn expire(database: &Database, archive: &Archive, due: &Due) -> Result<Option<(Amount, Amount)>, LedgerError> {
    let (tenant, lot) = (TenantId::from_uuid(due.tenant), LotId::from_uuid(due.lot));
    let tx = database.begin().await?;
    let locked = lock(&tx, tenant, lot).await?;
    let now = tx.now().await?;
    let unclaimed = locked.lot.unclaimed();
    if unclaimed.is_zero() || locked.lot.expires_at.is_none_or(|expiry: UnixMs| expiry > now) {
        tx.rollback().await?;
        return Ok(None);
    }
    let taken = unclaimed.min(locked.balance.available);
    let claimed = unclaimed.less(taken);
    let withdrawal = Withdrawal {
        tenant,
        lot,
        purpose: Purpose::Expiry,
        amount: unclaimed,
        // a lot may expire more than once, if something is released to it later
        source: format!("expiry:{lot}:{}", locked.version),
    };
    let actor = Actor::system("ledger-expiry");
    let movement = take(&tx, &actor, &withdrawal, &locked, (taken, claimed)).await?;
    tx.commit().await?;
    archive.keep(movement);
    Ok(Some((taken, claimed)))
}
