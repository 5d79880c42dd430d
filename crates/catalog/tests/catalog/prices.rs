//! The price book: versions are only added, and the price at any time can be told.

use catalog::{CatalogError, MIN_LEAD_MS, NewOffer, NoticePeriod, PriceChange, PriceKind, PriceVersionView, publish};
use domain::{OfferId, PoolId, clock::UnixMs};
use store::Tx;

use crate::support::{Shop, World, new_pool, plain_price, price, world};

fn pool_multiplier(pool: PoolId, multiplier: &str) -> PriceChange {
    PriceChange::PoolMultiplier {
        pool,
        multiplier: multiplier.parse().unwrap(),
    }
}

async fn publish_ok(world: &World, at: Option<UnixMs>, changes: Vec<PriceChange>) -> PriceVersionView {
    let tx = world.tx().await;
    let view = publish(&tx, &world.actor, "test", at, changes, NoticePeriod::NONE)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    view
}

async fn publish_err(tx: &Tx, world: &World, at: Option<UnixMs>, changes: Vec<PriceChange>) -> CatalogError {
    publish(tx, &world.actor, "test", at, changes, NoticePeriod::NONE)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn first_prices_hold_at_once_and_changes_later() {
    let world = world().await;
    let Shop { pool, offer, .. } = world.shop().await;
    let versions = catalog::list_price_versions(world.database.readers(), None, 10)
        .await
        .unwrap();
    assert_eq!(versions.iter().map(|v| v.version).collect::<Vec<_>>(), [2, 1]);
    assert!(versions.iter().all(|v| v.effective_at == v.published_at));

    let change = publish_ok(&world, None, vec![pool_multiplier(pool.id, "2.2")]).await;
    assert_eq!(change.version, 3);
    assert_eq!(change.effective_at.0, change.published_at.0 + MIN_LEAD_MS);
    let second = PriceChange::OfferPrice {
        offer: offer.id,
        price: plain_price("5", "6"),
    };
    let change = publish_ok(&world, None, vec![second]).await;
    assert!(change.effective_at.0 >= change.published_at.0 + MIN_LEAD_MS);
    // a tier may have customers already, who pay 1 until now
    let tier = PriceChange::TierMultiplier {
        tier: "gold".to_owned(),
        multiplier: "0.9".parse().unwrap(),
    };
    let change = publish_ok(&world, None, vec![tier]).await;
    assert!(change.effective_at.0 >= change.published_at.0 + MIN_LEAD_MS);
}

#[tokio::test]
async fn instants_are_kept_and_versions_hold_in_their_order() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    let now = world.now().await;
    let next_hour = now.plus_ms(3_600_000);
    let view = publish_ok(&world, Some(next_hour), vec![pool_multiplier(pool, "3")]).await;
    assert_eq!(view.effective_at, next_hour);

    let tx = world.tx().await;
    let past = publish_err(&tx, &world, Some(UnixMs(0)), vec![pool_multiplier(pool, "4")]).await;
    assert!(matches!(past, CatalogError::TooEarly { .. }));
    let far = publish_err(
        &tx,
        &world,
        Some(now.plus_ms(93 * 86_400_000)),
        vec![pool_multiplier(pool, "4")],
    )
    .await;
    assert!(matches!(
        far,
        CatalogError::Invalid {
            field: "effective_at",
            ..
        }
    ));
    tx.rollback().await.unwrap();

    let same = publish_ok(&world, Some(next_hour), vec![pool_multiplier(pool, "5")]).await;
    assert_eq!((same.version, same.effective_at), (view.version + 1, next_hour));
    let sooner = publish_ok(&world, None, vec![pool_multiplier(pool, "2")]).await;
    assert!(
        sooner.effective_at < next_hour,
        "what was announced before keeps nothing waiting"
    );
    let book = catalog::price_at(&world.database, sooner.effective_at).await.unwrap();
    assert_eq!(
        (book.version, book.pools[0].multiplier.to_string()),
        (sooner.version, "2".to_owned())
    );
    let book = catalog::price_at(&world.database, next_hour).await.unwrap();
    assert_eq!(
        (book.version, book.pools[0].multiplier.to_string()),
        (same.version, "5".to_owned())
    );
}

#[tokio::test]
async fn an_early_instant_is_refused_without_an_announced_version_too() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    let now = world.now().await;
    let tx = world.tx().await;
    let early = publish_err(&tx, &world, Some(now.plus_ms(1_000)), vec![pool_multiplier(pool, "4")]).await;
    assert!(matches!(early, CatalogError::TooEarly { earliest } if earliest.0 >= now.0 + MIN_LEAD_MS));
}

