//! What the public price list shows, and how much of it at once.

use catalog::{
    CatalogError, NewOffer, NoticePeriod, PriceChange, UpdateModel, cancel_version, listing_at, model_price_history,
    publish,
};
use domain::clock::UnixMs;

use crate::support::{World, new_model, plain_price, world};

async fn enable(world: &World, model: &str, enabled: bool) {
    let tx = world.tx().await;
    let update = UpdateModel {
        enabled: Some(enabled),
        ..UpdateModel::default()
    };
    catalog::update_model(&tx, &world.actor, model, update).await.unwrap();
    tx.commit().await.unwrap();
}

async fn listed(world: &World, at: UnixMs) -> Vec<(String, bool)> {
    let list = listing_at(&world.database, at, None, None).await.unwrap();
    let models = list.models.into_iter();
    models.map(|model| (model.id, model.offers[0].for_sale)).collect()
}

#[tokio::test]
async fn what_was_never_for_sale_is_not_shown_and_what_was_stays() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    let tx = world.tx().await;
    catalog::create_model(&tx, &world.actor, new_model("acme/launch"))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    enable(&world, "acme/launch", false).await;
    let tx = world.tx().await;
    let new = NewOffer {
        upstream_model_id: Some("launch-2026".to_owned()),
        price: Some(plain_price("3", "4")),
        ..NewOffer::of("acme/launch", pool)
    };
    catalog::create_offer(&tx, &world.actor, new).await.unwrap();
    tx.commit().await.unwrap();
    let one = ("acme/one".to_owned(), true);
    let prepared_at = world.now().await;
    assert_eq!(listed(&world, prepared_at).await, std::slice::from_ref(&one));
    let missing = listing_at(&world.database, prepared_at, Some("acme/launch"), None).await;
    assert!(matches!(missing, Err(CatalogError::NotFound { .. })));
    let missing = model_price_history(&world.database, "acme/launch", None, prepared_at).await;
    assert!(matches!(missing, Err(CatalogError::NotFound { .. })));

    enable(&world, "acme/launch", true).await;
    let launched_at = world.now().await;
    let launch = |for_sale| ("acme/launch".to_owned(), for_sale);
    assert_eq!(listed(&world, launched_at).await, [launch(true), one.clone()]);
    enable(&world, "acme/launch", false).await;
    assert_eq!(listed(&world, launched_at).await, [launch(false), one]);
    let history = model_price_history(&world.database, "acme/launch", None, launched_at).await;
    assert_eq!(history.unwrap().offers.len(), 1);
}

#[tokio::test]
async fn histories_and_lists_of_versions_end_somewhere() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    let at = world.now().await.plus_ms(3_600_000);
    let tx = world.tx().await;
    for place in 0..51 {
        let change = PriceChange::PoolMultiplier {
            pool,
            multiplier: format!("0.{}", 10 + place).parse().unwrap(),
        };
        let view = publish(&tx, &world.actor, "", Some(at), vec![change], NoticePeriod::NONE).await;
        let version = view.unwrap().version;
        cancel_version(&tx, &world.actor, version, "dice", NoticePeriod::NONE)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let history = model_price_history(&world.database, "one", None, world.now().await)
        .await
        .unwrap();
    let prices = &history.offers[0].prices;
    let cancelled = prices.iter().filter(|price| price.state == "cancelled");
    let factors: Vec<_> = cancelled.map(|price| price.price.multiplier.as_str()).collect();
    assert_eq!((factors.len(), factors[0], factors[49]), (50, "0.11", "0.6"));
    assert!(history.truncated);

    let tx = world.tx().await;
    let mut versions = Vec::new();
    for round in 1..=3 {
        let tiers = (0..2_000).map(|number| PriceChange::TierMultiplier {
            tier: format!("tier-{number}"),
            multiplier: format!("0.{round}").parse().unwrap(),
        });
        let view = publish(&tx, &world.actor, "", None, tiers.collect(), NoticePeriod::NONE)
            .await
            .unwrap();
        versions.push(view.version);
    }
    tx.commit().await.unwrap();
    let list = catalog::list_price_versions(world.database.readers(), None, 3)
        .await
        .unwrap();
    let lines: Vec<_> = list
        .iter()
        .map(|v| (v.version, v.items.len(), v.items_left_out))
        .collect();
    assert_eq!(
        lines,
        [
            (versions[2], 2_000, 0),
            (versions[1], 2_000, 0),
            (versions[0], 0, 2_000)
        ]
    );
}
