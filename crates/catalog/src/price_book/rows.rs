//! Reading the rows of a part of the price book. Cancelled versions are left out: they never hold.

use std::collections::{HashMap, HashSet};

use domain::clock::UnixMs;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, FromQueryResult, QueryFilter, QueryOrder, Statement,
    sea_query::Expr,
};

use crate::{
    CatalogError,
    entities::{price_cancellation, price_item, price_version},
};

/// A version and its instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionPoint {
    /// The version's number.
    pub version: i64,
    /// From when it holds.
    pub effective_at: UnixMs,
    /// When it was published.
    pub published_at: UnixMs,
}

/// Which part of the book to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BookSpan {
    /// What holds at one instant.
    At(UnixMs),
    /// What holds from an instant on, announced changes included.
    From(UnixMs),
}

/// Rows of the price book: versions in the order in which they take effect, and lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct BookRows {
    /// Rising by instant and number.
    pub versions: Vec<VersionPoint>,
    /// In any order, each of one of the versions.
    pub items: Vec<price_item::Model>,
}

impl BookRows {
    /// Reads a part of the book.
    pub async fn load(connection: &impl ConnectionTrait, span: BookSpan) -> Result<Self, CatalogError> {
        let (BookSpan::At(start) | BookSpan::From(start)) = span;
        let mut versions = read_versions(connection).await?;
        let mut items = in_force_at(connection, start).await?;
        if matches!(span, BookSpan::From(_)) {
            let later = versions.iter().filter(|point| point.effective_at > start);
            let later: Vec<i64> = later.map(|point| point.version).collect();
            items.extend(items_of(connection, &later).await?);
        } else {
            versions.retain(|point| point.effective_at <= start);
        }
        Ok(Self { versions, items })
    }

    /// Everything that was ever said about some subjects, as pairs of kind and subject; and beside it what versions said
    /// that were cancelled.
    pub async fn load_subjects(
        connection: &impl ConnectionTrait,
        subjects: &[(super::PriceKind, String)],
    ) -> Result<(Self, Vec<price_item::Model>), CatalogError> {
        let versions = read_versions(connection).await?;
        let known: HashSet<i64> = versions.iter().map(|point| point.version).collect();
        let items = subject_items(connection, subjects).await?;
        let (items, cancelled) = items.into_iter().partition(|item| known.contains(&item.version));
        Ok((Self { versions, items }, cancelled))
    }

    /// What holds when a further version takes effect, and what that one says: no more than it takes to see what it would
    /// change.
    pub fn up_to(&self, point: VersionPoint, items: &[price_item::Model]) -> Self {
        let places: HashMap<i64, VersionPoint> = self.versions.iter().map(|point| (point.version, *point)).collect();
        let mut newest: HashMap<(&str, &str), (VersionPoint, &price_item::Model)> = HashMap::new();
        for item in &self.items {
            let Some(place) = places.get(&item.version).filter(|place| order(place) < order(&point)) else {
                continue;
            };
            let subject = (item.kind.as_str(), item.subject.as_str());
            let is_newer = newest
                .get(&subject)
                .is_none_or(|(other, _)| order(other) < order(place));
            if is_newer {
                newest.insert(subject, (*place, item));
            }
        }
        let mut rows = Self::default();
        for (place, item) in newest.into_values() {
            rows.versions.push(place);
            rows.items.push(item.clone());
        }
        rows.versions.sort_unstable_by_key(order);
        rows.versions.dedup();
        rows.versions.push(point);
        rows.items.extend_from_slice(items);
        rows
    }

    /// The rows with a version more.
    pub fn with(&self, point: VersionPoint, items: impl IntoIterator<Item = price_item::Model>) -> Self {
        let mut rows = self.clone();
        let place = rows.versions.partition_point(|other| order(other) < order(&point));
        rows.versions.insert(place, point);
        rows.items.extend(items);
        rows
    }