#[tokio::test]
async fn impossible_changes_are_refused() {
    let world = world().await;
    let Shop { pool, offer, .. } = world.shop().await;
    let tx = world.tx().await;
    let unknown_offer = PriceChange::OfferPrice {
        offer: OfferId::generate(),
        price: plain_price("1", "1"),
    };
    let unknown_model = PriceChange::ModelMultiplier {
        pool: pool.id,
        model: "no/such".to_owned(),
        multiplier: None,
    };
    for change in [unknown_offer, unknown_model, pool_multiplier(PoolId::generate(), "1")] {
        let error = publish_err(&tx, &world, None, vec![change]).await;
        assert!(matches!(error, CatalogError::NotFound { .. }), "{error}");
    }
    for json in [
        r#"{"price":{"input":"1"}}"#,
        r#"{"price":{"output":"1"}}"#,
        r#"{"price":{"per_request":"1"}}"#,
    ] {
        let unpriced = PriceChange::OfferPrice {
            offer: offer.id,
            price: price(json),
        };
        let error = publish_err(&tx, &world, None, vec![unpriced]).await;
        assert!(matches!(error, CatalogError::Pricing(_)), "{json}: {error}");
    }
    let bad_tier = PriceChange::TierMultiplier {
        tier: "Gold!".to_owned(),
        multiplier: "1".parse().unwrap(),
    };
    let twice = vec![pool_multiplier(pool.id, "1"), pool_multiplier(pool.id, "2")];
    for changes in [vec![bad_tier], twice, Vec::new()] {
        let error = publish_err(&tx, &world, None, changes).await;
        assert!(matches!(error, CatalogError::Invalid { .. }), "{error}");
    }
    assert!("1000.1".parse::<domain::pricing::Multiplier>().is_err());
    let unpriced_offer = NewOffer {
        upstream_model_id: Some("u".to_owned()),
        price: Some(price(r#"{"price":{"input":"1"}}"#)),
        ..NewOffer::of("acme/one", pool.id)
    };
    let refused = catalog::create_offer(&tx, &world.actor, unpriced_offer).await;
    assert!(matches!(refused, Err(CatalogError::Pricing(_))));
    let free = PriceChange::OfferPrice {
        offer: offer.id,
        price: plain_price("0", "0"),
    };
    assert!(
        publish(&tx, &world.actor, "", None, vec![free], NoticePeriod::NONE)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn every_past_price_can_be_looked_up() {
    let world = world().await;
    let Shop { pool, offer, .. } = world.shop().await;
    let readers = world.database.readers();
    let database = &world.database;
    let first = catalog::get_price_version(readers, 1).await.unwrap();
    let start = world.now().await.plus_ms(60_000);
    let steps = [
        vec![
            pool_multiplier(pool.id, "2"),
            PriceChange::ModelMultiplier {
                pool: pool.id,
                model: "acme/one".to_owned(),
                multiplier: Some("0.6".parse().unwrap()),
            },
        ],
        vec![PriceChange::OfferPrice {
            offer: offer.id,
            price: plain_price("7", "8"),
        }],
        vec![PriceChange::ModelMultiplier {
            pool: pool.id,
            model: "acme/one".to_owned(),
            multiplier: None,
        }],
        vec![PriceChange::PromotionMultiplier {
            pool: pool.id,
            multiplier: Some("0.5".parse().unwrap()),
        }],
        vec![PriceChange::PromotionMultiplier {
            pool: pool.id,
            multiplier: None,
        }],
    ];
    for (number, changes) in (0..).zip(steps) {
        publish_ok(&world, Some(start.plus_ms(number * 1_000)), changes).await;
    }
    let at = |ms: i64| async move { catalog::price_at(database, start.plus_ms(ms)).await.unwrap() };
    let before = catalog::price_at(database, first.effective_at.plus_ms(-1))
        .await
        .unwrap();
    assert_eq!((before.version, before.effective_at, before.offers.len()), (0, None, 0));
    let earlier = at(-1).await;
    assert_eq!(
        (earlier.version, earlier.pools[0].multiplier.to_string().as_str()),
        (2, "1.5")
    );
    let view = at(0).await;
    assert_eq!((view.version, view.pools[0].multiplier.to_string().as_str()), (3, "2"));
    assert_eq!(view.overrides[0].multiplier.to_string(), "0.6");
    assert_eq!(view.offers[0].price, plain_price("1", "2"));
    assert_eq!(at(1_000).await.offers[0].price, plain_price("7", "8"));
    assert_eq!(at(1_999).await.overrides.len(), 1);
    assert_eq!(at(2_000).await.overrides.len(), 0);
    assert_eq!(at(3_000).await.promotions[0].multiplier.to_string(), "0.5");
    assert!(at(4_000).await.promotions.is_empty());

    let history = catalog::price_history(readers, PriceKind::OfferPrice, &offer.id.to_string(), None, 10)
        .await
        .unwrap();
    assert_eq!(history.iter().map(|v| v.version).collect::<Vec<_>>(), [4, 2]);
    assert!(history.iter().all(|v| v.items.len() == 1));
    let older = catalog::price_history(readers, PriceKind::OfferPrice, &offer.id.to_string(), Some(4), 10)
        .await
        .unwrap();
    assert_eq!(older.len(), 1);
    assert_eq!(
        catalog::list_price_versions(readers, Some(3), 1).await.unwrap()[0].version,
        2
    );
    assert!(matches!(
        catalog::get_price_version(readers, 99).await,
        Err(CatalogError::NotFound { .. })
    ));
}

#[tokio::test]
async fn the_database_itself_keeps_the_book_as_it_was_written() {
    let world = world().await;
    world.shop().await;
    for sql in [
        "UPDATE price_item SET value_json = '\"0\"'",
        "DELETE FROM price_item",
        "UPDATE price_version SET effective_at_ms = 0",
        "DELETE FROM price_version",
    ] {
        let tx = world.tx().await;
        assert!(tx.execute(sql, Vec::new()).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn writers_number_their_versions_one_after_the_other() {
    let world = world().await;
    let shop = world.shop().await;
    let publishing = |number: usize| {
        let world = &world;
        let provider = shop.provider.id;
        async move {
            let tx = world.tx().await;
            let new = new_pool(provider, &format!("pool {number}"));
            catalog::create_pool(&tx, &world.actor, new).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    tokio::join!(publishing(1), publishing(2), publishing(3), publishing(4));
    let versions = catalog::list_price_versions(world.database.readers(), None, 10)
        .await
        .unwrap();
    assert_eq!(
        versions.iter().map(|v| v.version).collect::<Vec<_>>(),
        [6, 5, 4, 3, 2, 1]
    );
}
