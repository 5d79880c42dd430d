//! Publishing: the only writer of the price book.

use std::collections::BTreeSet;

use domain::{
    OfferId, PoolId,
    clock::UnixMs,
    pricing::{CardKey, PriceEntry, PricingError, Unpriced},
    usage::TokenClass,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use store::{Tx, audit::Actor};

use super::{
    BookRows, BookSpan, NoticePeriod, PriceChange, PriceItemView, PriceKind, PriceVersionView, VersionPoint, notice,
};
use crate::{
    CatalogError, change,
    entities::{model, offer, pool, price_item, price_version},
    model::ModelKind,
    snapshot::COMMIT_LEAD_MS,
    wording,
};

/// How long before its instant a change must be published at least, in milliseconds, so that every node has it in
/// time: nodes price nothing by what they have not confirmed since [`CONFIRM_MS`](crate::CONFIRM_MS) before an instant;
/// what lies between is time to check, write and commit. It does not bind the first price of a new offer, nor the first
/// multiplier of a new pool: until they hold, nothing was for sale.
pub const MIN_LEAD_MS: i64 = 10_000;

/// How far ahead a change may be published at most, in milliseconds: 92 days.
const MAX_LEAD_MS: i64 = 92 * 86_400_000;

/// The most changes in one version.
const MOST_CHANGES: usize = 2_000;

/// Adds a version to the price book.
///
/// `effective_at` must be at least [`MIN_LEAD_MS`] after the database's now; `None` stands for the earliest instant. It
/// may be before that of a version published earlier: what is said about a subject then holds until the other's instant.
/// No price may rise within the notice period, compared with what the book had said so far of every instant in it.
///
/// # Errors
/// [`CatalogError::TooEarly`]; [`CatalogError::NoticeNeeded`]; [`CatalogError::NotFound`] for an unknown subject; [`CatalogError::Invalid`];
/// [`CatalogError::Pricing`] when an offer lacks a price that its model needs.
pub async fn publish(
    tx: &Tx,
    actor: &Actor,
    note: &str,
    effective_at: Option<UnixMs>,
    changes: Vec<PriceChange>,
    notice: NoticePeriod,
) -> Result<PriceVersionView, CatalogError> {
    wording::check_note("note", note)?;
    check_together(&changes)?;
    change::take_turn(tx).await?;
    for change in &changes {
        check_one(tx.connection(), change).await?;
    }
    let latest = price_version::Entity::find()
        .order_by_desc(price_version::Column::Version)
        .one(tx.connection())
        .await?;
    let lead_ms = if all_are_first(tx, &changes).await? {
        0
    } else {
        MIN_LEAD_MS
    };
    let now = tx.now().await?;
    let mut view = PriceVersionView {
        version: latest.map_or(1, |latest| latest.version.saturating_add(1)),
        effective_at: choose_instant(effective_at, now.plus_ms(lead_ms), now)?,
        published_at: now,
        actor: actor.as_str().to_owned(),
        note: note.to_owned(),
        notice_days: Some(if lead_ms > 0 { notice.days() } else { 0 }),
        cancelled: None,
        items_left_out: 0,
        items: changes.iter().map(item_view).collect::<Result<_, _>>()?,
    };
    settle_instant(tx, &mut view, lead_ms, effective_at.is_some(), notice).await?;
    write(tx, &view).await?;
    change::record(
        tx,
        actor,
        "price_book.publish",
        &view.version.to_string(),
        None,
        Some(&view),
    )
    .await?;
    if lead_ms > 0 {
        check_in_time(&view, now, tx.now().await?)?;
    }
    Ok(view)
}

/// Refuses what rises too early, and chooses the instant if none was given: last, as the comparison may take longer than
/// the lead. If that puts the version behind another one, it is compared anew.
async fn settle_instant(
    tx: &Tx,
    view: &mut PriceVersionView,
    lead_ms: i64,
    is_given: bool,
    notice: NoticePeriod,
) -> Result<(), CatalogError> {
    let began_at = view.published_at;
    let before = if notice.is_needed() && lead_ms > 0 {
        Some(BookRows::load(tx.connection(), BookSpan::From(began_at)).await?)
    } else {
        None
    };
    loop {
        if let Some(before) = &before {
            let after = before.with(point_of(view), rows_of(view));
            notice::check_publication(tx.connection(), before, &after, began_at, notice).await?;
        }
        view.published_at = tx.now().await?;
        if is_given {
            return Ok(());
        }
        let compared = view.effective_at;
        let chosen = view.published_at.plus_ms(lead_ms);
        view.effective_at = chosen;
        let passed = |point: &VersionPoint| compared < point.effective_at && point.effective_at <= chosen;
        if !before.as_ref().is_some_and(|before| before.versions.iter().any(passed)) {
            return Ok(());
        }
    }
}

/// Refuses a version whose instant has come too near while it was checked and written.
fn check_in_time(view: &PriceVersionView, began_at: UnixMs, now: UnixMs) -> Result<(), CatalogError> {
    if view.effective_at >= now.plus_ms(COMMIT_LEAD_MS) {
        return Ok(());
    }
    // it will take as long once more
    let took_ms = now.0.saturating_sub(began_at.0);
    Err(CatalogError::TooEarly {
        earliest: now.plus_ms(MIN_LEAD_MS.saturating_add(took_ms)),
    })
}

fn choose_instant(asked: Option<UnixMs>, earliest: UnixMs, now: UnixMs) -> Result<UnixMs, CatalogError> {
    let Some(asked) = asked else { return Ok(earliest) };
    if asked < earliest {
        return Err(CatalogError::TooEarly { earliest });
    }
    if asked > now.plus_ms(MAX_LEAD_MS) {
        return Err(CatalogError::invalid(
            "effective_at",
            "a change may be published at most 92 days ahead",
        ));
    }
    Ok(asked)
}

pub(super) fn check_together(changes: &[PriceChange]) -> Result<(), CatalogError> {
    let refuse = |problem: String| Err(CatalogError::invalid("changes", problem));
    if changes.is_empty() || changes.len() > MOST_CHANGES {
        return refuse(format!("give 1 to {MOST_CHANGES} changes"));
    }
    let mut seen = BTreeSet::new();
    for change in changes {
        let subject = change.subject();
        if !seen.insert((change.kind(), subject.clone())) {
            return refuse(format!("`{subject}` is named twice"));
        }
    }
    Ok(())
}

/// Whether a change names what exists, and a price that can be sold.
pub(super) async fn check_one(connection: &impl ConnectionTrait, change: &PriceChange) -> Result<(), CatalogError> {
    match change {
        PriceChange::OfferPrice { offer, price } => check_offer_price(connection, *offer, price).await,
        PriceChange::PoolMultiplier { pool, .. }
        | PriceChange::PromotionMultiplier { pool, .. }
        | PriceChange::CostMultiplier { pool, .. } => check_pool(connection, *pool).await,
        PriceChange::ModelMultiplier { pool, model, .. } => {
            check_pool(connection, *pool).await?;
            let row = model::Entity::find_by_id(model.as_str()).one(connection).await?;
            row.map(|_| ()).ok_or_else(|| CatalogError::not_found("model", model))
        }
        PriceChange::TierMultiplier { tier, .. } => wording::check_slug("tier", tier),
    }
}

async fn check_pool(connection: &impl ConnectionTrait, id: PoolId) -> Result<(), CatalogError> {
    let row = pool::Entity::find_by_id(id.as_uuid()).one(connection).await?;
    row.map(|_| ()).ok_or_else(|| CatalogError::not_found("pool", id))
}

async fn check_offer_price(
    connection: &impl ConnectionTrait,
    id: OfferId,
    price: &PriceEntry,
) -> Result<(), CatalogError> {
    let row = offer::Entity::find_by_id(id.as_uuid()).one(connection).await?;
    let row = row.ok_or_else(|| CatalogError::not_found("offer", id))?;
    let model = model::Entity::find_by_id(row.model_id.as_str()).one(connection).await?;
    let kind = model
        .and_then(|model| ModelKind::from_stored(&model.kind))
        .ok_or_else(|| CatalogError::damaged(format!("model {}", row.model_id)))?;
    Ok(check_priced(kind, price)?)
}

/// Nothing is sold unpriced: what every request of a kind uses must have a price, if only `"0"`.
pub(super) fn check_priced(kind: ModelKind, price: &PriceEntry) -> Result<(), PricingError> {
    let needed: &[(CardKey, TokenClass)] = match kind {
        ModelKind::Chat => &[
            (CardKey::Input, TokenClass::Input),
            (CardKey::Output, TokenClass::Output),
        ],
        ModelKind::Embedding => &[(CardKey::Input, TokenClass::Input)],
        // priced by tokens, images, time, characters, searches or calls; that there is a price at all, the entry
        // itself makes sure
        ModelKind::Image | ModelKind::Tts | ModelKind::Stt | ModelKind::Rerank | ModelKind::Moderation => &[],
    };
    let missing = needed.iter().find(|(key, _)| price.price().tokens.get(*key).is_none());
    missing.map_or(Ok(()), |(_, class)| {
        Err(PricingError::Unpriced {
            class: Unpriced::Tokens(*class),
        })
    })
}

/// Whether every change prices something that had no price yet, so that nobody can have relied on another.
async fn all_are_first(tx: &Tx, changes: &[PriceChange]) -> Result<bool, CatalogError> {
    for change in changes {
        if !matches!(change.kind(), PriceKind::OfferPrice | PriceKind::PoolMultiplier) {
            return Ok(false);
        }
        let earlier = price_item::Entity::find()
            .filter(price_item::Column::Kind.eq(change.kind().as_str()))
            .filter(price_item::Column::Subject.eq(change.subject()))
            .one(tx.connection())
            .await?;
        if earlier.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn item_view(change: &PriceChange) -> Result<PriceItemView, CatalogError> {
    Ok(PriceItemView {
        kind: change.kind(),
        subject: change.subject(),
        value: change.value().map_err(|_| CatalogError::damaged("price to publish"))?,
    })
}

pub(super) const fn point_of(view: &PriceVersionView) -> VersionPoint {
    VersionPoint {
        version: view.version,
        effective_at: view.effective_at,
        published_at: view.published_at,
    }
}

pub(super) fn rows_of(view: &PriceVersionView) -> impl Iterator<Item = price_item::Model> + '_ {
    view.items.iter().map(|item| price_item::Model {
        version: view.version,
        kind: item.kind.as_str().to_owned(),
        subject: item.subject.clone(),
        value_json: item.value.to_string(),
    })
}

async fn write(tx: &Tx, view: &PriceVersionView) -> Result<(), CatalogError> {
    let version = price_version::Model {
        version: view.version,
        effective_at_ms: view.effective_at.0,
        published_at_ms: view.published_at.0,
        actor: view.actor.clone(),
        note: view.note.clone(),
        notice_days: view.notice_days.map(i64::from),
    };
    price_version::Entity::insert(version.into_active_model())
        .exec_without_returning(tx.connection())
        .await?;
    let rows = rows_of(view).map(IntoActiveModel::into_active_model);
    // in slices, as both databases limit the parameters of one statement
    let rows: Vec<_> = rows.collect();
    for slice in rows.chunks(500) {
        price_item::Entity::insert_many(slice.to_vec())
            .exec_without_returning(tx.connection())
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_whose_instant_came_near_meanwhile_is_refused() {
        let began_at = UnixMs(1_000_000);
        let view = PriceVersionView {
            version: 1,
            effective_at: began_at.plus_ms(MIN_LEAD_MS),
            published_at: began_at,
            actor: String::new(),
            note: String::new(),
            notice_days: None,
            cancelled: None,
            items: Vec::new(),
            items_left_out: 0,
        };
        let latest = view.effective_at.plus_ms(-COMMIT_LEAD_MS);
        assert!(check_in_time(&view, began_at, latest).is_ok());
        let late = check_in_time(&view, began_at, latest.plus_ms(1));
        let took_ms = latest.0 + 1 - began_at.0;
        assert!(
            matches!(late, Err(CatalogError::TooEarly { earliest }) if earliest == latest.plus_ms(1 + MIN_LEAD_MS + took_ms)),
            "{late:?}"
        );
    }
}
