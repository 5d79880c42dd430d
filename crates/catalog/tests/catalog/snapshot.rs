//! The snapshot that the request path reads, prices around a change included.

use catalog::{NewOffer, PriceChange, UpdateCredential, UpdateModel, UpdateOffer, UpdatePool, UpdateProvider};
use domain::{clock::UnixMs, pricing::Candidates};
use store::changes::{Topic, read_versions};

use crate::support::{World, new_model, plain_price, price, world};

#[tokio::test]
async fn shows_what_is_for_sale_under_every_name() {
    let world = world().await;
    let shop = world.shop().await;
    let cache = world.cache().await;
    let snapshot = cache.snapshot();
    for name in ["acme/one", "ACME/One", "one", "ONE", "Acme-One"] {
        assert_eq!(
            snapshot.model(name).map(|model| model.id.as_ref()),
            Some("acme/one"),
            "{name}"
        );
    }
    for name in ["", "two", "acme/one ", "öne"] {
        assert!(snapshot.model(name).is_none(), "{name}");
    }
    let model = snapshot.model("one").unwrap();
    let offer = &model.offers[0];
    assert_eq!(
        (offer.id, offer.upstream_model_id.as_str()),
        (shop.offer.id, "one-2026")
    );
    assert_eq!(
        (offer.pool.id, offer.pool.credentials[0].id),
        (shop.pool.id, shop.credential.id)
    );
    assert_eq!(offer.provider.base_url.as_str(), "https://acme.example/v1");
    assert_eq!(snapshot.models().count(), 1);
    let versions = read_versions(world.database.readers(), world.database.backend())
        .await
        .unwrap();
    assert_eq!(snapshot.change_version(), versions.of(Topic::Catalog));
}

#[tokio::test]
async fn the_cache_follows_when_told() {
    let world = world().await;
    world.shop().await;
    let cache = world.cache().await;
    let tx = world.tx().await;
    catalog::create_model(&tx, &world.actor, new_model("acme/two"))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(cache.current().model("acme/two").is_none());
    cache.refresh().await.unwrap();
    let snapshot = cache.current();
    assert!(snapshot.model("acme/two").unwrap().offers.is_empty());
}

#[tokio::test]
async fn nothing_disabled_is_for_sale() {
    let world = world().await;
    let shop = world.shop().await;
    let cache = world.cache().await;
    for what in ["provider", "pool", "credential", "offer", "model"] {
        for enabled in [false, true] {
            let tx = world.tx().await;
            let (tx_ref, actor, on) = (&tx, &world.actor, Some(enabled));
            match what {
                "provider" => {
                    let update = UpdateProvider {
                        enabled: on,
                        ..UpdateProvider::default()
                    };
                    catalog::update_provider(tx_ref, actor, shop.provider.id, update)
                        .await
                        .map(drop)
                }
                "pool" => {
                    let update = UpdatePool {
                        enabled: on,
                        name: None,
                    };
                    catalog::update_pool(tx_ref, actor, shop.pool.id, update)
                        .await
                        .map(drop)
                }
                "credential" => {
                    let update = UpdateCredential {
                        enabled: on,
                        ..UpdateCredential::default()
                    };
                    catalog::update_credential(tx_ref, actor, shop.credential.id, update)
                        .await
                        .map(drop)
                }
                "offer" => {
                    let update = UpdateOffer {
                        enabled: on,
                        ..UpdateOffer::default()
                    };
                    catalog::update_offer(tx_ref, actor, shop.offer.id, update)
                        .await
                        .map(drop)
                }
                _ => {
                    let update = UpdateModel {
                        enabled: on,
                        ..UpdateModel::default()
                    };
                    catalog::update_model(tx_ref, actor, "acme/one", update).await.map(drop)
                }
            }
            .unwrap();
            tx.commit().await.unwrap();
            cache.refresh().await.unwrap();
            let snapshot = cache.snapshot();
            let offers = snapshot.model("one").map_or(0, |model| model.offers.len());
            assert_eq!(offers, usize::from(enabled), "{what}");
            if what == "model" {
                assert_eq!(snapshot.model("one").is_some(), enabled);
            }
        }
    }
}

