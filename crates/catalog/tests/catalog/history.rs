//! What did it cost at any time: the price list, the history and the snapshot agree with a plain reading of the rows.

use std::collections::BTreeMap;

use catalog::{NoticePeriod, PriceChange, PriceKind, PriceVersionView};
use domain::{clock::UnixMs, pricing::Multiplier};

use crate::support::{Shop, World, plain_price, world};

/// A small generator with a fixed seed: the same book in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn factor(&mut self) -> Multiplier {
        format!("{}.{}", self.below(3), self.below(100)).parse().unwrap()
    }
}

/// Publishes versions whose instants are in no order, some of them the same, and cancels some.
async fn random_book(world: &World, shop: &Shop, dice: &mut Dice) -> Vec<PriceVersionView> {
    let start = world.now().await.plus_ms(60_000);
    for _ in 0..24 {
        let at = start.plus_ms(i64::try_from(dice.below(12)).unwrap() * 10_000);
        let mut changes = vec![match dice.below(5) {
            0 => PriceChange::OfferPrice {
                offer: shop.offer.id,
                price: plain_price(&dice.below(50).to_string(), &dice.below(50).to_string()),
            },
            1 => PriceChange::ModelMultiplier {
                pool: shop.pool.id,
                model: "acme/one".to_owned(),
                multiplier: (dice.below(2) == 0).then(|| dice.factor()),
            },
            2 => PriceChange::PromotionMultiplier {
                pool: shop.pool.id,
                multiplier: (dice.below(2) == 0).then(|| dice.factor()),
            },
            3 => PriceChange::CostMultiplier {
                pool: shop.pool.id,
                multiplier: dice.factor(),
            },
            _ => PriceChange::PoolMultiplier {
                pool: shop.pool.id,
                multiplier: dice.factor(),
            },
        }];
        if dice.below(3) == 0 {
            changes.push(PriceChange::TierMultiplier {
                tier: "gold".to_owned(),
                multiplier: dice.factor(),
            });
        }
        let tx = world.tx().await;
        let view = catalog::publish(&tx, &world.actor, "", Some(at), changes, NoticePeriod::NONE)
            .await
            .unwrap();
        if dice.below(4) == 0 {
            catalog::cancel_version(&tx, &world.actor, view.version, "dice", NoticePeriod::NONE)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
    }
    let mut versions = catalog::list_price_versions(world.database.readers(), None, 200)
        .await
        .unwrap();
    versions.reverse();
    versions
}

/// The naive answer: everything that was said up to an instant, in order, one after the other.
fn naive(versions: &[PriceVersionView], at: UnixMs, tier: Option<&str>) -> Option<(serde_json::Value, String)> {
    let mut said: Vec<_> = versions
        .iter()
        .filter(|v| v.cancelled.is_none() && v.effective_at <= at)
        .collect();
    said.sort_by_key(|version| (version.effective_at, version.version));
    let mut book = BTreeMap::new();
    for item in said.iter().flat_map(|version| &version.items) {
        let is_ours = item.kind != PriceKind::TierMultiplier || Some(item.subject.as_str()) == tier;
        if is_ours {
            book.insert(item.kind, item.value.clone());
        }
    }
    let factor = |kind| {
        book.get(&kind)
            .and_then(|value| serde_json::from_value::<Option<Multiplier>>(value.clone()).ok()?)
    };
    let pool = factor(PriceKind::ModelMultiplier).or(factor(PriceKind::PoolMultiplier))?;
    let multipliers = domain::pricing::Multipliers {
        pool,
        tier: factor(PriceKind::TierMultiplier).unwrap_or_default(),
        promotion: factor(PriceKind::PromotionMultiplier).unwrap_or_default(),
    };
    Some((book.get(&PriceKind::OfferPrice)?.clone(), multipliers.product()))
}

#[tokio::test]
async fn every_way_to_ask_agrees_with_the_rows_at_any_instant() {
    let mut gaps = 0;
    for seed in 1..=6 {
        let world = world().await;
        let shop = world.shop().await;
        let mut dice = Dice(seed);
        let versions = random_book(&world, &shop, &mut dice).await;
        let snapshot = world.cache().await.snapshot();
        let offer = &snapshot.model("one").unwrap().offers[0];
        let start = versions[0].effective_at;
        let knows_gold = versions
            .iter()
            .any(|v| v.items.iter().any(|item| item.kind == PriceKind::TierMultiplier));
        for tier in [None, knows_gold.then_some("gold")] {
            let history = catalog::model_price_history(&world.database, "one", tier, world.now().await)
                .await
                .unwrap();
            for _ in 0..40 {
                let at = match dice.below(4) {
                    // on an instant, and a millisecond beside it
                    0..=2 => {
                        let place = usize::try_from(dice.below(versions.len() as u64)).unwrap();
                        versions[place]
                            .effective_at
                            .plus_ms(i64::try_from(dice.below(3)).unwrap() - 1)
                    }
                    _ => start.plus_ms(i64::try_from(dice.below(240_000)).unwrap() - 10_000),
                };
                let expected = naive(&versions, at, tier);
                gaps += usize::from(expected.is_none());
                let list = catalog::listing_at(&world.database, at, Some("acme/one"), tier)
                    .await
                    .unwrap();
                let listed = list.models.first().and_then(|model| model.offers[0].price.as_ref());
                let shown = |price: &catalog::ListedPrice| {
                    (
                        serde_json::to_value(&*price.list_price).unwrap(),
                        price.multiplier.clone(),
                    )
                };
                assert_eq!(
                    listed.map(shown),
                    expected,
                    "the list at {} (seed {seed})",
                    at.to_rfc3339()
                );
                let mut held = history.offers[0].prices.iter().filter(|price| {
                    price.state != "cancelled"
                        && price.price.effective_at <= at
                        && price.until.is_none_or(|until| at < until)
                });
                assert_eq!(held.next().map(|price| shown(&price.price)), expected, "the history");
                assert!(held.next().is_none(), "one price at a time");
                let frozen = snapshot.price_in_force(offer, tier.unwrap_or(""), at);
                let frozen = frozen.map(|price| {
                    (
                        serde_json::to_value(&*price.entry).unwrap(),
                        price.multipliers.product(),
                    )
                });
                assert_eq!(frozen, expected, "what requests are charged");
            }
        }
    }
    assert!(gaps > 0, "some instants are before the first price");
}
