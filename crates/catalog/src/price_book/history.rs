//! Reading the price book: versions, the history of a subject, the prices at an instant.

use std::collections::HashMap;

use domain::{clock::UnixMs, pricing::Multiplier};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::de::DeserializeOwned;
use store::Database;

use super::{
    BookSpan, CancellationView, ModelOverride, OfferPrice, PoolMultiplier, PriceBook, PriceBookView, PriceItemView,
    PriceKind, PriceVersionView, TierMultiplier, Timeline,
    rows::{cancellations_of, point_of, subject_items},
};
use crate::{
    CatalogError,
    entities::{price_item, price_version},
    page::page_length,
    reading,
};

/// The most lines in a list of versions.
const MOST_LISTED_LINES: u64 = 5_000;

/// One version with what it changed.
///
/// # Errors
/// [`CatalogError::NotFound`].
pub async fn get_price_version(
    connection: &impl ConnectionTrait,
    version: i64,
) -> Result<PriceVersionView, CatalogError> {
    let row = price_version::Entity::find_by_id(version).one(connection).await?;
    let row = row.ok_or_else(|| CatalogError::not_found("price version", version))?;
    let items = price_item::Entity::find().filter(price_item::Column::Version.eq(version));
    let mut views = join(connection, vec![row], items.all(connection).await?).await?;
    views
        .pop()
        .ok_or_else(|| CatalogError::not_found("price version", version))
}

