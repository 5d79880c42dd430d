//! Cancelling an announced version: a row that says so. The version itself stays in the history.

use domain::clock::UnixMs;
use sea_orm::{EntityTrait, IntoActiveModel};
use store::{Tx, audit::Actor};

use super::{BookRows, BookSpan, NoticePeriod, PriceVersionView, get_price_version, notice};
use crate::{CatalogError, change, entities::price_cancellation, snapshot::COMMIT_LEAD_MS, wording};

/// How long before its instant a version can be cancelled at the latest, in milliseconds. A node applies a version only
/// if it has looked for changes within the last [`CONFIRM_MS`](crate::snapshot::CONFIRM_MS) before its instant or later,
/// so a cancellation is known wherever the version could count; what lies between is time to commit, and for clocks.
pub const MIN_CANCEL_LEAD_MS: i64 = 15_000;

/// Takes back a version that has not taken effect.
///
/// # Errors
/// [`CatalogError::NotFound`]; [`CatalogError::Refused`] when it is too late, or when it was cancelled before;
/// [`CatalogError::NoticeNeeded`] when prices would rise by it above those in force.
pub async fn cancel_version(
    tx: &Tx,
    actor: &Actor,
    version: i64,
    reason: &str,
    notice: NoticePeriod,
) -> Result<PriceVersionView, CatalogError> {
    wording::check_note("reason", reason)?;
    if reason.trim().is_empty() {
        return Err(CatalogError::invalid("reason", "say why; it is kept in the audit log"));
    }
    change::take_turn(tx).await?;
    let before = get_price_version(tx.connection(), version).await?;
    if before.cancelled.is_some() {
        return Err(CatalogError::Refused(format!(
            "price version {version} is cancelled already"
        )));
    }
    let now = tx.now().await?;
    check_in_time(&before, now.plus_ms(MIN_CANCEL_LEAD_MS))?;
    if notice.is_needed() {
        let rows = BookRows::load(tx.connection(), BookSpan::From(now)).await?;
        notice::check_cancellation(tx.connection(), &rows, &rows.without(version), now, notice).await?;
    }
    insert(tx, actor, version, reason, now).await?;
    let after = get_price_version(tx.connection(), version).await?;
    let subject = version.to_string();
    change::record(tx, actor, "price_book.cancel", &subject, Some(&before), Some(&after)).await?;
    // the comparison may have taken long
    check_in_time(&before, tx.now().await?.plus_ms(COMMIT_LEAD_MS))?;
    Ok(after)
}

fn check_in_time(version: &PriceVersionView, earliest: UnixMs) -> Result<(), CatalogError> {
    if version.effective_at >= earliest {
        return Ok(());
    }
    Err(CatalogError::Refused(format!(
        "price version {} takes effect at {}: it can be cancelled until {} seconds before that; publish another version \
         instead",
        version.version,
        version.effective_at.to_rfc3339(),
        MIN_CANCEL_LEAD_MS / 1_000
    )))
}

async fn insert(tx: &Tx, actor: &Actor, version: i64, reason: &str, now: UnixMs) -> Result<(), CatalogError> {
    let row = price_cancellation::Model {
        version,
        cancelled_at_ms: now.0,
        actor: actor.as_str().to_owned(),
        reason: reason.to_owned(),
    };
    price_cancellation::Entity::insert(row.into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    Ok(())
}