    /// The rows without a version.
    pub fn without(&self, version: i64) -> Self {
        let mut rows = self.clone();
        rows.versions.retain(|point| point.version != version);
        rows.items.retain(|item| item.version != version);
        rows
    }
}

/// By what versions take effect.
const fn order(point: &VersionPoint) -> (i64, i64) {
    (point.effective_at.0, point.version)
}

/// Every version that was not cancelled, in the order in which they take effect.
async fn read_versions(connection: &impl ConnectionTrait) -> Result<Vec<VersionPoint>, CatalogError> {
    let rows = price_version::Entity::find()
        .filter(Expr::cust(
            "NOT EXISTS (SELECT 1 FROM price_cancellation AS c WHERE c.version = price_version.version)",
        ))
        .order_by_asc(price_version::Column::EffectiveAtMs)
        .order_by_asc(price_version::Column::Version)
        .all(connection)
        .await?;
    Ok(rows.iter().map(point_of).collect())
}

/// A row's instants.
pub(super) const fn point_of(row: &price_version::Model) -> VersionPoint {
    VersionPoint {
        version: row.version,
        effective_at: UnixMs(row.effective_at_ms),
        published_at: UnixMs(row.published_at_ms),
    }
}

/// For each subject the line that holds at an instant.
async fn in_force_at(
    connection: &impl ConnectionTrait,
    instant: UnixMs,
) -> Result<Vec<price_item::Model>, CatalogError> {
    let sql = "SELECT version, kind, subject, value_json FROM (\
         SELECT i.version, i.kind, i.subject, i.value_json, ROW_NUMBER() OVER (PARTITION BY i.kind, i.subject \
         ORDER BY v.effective_at_ms DESC, v.version DESC) AS place \
         FROM price_item AS i JOIN price_version AS v ON v.version = i.version \
         WHERE v.effective_at_ms <= $1 \
         AND NOT EXISTS (SELECT 1 FROM price_cancellation AS c WHERE c.version = i.version)) AS ranked WHERE place = 1";
    let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, [instant.0.into()]);
    let rows = connection.query_all_raw(statement).await?;
    let rows = rows.iter().map(|row| price_item::Model::from_query_result(row, ""));
    Ok(rows.collect::<Result<_, _>>()?)
}

async fn items_of(connection: &impl ConnectionTrait, versions: &[i64]) -> Result<Vec<price_item::Model>, CatalogError> {
    let mut items = Vec::new();
    // in slices, as both databases limit the parameters of one statement
    for slice in versions.chunks(500) {
        let wanted = price_item::Column::Version.is_in(slice.iter().copied());
        items.extend(price_item::Entity::find().filter(wanted).all(connection).await?);
    }
    Ok(items)
}

/// Every line about some subjects, those of cancelled versions included.
pub(super) async fn subject_items(
    connection: &impl ConnectionTrait,
    subjects: &[(super::PriceKind, String)],
) -> Result<Vec<price_item::Model>, CatalogError> {
    let mut items = Vec::new();
    for slice in subjects.chunks(200) {
        let one = |(kind, subject): &(super::PriceKind, String)| {
            price_item::Column::Kind
                .eq(kind.as_str())
                .and(price_item::Column::Subject.eq(subject.as_str()))
        };
        let Some(wanted) = slice.iter().map(one).reduce(ExprTrait::or) else {
            continue;
        };
        items.extend(price_item::Entity::find().filter(wanted).all(connection).await?);
    }
    Ok(items)
}

/// Cancellations of some versions.
pub(super) async fn cancellations_of(
    connection: &impl ConnectionTrait,
    versions: &[i64],
) -> Result<Vec<price_cancellation::Model>, CatalogError> {
    let mut found = Vec::new();
    for slice in versions.chunks(500) {
        let wanted = price_cancellation::Column::Version.is_in(slice.iter().copied());
        found.extend(
            price_cancellation::Entity::find()
                .filter(wanted)
                .all(connection)
                .await?,
        );
    }
    Ok(found)
}
