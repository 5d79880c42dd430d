//! What an offer would cost if some changes held: for computing past usage again. Nothing is written.

use std::collections::HashMap;

use domain::{
    OfferId,
    clock::UnixMs,
    pricing::{FrozenPrice, Multiplier},
};
use sea_orm::ConnectionTrait;
use store::Database;

use super::{
    BookRows, BookSpan, PriceBook, PriceChange, PriceVersionView, Terms,
    listing::known_offers,
    publish::{check_one, check_together, item_view, point_of, rows_of},
};
use crate::{CatalogError, reading};

/// The prices in force, and what they would be with the changes.
#[derive(Debug)]
pub struct PricePreview {
    at: UnixMs,
    sides: [Side; 2],
}

#[derive(Debug)]
struct Side {
    version: i64,
    terms: HashMap<OfferId, Terms>,
    tiers: HashMap<String, Multiplier>,
}

/// Puts changes beside what is in force at an instant.
///
/// # Errors
/// As publishing the changes would say.
pub async fn preview_prices(
    database: &Database,
    changes: &[PriceChange],
    at: UnixMs,
) -> Result<PricePreview, CatalogError> {
    let reading = reading::begin(database).await?;
    let preview = put_beside(&reading, changes, at).await;
    reading.rollback().await?;
    preview
}

async fn put_beside(
    connection: &impl ConnectionTrait,
    changes: &[PriceChange],
    at: UnixMs,
) -> Result<PricePreview, CatalogError> {
    check_together(changes)?;
    for change in changes {
        check_one(connection, change).await?;
    }
    let before = BookRows::load(connection, BookSpan::At(at)).await?;
    let imagined = PriceVersionView {
        version: i64::MAX,
        effective_at: at,
        published_at: at,
        actor: String::new(),
        note: String::new(),
        notice_days: None,
        cancelled: None,
        items_left_out: 0,
        items: changes.iter().map(item_view).collect::<Result<_, _>>()?,
    };
    let after = before.with(point_of(&imagined), rows_of(&imagined));
    let offers = known_offers(connection, None).await?;
    let side = |rows: &BookRows| -> Result<Side, CatalogError> {
        let book = PriceBook::of_rows(rows)?;
        let Some(step) = book.step_at(at) else {
            return Ok(Side::empty());
        };
        let terms = offers.iter().filter_map(|known| {
            let terms = book.terms_of(known.view.id, known.view.pool, &known.view.model);
            Some((known.view.id, terms.at(step)?.clone()?))
        });
        let tiers = book.tiers.iter();
        let tiers = tiers.filter_map(|(name, factor)| Some((name.clone(), *factor.at(step)?)));
        Ok(Side {
            version: book.versions().get(step).map_or(0, |point| point.version),
            terms: terms.collect(),
            tiers: tiers.collect(),
        })
    };
    Ok(PricePreview {
        at,
        sides: [side(&before)?, side(&after)?],
    })
}

impl PricePreview {
    /// What an offer costs customers of a tier, before and after the changes; `None` where it has no price.
    pub fn prices(&self, offer: OfferId, tier: &str) -> [Option<FrozenPrice>; 2] {
        self.sides.each_ref().map(|side| {
            let terms = side.terms.get(&offer)?;
            Some(FrozenPrice {
                version: side.version,
                entry: std::sync::Arc::clone(&terms.entry),
                multipliers: terms.multipliers(side.tiers.get(tier).copied()),
                cost: terms.cost,
                admitted_at: self.at,
            })
        })
    }
}

impl Side {
    fn empty() -> Self {
        Self {
            version: 0,
            terms: HashMap::new(),
            tiers: HashMap::new(),
        }
    }
}
