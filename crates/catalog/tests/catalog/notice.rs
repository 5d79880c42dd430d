//! The notice period, and cancelling what was announced.

use catalog::{
    CatalogError, MIN_CANCEL_LEAD_MS, NewOffer, NoticePeriod, PriceChange, PriceVersionView, cancel_version, publish,
};
use domain::{PoolId, clock::UnixMs};

use crate::support::{Shop, World, new_model, plain_price, price, world};

const DAY_MS: i64 = 86_400_000;

fn week() -> NoticePeriod {
    NoticePeriod::of_days(7).unwrap()
}

fn pool_multiplier(pool: PoolId, multiplier: &str) -> PriceChange {
    PriceChange::PoolMultiplier {
        pool,
        multiplier: multiplier.parse().unwrap(),
    }
}

fn tier(multiplier: &str) -> PriceChange {
    PriceChange::TierMultiplier {
        tier: "gold".to_owned(),
        multiplier: multiplier.parse().unwrap(),
    }
}

async fn try_publish(
    world: &World,
    at: Option<UnixMs>,
    changes: Vec<PriceChange>,
) -> Result<PriceVersionView, CatalogError> {
    let tx = world.tx().await;
    let published = publish(&tx, &world.actor, "test", at, changes, week()).await;
    match published {
        Ok(_) => tx.commit().await.unwrap(),
        Err(_) => tx.rollback().await.unwrap(),
    }
    published
}

async fn try_cancel(world: &World, version: i64) -> Result<PriceVersionView, CatalogError> {
    let tx = world.tx().await;
    let cancelled = cancel_version(&tx, &world.actor, version, "a mistake", week()).await;
    match cancelled {
        Ok(_) => tx.commit().await.unwrap(),
        Err(_) => tx.rollback().await.unwrap(),
    }
    cancelled
}

#[track_caller]
fn needs_notice(result: Result<PriceVersionView, CatalogError>) -> (UnixMs, Vec<String>) {
    match result {
        Err(CatalogError::NoticeNeeded {
            earliest,
            days: 7,
            rises,
        }) => (earliest, rises),
        other => panic!("not refused for want of notice: {other:?}"),
    }
}

#[tokio::test]
async fn a_rise_waits_for_the_notice_and_the_message_says_until_when() {
    let world = world().await;
    let Shop { pool, offer, .. } = world.shop().await;
    let before = world.now().await;
    let dearer = PriceChange::OfferPrice {
        offer: offer.id,
        price: plain_price("0.5", "3"),
    };
    let (earliest, rises) = needs_notice(try_publish(&world, None, vec![dearer.clone()]).await);
    assert!(earliest.0 > before.0 + 7 * DAY_MS && earliest.0 < before.0 + 7 * DAY_MS + 180_000);
    // the pool's multiplier is 1.5
    assert!(
        rises[0].starts_with("acme/one in pool acme-main: output from 3 to 4.5"),
        "{rises:?}"
    );
    assert!(rises.iter().all(|rise| !rise.contains(": input ")), "{rises:?}");
    let too_soon = try_publish(&world, Some(UnixMs(before.0 + 7 * DAY_MS - 1)), vec![dearer.clone()]).await;
    needs_notice(too_soon);
    let error = try_publish(&world, None, vec![dearer.clone()])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("need 7 days of notice") && error.contains("output from 3 to 4.5"),
        "{error}"
    );
    let allowed = try_publish(&world, Some(earliest), vec![dearer]).await.unwrap();
    assert_eq!(
        allowed.effective_at, earliest,
        "the instant of the message can be given as it is"
    );

    // a mixed change is refused for what rises; what falls goes through by itself
    let mixed = vec![pool_multiplier(pool.id, "1"), tier("1.6")];
    let (_, rises) = needs_notice(try_publish(&world, None, mixed).await);
    assert_eq!(rises.len(), 1);
    assert!(
        rises[0].contains("for tier gold: every price (multiplier) from 1.5 to 1.6"),
        "{rises:?}"
    );
    let falls = try_publish(&world, None, vec![pool_multiplier(pool.id, "1")])
        .await
        .unwrap();
    assert!(
        falls.effective_at < earliest,
        "a reduction does not wait for an announced rise"
    );
    needs_notice(
        try_publish(
            &world,
            Some(falls.effective_at.plus_ms(60_000)),
            vec![pool_multiplier(pool.id, "1.5")],
        )
        .await,
    );
}