#[tokio::test]
async fn offers_are_ordered_by_priority() {
    let world = world().await;
    let shop = world.shop().await;
    let tx = world.tx().await;
    let named = |upstream: &str, priority| NewOffer {
        upstream_model_id: Some(upstream.to_owned()),
        price: Some(plain_price("1", "1")),
        priority,
        ..NewOffer::of("acme/one", shop.pool.id)
    };
    catalog::create_offers(&tx, &world.actor, vec![named("last", 9), named("middle", 3)])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let snapshot = world.cache().await.snapshot();
    let order: Vec<&str> = snapshot
        .model("one")
        .unwrap()
        .offers
        .iter()
        .map(|o| o.upstream_model_id.as_str())
        .collect();
    assert_eq!(order, ["one-2026", "middle", "last"]);
}

struct Priced {
    world: World,
    change_at: UnixMs,
}

/// Version 3, some seconds ahead, doubles the price, gives the pool another multiplier and tier `gold` a discount.
async fn priced() -> Priced {
    let world = world().await;
    let shop = world.shop().await;
    let change_at = world.now().await.plus_ms(30_000);
    let tx = world.tx().await;
    let changes = vec![
        PriceChange::OfferPrice {
            offer: shop.offer.id,
            price: plain_price("2", "4"),
        },
        PriceChange::PoolMultiplier {
            pool: shop.pool.id,
            multiplier: "1.7".parse().unwrap(),
        },
        PriceChange::TierMultiplier {
            tier: "gold".to_owned(),
            multiplier: "0.9".parse().unwrap(),
        },
    ];
    catalog::publish(
        &tx,
        &world.actor,
        "",
        Some(change_at),
        changes,
        catalog::NoticePeriod::NONE,
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    Priced { world, change_at }
}

fn factors(candidates: &Candidates) -> Vec<(i64, String)> {
    candidates
        .iter()
        .map(|price| (price.version, price.multipliers.product()))
        .collect()
}

#[tokio::test]
async fn within_a_second_of_a_change_both_versions_are_frozen() {
    let Priced { world, change_at } = priced().await;
    let snapshot = world.cache().await.snapshot();
    let offer = &snapshot.model("one").unwrap().offers[0];
    let at = |ms: i64, tier: &str| factors(&snapshot.frozen_prices(offer, tier, change_at.plus_ms(ms)));
    let (old, new, gold) = ((2, "1.5".to_owned()), (3, "1.7".to_owned()), (3, "1.53".to_owned()));
    assert_eq!(at(-1_001, "").as_slice(), std::slice::from_ref(&old));
    assert_eq!(at(-1_000, ""), [old.clone(), new.clone()]);
    assert_eq!(at(-1, "gold"), [old.clone(), gold.clone()]);
    assert_eq!(at(0, ""), [new.clone(), old.clone()]);
    assert_eq!(at(1_000, "gold"), [gold.clone(), old.clone()]);
    assert_eq!(at(1_001, "gold"), [gold]);
    assert_eq!(at(1_000_000, "silver"), [new]);
    assert_eq!(snapshot.version_at(change_at.plus_ms(-1)), 2);
    assert_eq!(snapshot.version_at(change_at), 3);
    let shown = snapshot.price_in_force(offer, "gold", change_at).unwrap();
    assert_eq!(shown.entry, plain_price("2", "4"));
    // long before the first version there was nothing to sell
    assert!(snapshot.frozen_prices(offer, "", UnixMs(0)).is_empty());
    assert_eq!(snapshot.version_at(UnixMs(0)), 0);
}

#[tokio::test]
async fn a_change_of_something_else_is_no_second_price() {
    let world = world().await;
    world.shop().await;
    let change_at = world.now().await.plus_ms(30_000);
    let tx = world.tx().await;
    let tier = PriceChange::TierMultiplier {
        tier: "gold".to_owned(),
        multiplier: "0.9".parse().unwrap(),
    };
    catalog::publish(
        &tx,
        &world.actor,
        "",
        Some(change_at),
        vec![tier],
        catalog::NoticePeriod::NONE,
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let snapshot = world.cache().await.snapshot();
    let offer = &snapshot.model("one").unwrap().offers[0];
    assert_eq!(
        factors(&snapshot.frozen_prices(offer, "silver", change_at)),
        [(3, "1.5".to_owned())]
    );
    assert_eq!(snapshot.frozen_prices(offer, "gold", change_at).len(), 2);
}

#[tokio::test]
async fn of_versions_with_one_instant_only_the_newest_ever_holds() {
    let Priced { world, change_at } = priced().await;
    let shop_pool = world.cache().await.snapshot().pools()[0].id;
    let tx = world.tx().await;
    let correction = PriceChange::PoolMultiplier {
        pool: shop_pool,
        multiplier: "1.2".parse().unwrap(),
    };
    catalog::publish(
        &tx,
        &world.actor,
        "",
        Some(change_at),
        vec![correction],
        catalog::NoticePeriod::NONE,
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let snapshot = world.cache().await.snapshot();
    let offer = &snapshot.model("one").unwrap().offers[0];
    let at = |ms: i64| factors(&snapshot.frozen_prices(offer, "", change_at.plus_ms(ms)));
    assert_eq!(at(-1), [(2, "1.5".to_owned()), (4, "1.2".to_owned())]);
    assert_eq!(at(0), [(4, "1.2".to_owned()), (2, "1.5".to_owned())]);
}

#[tokio::test]
async fn overrides_promotions_and_announced_cards_count() {
    let world = world().await;
    let shop = world.shop().await;
    let change_at = world.now().await.plus_ms(30_000);
    let entry = r#"{"price":{"input":"1","output":"2"},
        "scheduled":[{"effective_from":"2090-01-01","price":{"input":"3"}}]}"#;
    let tx = world.tx().await;
    let changes = vec![
        PriceChange::OfferPrice {
            offer: shop.offer.id,
            price: price(entry),
        },
        PriceChange::ModelMultiplier {
            pool: shop.pool.id,
            model: "acme/one".to_owned(),
            multiplier: Some("0.6".parse().unwrap()),
        },
        PriceChange::PromotionMultiplier {
            pool: shop.pool.id,
            multiplier: Some("0.5".parse().unwrap()),
        },
    ];
    catalog::publish(
        &tx,
        &world.actor,
        "",
        Some(change_at),
        changes,
        catalog::NoticePeriod::NONE,
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let snapshot = world.cache().await.snapshot();
    let offer = &snapshot.model("one").unwrap().offers[0];
    assert_eq!(
        factors(&snapshot.frozen_prices(offer, "", change_at.plus_ms(60_000))),
        [(3, "0.3".to_owned())]
    );
    let announced = UnixMs::from_rfc3339("2090-01-01T00:00:00Z").unwrap();
    let around = snapshot.frozen_prices(offer, "", announced);
    assert_eq!(
        around
            .iter()
            .map(|price| price.admitted_at.0 - announced.0)
            .collect::<Vec<_>>(),
        [0, -1]
    );
}

#[tokio::test]
async fn a_first_price_holds_at_once_whatever_was_announced_before() {
    let Priced { world, change_at } = priced().await;
    let pool = world.cache().await.snapshot().pools()[0].id;
    let tx = world.tx().await;
    let new = NewOffer {
        upstream_model_id: Some("late".to_owned()),
        price: Some(plain_price("1", "1")),
        ..NewOffer::of("acme/one", pool)
    };
    let late = catalog::create_offer(&tx, &world.actor, new).await.unwrap();
    tx.commit().await.unwrap();
    let readers = world.database.readers();
    let version = catalog::get_price_version(readers, late.price_version.unwrap())
        .await
        .unwrap();
    let snapshot = world.cache().await.snapshot();
    let model = snapshot.model("one").unwrap();
    let offer = model
        .offers
        .iter()
        .find(|offer| offer.upstream_model_id == "late")
        .unwrap();
    let at = |instant: UnixMs| factors(&snapshot.frozen_prices(offer, "", instant));
    assert_eq!(at(version.effective_at.plus_ms(-1)), []);
    assert_eq!(at(version.effective_at), [(4, "1.5".to_owned())]);
    assert_eq!(at(change_at.plus_ms(2_000)), [(3, "1.7".to_owned())]);
    assert_eq!(
        snapshot.version_at(change_at),
        3,
        "versions hold in the order of their instants"
    );
}
