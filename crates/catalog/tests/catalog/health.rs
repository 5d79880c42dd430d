//! Which credential is next, and which rests.

use catalog::{Fault, UpdateCredential};
use domain::secret::SecretText;

use crate::support::world;

#[tokio::test]
async fn a_rest_outlives_a_refresh_and_ends_with_a_new_secret() {
    let world = world().await;
    let shop = world.shop().await;
    let cache = world.cache().await;
    let now = world.now().await;
    let is_usable = || cache.health().pick(&cache.snapshot().pools()[0], now, &[]).is_some();
    assert!(is_usable());
    cache.health().report(shop.credential.id, Fault::Unauthorized, now);
    assert!(!is_usable());
    let tx = world.tx().await;
    let renamed = UpdateCredential {
        name: Some("other".to_owned()),
        ..UpdateCredential::default()
    };
    catalog::update_credential(&tx, &world.actor, shop.credential.id, renamed)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    cache.refresh().await.unwrap();
    assert!(!is_usable());

    let tx = world.tx().await;
    let secret = SecretText::new("sk-works-again".to_owned());
    catalog::rotate_credential(&tx, &world.actor, &world.key, shop.credential.id, &secret)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    cache.refresh().await.unwrap();
    assert!(is_usable());
    assert!(cache.health().outages(now).is_empty());
}