#[tokio::test]
async fn rises_are_found_however_they_come_about() {
    let world = world().await;
    let Shop { pool, offer, .. } = world.shop().await;
    let one_model = |multiplier: Option<&str>| PriceChange::ModelMultiplier {
        pool: pool.id,
        model: "acme/one".to_owned(),
        multiplier: multiplier.map(|multiplier| multiplier.parse().unwrap()),
    };
    let promotion = |multiplier: Option<&str>| PriceChange::PromotionMultiplier {
        pool: pool.id,
        multiplier: multiplier.map(|multiplier| multiplier.parse().unwrap()),
    };
    needs_notice(try_publish(&world, None, vec![one_model(Some("1.6"))]).await);
    needs_notice(try_publish(&world, None, vec![promotion(Some("1.1"))]).await);
    needs_notice(try_publish(&world, None, vec![tier("1.1")]).await);
    // an announced card inside the notice, in a price that is the same today
    let soon = UnixMs(world.now().await.0 + 3 * DAY_MS).to_rfc3339();
    let entry = format!(
        r#"{{"price":{{"input":"1","output":"2"}},"scheduled":[{{"effective_from":"{}","price":{{"input":"2"}}}}]}}"#,
        &soon[..10]
    );
    let change = PriceChange::OfferPrice {
        offer: offer.id,
        price: price(&entry),
    };
    needs_notice(try_publish(&world, None, vec![change]).await);
    // what the operator pays is nobody else's business
    let cost = PriceChange::CostMultiplier {
        pool: pool.id,
        multiplier: "3".parse().unwrap(),
    };
    try_publish(&world, None, vec![cost]).await.unwrap();
    // the end of a promotion and of an override are rises
    try_publish(&world, None, vec![promotion(Some("0.5")), one_model(Some("1.2"))])
        .await
        .unwrap();
    needs_notice(try_publish(&world, None, vec![promotion(None)]).await);
    needs_notice(try_publish(&world, None, vec![one_model(None)]).await);
    // together they may fall all the same
    try_publish(&world, None, vec![promotion(Some("0.3")), one_model(None)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cancelled_version_never_holds_and_stays_in_the_history() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    let now = world.now().await;
    let falls = try_publish(&world, Some(now.plus_ms(3_600_000)), vec![pool_multiplier(pool, "1")])
        .await
        .unwrap();
    let cancelled = try_cancel(&world, falls.version).await.unwrap();
    let said = cancelled.cancelled.expect("it is cancelled");
    assert_eq!(
        (said.reason.as_str(), said.actor.as_str()),
        ("a mistake", world.actor.as_str())
    );
    assert!(
        matches!(try_cancel(&world, falls.version).await, Err(CatalogError::Refused(_))),
        "once"
    );
    assert!(matches!(
        try_cancel(&world, 99).await,
        Err(CatalogError::NotFound { .. })
    ));
    let snapshot = world.cache().await.snapshot();
    let offer = &snapshot.model("one").unwrap().offers[0];
    for ms in [-1_000, 0, 1_000, 3_600_000] {
        let prices = snapshot.frozen_prices(offer, "", falls.effective_at.plus_ms(ms));
        let shown: Vec<_> = prices
            .iter()
            .map(|price| (price.version, price.multipliers.product()))
            .collect();
        assert_eq!(shown, [(2, "1.5".to_owned())], "{ms} ms around the instant");
    }
    let view = catalog::get_price_version(world.database.readers(), falls.version)
        .await
        .unwrap();
    assert_eq!(view.items, falls.items, "what was published stays");
    let history = catalog::model_price_history(&world.database, "acme/one", None, world.now().await);
    let history = history.await.unwrap();
    let states: Vec<_> = history.offers[0]
        .prices
        .iter()
        .map(|price| (price.state, price.price.version))
        .collect();
    assert_eq!(states, [("current", 2), ("cancelled", falls.version)]);
    // the rows themselves can be neither changed nor removed
    let tx = world.tx().await;
    assert!(
        tx.execute("UPDATE price_cancellation SET reason = 'another'", vec![])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn it_is_too_late_near_the_instant_and_refused_where_prices_would_rise() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    let now = world.now().await;
    let near = try_publish(
        &world,
        Some(now.plus_ms(MIN_CANCEL_LEAD_MS)),
        vec![pool_multiplier(pool, "1.4")],
    )
    .await
    .unwrap();
    let late = try_cancel(&world, near.version).await.unwrap_err();
    assert!(matches!(late, CatalogError::Refused(_)), "{late}");

    // a rise that was announced in time, and a reduction after it, of which the customers know
    let up = try_publish(&world, Some(now.plus_ms(8 * DAY_MS)), vec![pool_multiplier(pool, "2")])
        .await
        .unwrap();
    let down = try_publish(
        &world,
        Some(now.plus_ms(9 * DAY_MS)),
        vec![pool_multiplier(pool, "1.2")],
    )
    .await
    .unwrap();
    // both are outside the notice period: everybody has had it
    try_cancel(&world, down.version).await.unwrap();
    try_cancel(&world, up.version).await.unwrap();

    // within it, what shields from a rise cannot be taken away
    let tx = world.tx().await;
    let unannounced = vec![pool_multiplier(pool, "3")];
    let at = |days: i64| Some(now.plus_ms(days * DAY_MS));
    publish(&tx, &world.actor, "", at(2), unannounced, NoticePeriod::NONE)
        .await
        .unwrap();
    let shield = publish(
        &tx,
        &world.actor,
        "",
        at(2),
        vec![pool_multiplier(pool, "1.3")],
        NoticePeriod::NONE,
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let (_, rises) = needs_notice(try_cancel(&world, shield.version).await);
    assert!(rises[0].contains("from 1.3 to 3"), "{rises:?}");
}

/// Versions that are in the book without notice, two days ahead; then the one to be cancelled.
async fn unannounced(world: &World, versions: Vec<Vec<PriceChange>>) -> Vec<PriceVersionView> {
    let at = world.now().await.plus_ms(2 * DAY_MS);
    let tx = world.tx().await;
    let mut published = Vec::new();
    for changes in versions {
        let view = publish(&tx, &world.actor, "", Some(at), changes, NoticePeriod::NONE).await;
        published.push(view.unwrap());
    }
    tx.commit().await.unwrap();
    published
}

#[tokio::test]
async fn a_cancellation_that_leaves_a_tier_dearer_than_now_is_refused() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    // gold pays 1.5 now and was told 1.3 x 1.2; without the reduction it would pay 1.5 x 1.2, others what they pay now
    let published = unannounced(&world, vec![vec![pool_multiplier(pool, "1.3")], vec![tier("1.2")]]).await;
    let (_, rises) = needs_notice(try_cancel(&world, published[0].version).await);
    assert_eq!(rises.len(), 1, "{rises:?}");
    assert!(
        rises[0].contains("for tier gold: every price (multiplier) from 1.56 to 1.8"),
        "{rises:?}"
    );
}

#[tokio::test]
async fn a_cancellation_that_takes_a_class_its_own_price_is_refused() {
    let world = world().await;
    let pool = world.shop().await.pool.id;
    let tx = world.tx().await;
    catalog::create_model(&tx, &world.actor, new_model("acme/two"))
        .await
        .unwrap();
    let new = NewOffer {
        price: Some(price(
            r#"{"price":{"input":"10","output":"10","cached_input_read":"1"}}"#,
        )),
        upstream_model_id: Some("two-2026".to_owned()),
        ..NewOffer::of("acme/two", pool)
    };
    let offer = catalog::create_offer(&tx, &world.actor, new).await.unwrap().id;
    tx.commit().await.unwrap();
    let entry = |json: &str| PriceChange::OfferPrice {
        offer,
        price: price(json),
    };
    // cached input goes from 1 to the 10 of other input, which itself only stays what it is
    let published = unannounced(
        &world,
        vec![
            vec![entry(r#"{"price":{"input":"10","output":"10"}}"#)],
            vec![entry(
                r#"{"price":{"input":"9","output":"10","cached_input_read":"1"}}"#,
            )],
        ],
    )
    .await;
    let (_, rises) = needs_notice(try_cancel(&world, published[1].version).await);
    assert!(rises[0].contains("cached_input_read from 1.5 to 15"), "{rises:?}");
}