/// Versions, newest first, older than `before` when given, with what they changed, as long as that is a few thousand lines
/// together; the versions after that only say how many lines they have.
///
/// # Errors
/// What the database says.
pub async fn list_price_versions(
    connection: &impl ConnectionTrait,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<PriceVersionView>, CatalogError> {
    let rows = price_version::Entity::find()
        .filter(price_version::Column::Version.lt(before.unwrap_or(i64::MAX)))
        .order_by_desc(price_version::Column::Version)
        .limit(page_length(limit))
        .all(connection)
        .await?;
    let counts: Vec<(i64, i64)> = price_item::Entity::find()
        .select_only()
        .column(price_item::Column::Version)
        .column_as(price_item::Column::Subject.count(), "lines")
        .filter(price_item::Column::Version.is_in(rows.iter().map(|row| row.version)))
        .group_by(price_item::Column::Version)
        .into_tuple()
        .all(connection)
        .await?;
    let mut counts: HashMap<i64, u64> = counts
        .into_iter()
        .map(|(version, lines)| (version, u64::try_from(lines).unwrap_or(0)))
        .collect();
    let mut total = 0_u64;
    let mut shown = Vec::new();
    for row in &rows {
        total = total.saturating_add(counts.get(&row.version).copied().unwrap_or(0));
        if shown.is_empty() || total <= MOST_LISTED_LINES {
            shown.push(row.version);
            counts.remove(&row.version);
        }
    }
    let items = price_item::Entity::find()
        .filter(price_item::Column::Version.is_in(shown))
        .all(connection)
        .await?;
    let mut views = join(connection, rows, items).await?;
    for view in &mut views {
        view.items_left_out = counts.get(&view.version).copied().unwrap_or(0);
    }
    Ok(views)
}

/// What was ever said about one subject, newest first, older than version `before` when given. Each version shows only
/// its line about the subject.
///
/// # Errors
/// What the database says.
pub async fn price_history(
    connection: &impl ConnectionTrait,
    kind: PriceKind,
    subject: &str,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<PriceVersionView>, CatalogError> {
    let items = price_item::Entity::find()
        .filter(price_item::Column::Kind.eq(kind.as_str()))
        .filter(price_item::Column::Subject.eq(subject))
        .filter(price_item::Column::Version.lt(before.unwrap_or(i64::MAX)))
        .order_by_desc(price_item::Column::Version)
        .limit(page_length(limit))
        .all(connection)
        .await?;
    let rows = price_version::Entity::find()
        .filter(price_version::Column::Version.is_in(items.iter().map(|item| item.version)))
        .order_by_desc(price_version::Column::Version)
        .all(connection)
        .await?;
    join(connection, rows, items).await
}

/// Every price and multiplier in effect at an instant, past, present or announced.
///
/// # Errors
/// What the database says.
pub async fn price_at(database: &Database, instant: UnixMs) -> Result<PriceBookView, CatalogError> {
    let reading = reading::begin(database).await?;
    let book = PriceBook::load(&reading, BookSpan::At(instant)).await;
    reading.rollback().await?;
    let book = book?;
    let step = book.step_at(instant);
    let point = step.and_then(|step| book.versions.get(step)).copied();
    let mut view = PriceBookView {
        version: point.map_or(0, |point| point.version),
        effective_at: point.map(|point| point.effective_at),
        offers: Vec::new(),
        pools: Vec::new(),
        overrides: Vec::new(),
        tiers: Vec::new(),
        promotions: Vec::new(),
        costs: Vec::new(),
    };
    let Some(step) = step else { return Ok(view) };
    for (offer, price) in newest(&book.entries, step) {
        view.offers.push(OfferPrice {
            offer: *offer,
            price: price.clone(),
        });
    }
    for (pool, multiplier) in newest(&book.pools, step) {
        view.pools.push(PoolMultiplier {
            pool: *pool,
            multiplier: *multiplier,
        });
    }
    for (subject, multiplier) in newest(&book.overrides, step) {
        if let Some(multiplier) = multiplier {
            view.overrides.push(read_override(subject, *multiplier)?);
        }
    }
    for (tier, multiplier) in newest(&book.tiers, step) {
        view.tiers.push(TierMultiplier {
            tier: tier.clone(),
            multiplier: *multiplier,
        });
    }
    for (pool, multiplier) in newest(&book.promotions, step) {
        if let Some(multiplier) = multiplier {
            view.promotions.push(PoolMultiplier {
                pool: *pool,
                multiplier: *multiplier,
            });
        }
    }
    for (pool, multiplier) in newest(&book.costs, step) {
        view.costs.push(PoolMultiplier {
            pool: *pool,
            multiplier: *multiplier,
        });
    }
    view.offers.sort_by_key(|line| line.offer);
    view.pools.sort_by_key(|line| line.pool);
    view.overrides
        .sort_by(|a, b| (a.pool, &a.model).cmp(&(b.pool, &b.model)));
    view.tiers.sort_by(|a, b| a.tier.cmp(&b.tier));
    view.promotions.sort_by_key(|line| line.pool);
    view.costs.sort_by_key(|line| line.pool);
    Ok(view)
}

fn newest<K, T>(lines: &HashMap<K, Timeline<T>>, step: usize) -> impl Iterator<Item = (&K, &T)> {
    lines
        .iter()
        .filter_map(move |(subject, timeline)| Some((subject, timeline.at(step)?)))
}

fn read_override(subject: &str, multiplier: Multiplier) -> Result<ModelOverride, CatalogError> {
    let damaged = || CatalogError::damaged(format!("price book subject {subject}"));
    let (pool, model) = subject.split_once('|').ok_or_else(damaged)?;
    Ok(ModelOverride {
        pool: pool.parse().map_err(|_| damaged())?,
        model: model.to_owned(),
        multiplier,
    })
}

async fn join(
    connection: &impl ConnectionTrait,
    rows: Vec<price_version::Model>,
    items: Vec<price_item::Model>,
) -> Result<Vec<PriceVersionView>, CatalogError> {
    let versions: Vec<i64> = rows.iter().map(|row| row.version).collect();
    let cancellations = cancellations_of(connection, &versions).await?;
    let mut cancelled: HashMap<i64, CancellationView> = cancellations
        .into_iter()
        .map(|row| {
            let view = CancellationView {
                cancelled_at: UnixMs(row.cancelled_at_ms),
                actor: row.actor,
                reason: row.reason,
            };
            (row.version, view)
        })
        .collect();
    let mut by_version: HashMap<i64, Vec<PriceItemView>> = HashMap::new();
    for item in items {
        let damaged = || CatalogError::damaged(format!("price book version {}, {}", item.version, item.subject));
        let view = PriceItemView {
            kind: PriceKind::from_stored(&item.kind).ok_or_else(damaged)?,
            value: serde_json::from_str(&item.value_json).map_err(|_| damaged())?,
            subject: item.subject,
        };
        by_version.entry(item.version).or_default().push(view);
    }
    let views = rows.into_iter().map(|row| {
        let mut items = by_version.remove(&row.version).unwrap_or_default();
        items.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        PriceVersionView {
            version: row.version,
            effective_at: UnixMs(row.effective_at_ms),
            published_at: UnixMs(row.published_at_ms),
            actor: row.actor,
            note: row.note,
            notice_days: row.notice_days.and_then(|days| u32::try_from(days).ok()),
            cancelled: cancelled.remove(&row.version),
            items,
            items_left_out: 0,
        }
    });
    Ok(views.collect())
}

/// The line about a subject that takes effect last, or has: what will hold once everything announced has happened.
pub(crate) struct NewestItem {
    /// The version that said it.
    pub version: i64,
    value_json: String,
}

impl NewestItem {
    /// The value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, CatalogError> {
        serde_json::from_str(&self.value_json)
            .map_err(|_| CatalogError::damaged(format!("price book version {}", self.version)))
    }
}

/// The lines about some subjects of one kind that take effect last, cancelled ones left out.
pub(crate) async fn newest_items(
    connection: &impl ConnectionTrait,
    kind: PriceKind,
    subjects: Vec<String>,
) -> Result<HashMap<String, NewestItem>, CatalogError> {
    let subjects: Vec<_> = subjects.into_iter().map(|subject| (kind, subject)).collect();
    let items = subject_items(connection, &subjects).await?;
    let mut versions: Vec<i64> = items.iter().map(|item| item.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let cancelled = cancellations_of(connection, &versions).await?;
    versions.retain(|version| cancelled.iter().all(|row| row.version != *version));
    let mut points = HashMap::new();
    for slice in versions.chunks(500) {
        let wanted = price_version::Column::Version.is_in(slice.iter().copied());
        let rows = price_version::Entity::find().filter(wanted).all(connection).await?;
        points.extend(rows.iter().map(|row| (row.version, point_of(row))));
    }
    let mut newest: HashMap<String, (UnixMs, NewestItem)> = HashMap::new();
    for item in items {
        let Some(point) = points.get(&item.version) else {
            continue;
        };
        let is_later = newest
            .get(&item.subject)
            .is_none_or(|(effective_at, other)| (*effective_at, other.version) < (point.effective_at, point.version));
        if is_later {
            let found = NewestItem {
                version: item.version,
                value_json: item.value_json,
            };
            newest.insert(item.subject, (point.effective_at, found));
        }
    }
    Ok(newest.into_iter().map(|(subject, (_, item))| (subject, item)).collect())
}
