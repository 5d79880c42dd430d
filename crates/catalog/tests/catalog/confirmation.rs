//! A node prices nothing by a catalog of which it does not know that it is current: neither a publication nor a
//! cancellation that it has not heard of can count yet.

use catalog::{
    CONFIRM_MS, CatalogCache, MIN_LEAD_MS, NoticePeriod, PriceChange, PriceVersionView, cancel_version, publish,
};
use domain::{clock::UnixMs, pricing::PRICE_CHANGE_TOLERANCE_MS};

use crate::support::{World, world};

async fn publish_factor(world: &World, at: Option<UnixMs>, multiplier: &str) -> PriceVersionView {
    let pools = catalog::list_pools(world.database.readers(), None, 10).await.unwrap();
    let change = PriceChange::PoolMultiplier {
        pool: pools[0].id,
        multiplier: multiplier.parse().unwrap(),
    };
    let tx = world.tx().await;
    let view = publish(&tx, &world.actor, "", at, vec![change], NoticePeriod::NONE)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    view
}

/// The factors that a request admitted at an instant would be quoted by; `None` if it would be refused.
fn factors(cache: &CatalogCache, admitted_at: UnixMs) -> Option<Vec<String>> {
    let snapshot = cache.confirmed_snapshot(admitted_at)?;
    let offer = &snapshot.model("one").unwrap().offers[0];
    let prices = snapshot.frozen_prices(offer, "", admitted_at);
    Some(prices.iter().map(|price| price.multipliers.product()).collect())
}

#[tokio::test]
async fn a_catalog_that_was_not_confirmed_for_a_while_prices_nothing() {
    let world = world().await;
    world.shop().await;
    let cache = world.cache().await;
    let read_at = cache.snapshot().read_at();
    let until = read_at.plus_ms(CONFIRM_MS - PRICE_CHANGE_TOLERANCE_MS);
    assert_eq!(factors(&cache, until), Some(vec!["1.5".to_owned()]));
    assert_eq!(factors(&cache, until.plus_ms(1)), None);
    cache.confirm(read_at.plus_ms(1));
    assert!(factors(&cache, until.plus_ms(1)).is_some());
    assert_eq!(factors(&cache, until.plus_ms(2)), None);
    cache.confirm(read_at);
    assert!(
        factors(&cache, until.plus_ms(1)).is_some(),
        "a confirmation never goes back"
    );
}

#[tokio::test]
async fn a_publication_that_a_node_has_missed_cannot_count_on_it() {
    let world = world().await;
    world.shop().await;
    let cache = world.cache().await;
    let cut = publish_factor(&world, None, "0.6").await;
    assert!(cut.effective_at.0 >= cut.published_at.0 + MIN_LEAD_MS);
    // the last that the node has heard is from the moment of publication
    cache.confirm(cut.published_at);
    let first_that_counts = cut.effective_at.plus_ms(-PRICE_CHANGE_TOLERANCE_MS);
    assert_eq!(factors(&cache, first_that_counts), None, "it would pay 1.5");
    assert_eq!(factors(&cache, cut.effective_at.plus_ms(86_400_000)), None);
    // whoever has heard of changes at the latest instant that is enough, has this one
    cache.refresh().await.unwrap();
    cache.confirm(cut.effective_at.plus_ms(-CONFIRM_MS - 1));
    assert_eq!(factors(&cache, first_that_counts), None);
    cache.confirm(cut.effective_at.plus_ms(-CONFIRM_MS));
    let both = ["1.5", "0.6"].map(str::to_owned).to_vec();
    assert_eq!(factors(&cache, first_that_counts), Some(both));
}

#[tokio::test]
async fn a_cancellation_that_a_node_has_missed_cannot_count_on_it() {
    let world = world().await;
    world.shop().await;
    let announced = publish_factor(&world, Some(world.now().await.plus_ms(3_600_000)), "2").await;
    let cache = world.cache().await;
    let tx = world.tx().await;
    let cancelled = cancel_version(&tx, &world.actor, announced.version, "a mistake", NoticePeriod::NONE);
    let cancelled = cancelled.await.unwrap().cancelled.unwrap();
    tx.commit().await.unwrap();
    cache.confirm(cancelled.cancelled_at);
    let first_that_counts = announced.effective_at.plus_ms(-PRICE_CHANGE_TOLERANCE_MS);
    assert_eq!(factors(&cache, first_that_counts), None, "it would pay 2");
    cache.confirm(announced.effective_at.plus_ms(-CONFIRM_MS - 1));
    assert_eq!(factors(&cache, first_that_counts), None);
    // cancellations are refused from then on, so what was confirmed then holds this one
    cache.refresh().await.unwrap();
    cache.confirm(announced.effective_at.plus_ms(-CONFIRM_MS));
    assert_eq!(factors(&cache, first_that_counts), Some(vec!["1.5".to_owned()]));
}
