//! Providers, pools, credentials, models and offers: what may be written, and what is refused.

use catalog::{
    CatalogError, NewOffer, NewProvider, OfferFilter, UpdateCredential, UpdateModel, UpdateOffer, UpdatePool,
    UpdateProvider,
};
use domain::{CredentialId, OfferId, PoolId, ProviderId, secret::SecretText};
use store::changes::{Topic, read_versions};

use crate::support::{SECRET, new_credential, new_model, new_pool, new_provider, plain_price, world};

#[tokio::test]
async fn providers_are_checked_listed_and_changed() {
    let world = world().await;
    let tx = world.tx().await;
    let mut ids = Vec::new();
    for slug in ["a", "b", "c"] {
        ids.push(
            catalog::create_provider(&tx, &world.actor, new_provider(slug))
                .await
                .unwrap()
                .id,
        );
    }
    let double = catalog::create_provider(&tx, &world.actor, new_provider("a")).await;
    assert!(matches!(double, Err(CatalogError::Taken(_))));
    for bad in [
        NewProvider {
            slug: "A b".to_owned(),
            ..new_provider("x")
        },
        NewProvider {
            name: String::new(),
            ..new_provider("x")
        },
        NewProvider {
            formats: Vec::new(),
            ..new_provider("x")
        },
        NewProvider {
            base_url: "http://x.example".to_owned(),
            ..new_provider("x")
        },
        NewProvider {
            base_url: "https://u:p@x.example".to_owned(),
            ..new_provider("x")
        },
    ] {
        let refused = catalog::create_provider(&tx, &world.actor, bad).await;
        assert!(matches!(refused, Err(CatalogError::Invalid { .. })), "{refused:?}");
    }
    let private = NewProvider {
        base_url: "http://127.0.0.1:9/".to_owned(),
        allow_private_address: true,
        ..new_provider("private")
    };
    let private = catalog::create_provider(&tx, &world.actor, private).await.unwrap();
    let closed = UpdateProvider {
        allow_private_address: Some(false),
        ..UpdateProvider::default()
    };
    let refused = catalog::update_provider(&tx, &world.actor, private.id, closed).await;
    assert!(matches!(refused, Err(CatalogError::Invalid { field: "base_url", .. })));
    tx.commit().await.unwrap();

    let readers = world.database.readers();
    let page = catalog::list_providers(readers, Some(ids[0]), 2).await.unwrap();
    assert_eq!(page.iter().map(|p| p.id).collect::<Vec<_>>(), [ids[1], ids[2]]);
    assert_eq!(
        catalog::get_provider_by_slug(readers, "b").await.unwrap().unwrap().id,
        ids[1]
    );
    assert!(
        catalog::get_provider_by_slug(readers, "nobody")
            .await
            .unwrap()
            .is_none()
    );
    let missing = catalog::get_provider(readers, ProviderId::generate()).await;
    assert!(matches!(missing, Err(CatalogError::NotFound { what: "provider", .. })));
}

#[tokio::test]
async fn a_key_stays_with_its_origin() {
    let world = world().await;
    let shop = world.shop().await;
    let tx = world.tx().await;
    let to = |url: &str| UpdateProvider {
        base_url: Some(url.to_owned()),
        ..UpdateProvider::default()
    };
    let same_origin = to("https://acme.example/v2");
    catalog::update_provider(&tx, &world.actor, shop.provider.id, same_origin)
        .await
        .unwrap();
    let elsewhere = to("https://evil.example/v2");
    let refused = catalog::update_provider(&tx, &world.actor, shop.provider.id, elsewhere.clone()).await;
    assert!(matches!(refused, Err(CatalogError::Refused(_))));

    let enabled = |enabled| UpdateCredential {
        enabled: Some(enabled),
        ..UpdateCredential::default()
    };
    catalog::update_credential(&tx, &world.actor, shop.credential.id, enabled(false))
        .await
        .unwrap();
    catalog::update_provider(&tx, &world.actor, shop.provider.id, elsewhere)
        .await
        .unwrap();
    let refused = catalog::update_credential(&tx, &world.actor, shop.credential.id, enabled(true)).await;
    assert!(matches!(refused, Err(CatalogError::Refused(_))));
    let secret = SecretText::new("sk-for-the-new-host".to_owned());
    let rotated = catalog::rotate_credential(&tx, &world.actor, &world.key, shop.credential.id, &secret)
        .await
        .unwrap();
    assert_eq!(rotated.origin, "https://evil.example");
    catalog::update_credential(&tx, &world.actor, shop.credential.id, enabled(true))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_row_that_points_elsewhere_does_not_open_the_key() {
    let world = world().await;
    world.shop().await;
    let tx = world.tx().await;
    let hijacked = "UPDATE provider SET base_url = 'https://evil.example/v1'";
    assert_eq!(tx.execute(hijacked, Vec::new()).await.unwrap(), 1);
    tx.execute("UPDATE credential SET origin = 'https://evil.example'", Vec::new())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let snapshot = world.cache().await.snapshot();
    assert!(snapshot.model("acme/one").unwrap().offers.is_empty());
}

#[tokio::test]
async fn credentials_show_no_secret_and_store_none() {
    let world = world().await;
    let shop = world.shop().await;
    assert_eq!(shop.credential.last4, "6789");
    let tx = world.tx().await;
    let other = "sk-canary-second-secret-abcdefgh";
    let secret = SecretText::new(other.to_owned());
    let rotated = catalog::rotate_credential(&tx, &world.actor, &world.key, shop.credential.id, &secret)
        .await
        .unwrap();
    assert_eq!(rotated.last4, "efgh");
    let short = catalog::create_credential(&tx, &world.actor, &world.key, new_credential(shop.pool.id, "short")).await;
    assert_eq!(short.unwrap().last4, "");
    for bad in ["", "a b", "a\r\nX-Evil: 1", "schlüssel", &"x".repeat(8_193)] {
        let refused =
            catalog::create_credential(&tx, &world.actor, &world.key, new_credential(shop.pool.id, bad)).await;
        assert!(
            matches!(refused, Err(CatalogError::Invalid { field: "secret", .. })),
            "{bad:?}"
        );
    }
    tx.commit().await.unwrap();

    let tx = world.tx().await;
    let rows = tx
        .query(
            "SELECT sealed_secret || last4 || origin || name AS text FROM credential \
             UNION ALL SELECT COALESCE(before_json, '') || COALESCE(after_json, '') FROM audit",
            Vec::new(),
        )
        .await
        .unwrap();
    assert!(rows.len() >= 8);
    for row in rows {
        let text: String = row.try_get("", "text").unwrap();
        assert!(!text.contains("canary"), "{text}");
    }
    tx.rollback().await.unwrap();
    let snapshot = world.cache().await.snapshot();
    let opened = &snapshot.model("one").unwrap().offers[0].pool.credentials;
    assert_eq!(opened[0].secret.expose(), other);
    assert!(!format!("{snapshot:?}").contains("canary"));
}

#[tokio::test]
async fn credentials_are_listed_and_removed() {
    let world = world().await;
    let shop = world.shop().await;
    let tx = world.tx().await;
    let second = catalog::create_credential(&tx, &world.actor, &world.key, new_credential(shop.pool.id, SECRET))
        .await
        .unwrap();
    let listed = catalog::list_credentials(tx.connection(), Some(shop.pool.id), None, 10)
        .await
        .unwrap();
    assert_eq!(
        listed.iter().map(|c| c.id).collect::<Vec<_>>(),
        [shop.credential.id, second.id]
    );
    let rest = catalog::list_credentials(tx.connection(), None, Some(shop.credential.id), 10)
        .await
        .unwrap();
    assert_eq!(rest.as_slice(), std::slice::from_ref(&second));
    let other_pool = catalog::list_credentials(tx.connection(), Some(PoolId::generate()), None, 10)
        .await
        .unwrap();
    assert!(other_pool.is_empty());
    catalog::remove_credential(&tx, &world.actor, second.id).await.unwrap();
    for id in [second.id, CredentialId::generate()] {
        assert!(matches!(
            catalog::get_credential(tx.connection(), id).await,
            Err(CatalogError::NotFound { .. })
        ));
        let gone = catalog::remove_credential(&tx, &world.actor, id).await;
        assert!(matches!(gone, Err(CatalogError::NotFound { .. })));
    }
}

#[tokio::test]
async fn pools_have_unique_names_and_a_multiplier_from_the_start() {
    let world = world().await;
    let shop = world.shop().await;
    let tx = world.tx().await;
    assert_eq!(shop.pool.multiplier.unwrap().to_string(), "1.5");
    assert_eq!(
        catalog::get_pool(tx.connection(), shop.pool.id).await.unwrap(),
        shop.pool
    );
    let double = catalog::create_pool(&tx, &world.actor, new_pool(shop.provider.id, "acme-main")).await;
    assert!(matches!(double, Err(CatalogError::Taken(_))));
    let orphan = catalog::create_pool(&tx, &world.actor, new_pool(ProviderId::generate(), "x")).await;
    assert!(matches!(orphan, Err(CatalogError::NotFound { .. })));
    let update = UpdatePool {
        name: Some("renamed".to_owned()),
        enabled: Some(false),
    };
    let updated = catalog::update_pool(&tx, &world.actor, shop.pool.id, update)
        .await
        .unwrap();
    assert_eq!(catalog::list_pools(tx.connection(), None, 10).await.unwrap(), [updated]);
}

#[tokio::test]
async fn model_names_are_unique_without_case() {
    let world = world().await;
    world.shop().await;
    let tx = world.tx().await;
    for (id, alias) in [("acme/one", "x"), ("acme-one/x", "ACME/ONE"), ("acme/two", "oNe")] {
        let mut new = new_model(id);
        new.aliases = vec![alias.to_owned()];
        let refused = catalog::create_model(&tx, &world.actor, new).await;
        assert!(matches!(refused, Err(CatalogError::Taken(_))), "{id} {alias}");
        tx.execute("DELETE FROM model WHERE id <> 'acme/one'", Vec::new())
            .await
            .unwrap();
    }
    catalog::create_model(&tx, &world.actor, new_model("acme/two"))
        .await
        .unwrap();
    let taken = catalog::add_alias(&tx, &world.actor, "acme/two", "ACME-ONE").await;
    assert!(matches!(taken, Err(CatalogError::Taken(_))));
    let view = catalog::add_alias(&tx, &world.actor, "acme/two", "Deux").await.unwrap();
    assert_eq!(view.aliases, ["Deux"]);
    let found = catalog::find_model(tx.connection(), "DEUX").await.unwrap().unwrap();
    assert_eq!(found.id, "acme/two");
    assert!(catalog::find_model(tx.connection(), "trois").await.unwrap().is_none());
    let not_its = catalog::remove_alias(&tx, &world.actor, "acme/one", "deux").await;
    assert!(matches!(not_its, Err(CatalogError::NotFound { .. })));
    let view = catalog::remove_alias(&tx, &world.actor, "acme/two", "dEUX")
        .await
        .unwrap();
    assert!(view.aliases.is_empty());
    let after = catalog::list_models(tx.connection(), Some("acme/one"), 10)
        .await
        .unwrap();
    assert_eq!(after.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["acme/two"]);
    let zero = UpdateModel {
        context_window: Some(0),
        ..UpdateModel::default()
    };
    let refused = catalog::update_model(&tx, &world.actor, "acme/two", zero).await;
    assert!(matches!(
        refused,
        Err(CatalogError::Invalid {
            field: "context_window",
            ..
        })
    ));
}

#[tokio::test]
async fn offers_are_filtered_and_changed() {
    let world = world().await;
    let shop = world.shop().await;
    let tx = world.tx().await;
    let second = NewOffer {
        upstream_model_id: Some("one-turbo".to_owned()),
        price: Some(plain_price("3", "4")),
        priority: 2,
        ..NewOffer::of("acme/one", shop.pool.id)
    };
    let second = catalog::create_offer(&tx, &world.actor, second).await.unwrap();
    let list = |filter: OfferFilter, after| {
        let tx = &tx;
        async move { catalog::list_offers(tx.connection(), &filter, after, 10).await.unwrap() }
    };
    assert_eq!(
        list(OfferFilter::default(), None).await,
        [shop.offer.clone(), second.clone()]
    );
    assert_eq!(
        list(OfferFilter::default(), Some(shop.offer.id)).await.as_slice(),
        std::slice::from_ref(&second)
    );
    let none = OfferFilter {
        model: Some("acme/two".to_owned()),
        pool: Some(shop.pool.id),
    };
    assert!(list(none, None).await.is_empty());
    let clash = UpdateOffer {
        upstream_model_id: Some("one-2026".to_owned()),
        ..UpdateOffer::default()
    };
    let refused = catalog::update_offer(&tx, &world.actor, second.id, clash).await;
    assert!(matches!(refused, Err(CatalogError::Taken(_))));
    let update = UpdateOffer {
        priority: Some(7),
        weight: Some(0),
        enabled: Some(false),
        ..UpdateOffer::default()
    };
    let updated = catalog::update_offer(&tx, &world.actor, second.id, update)
        .await
        .unwrap();
    assert_eq!(catalog::get_offer(tx.connection(), second.id).await.unwrap(), updated);
    assert_eq!((updated.priority, updated.weight, updated.enabled), (7, 0, false));
    let missing = catalog::update_offer(&tx, &world.actor, OfferId::generate(), UpdateOffer::default()).await;
    assert!(matches!(missing, Err(CatalogError::NotFound { .. })));
    let heavy = UpdateOffer {
        weight: Some(1_000_001),
        ..UpdateOffer::default()
    };
    let refused = catalog::update_offer(&tx, &world.actor, second.id, heavy).await;
    assert!(matches!(refused, Err(CatalogError::Invalid { field: "weight", .. })));
}

#[tokio::test]
async fn every_write_leaves_an_audit_row_and_a_notice() {
    let world = world().await;
    let shop = world.shop().await;
    let version = || async {
        read_versions(world.database.readers(), world.database.backend())
            .await
            .unwrap()
            .of(Topic::Catalog)
    };
    let before = version().await;
    let tx = world.tx().await;
    catalog::update_pool(
        &tx,
        &world.actor,
        shop.pool.id,
        UpdatePool {
            enabled: Some(false),
            name: None,
        },
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    assert!(version().await > before);
    let rows = store::audit::list(world.database.readers(), world.database.backend(), None, 100)
        .await
        .unwrap();
    let newest = &rows[0];
    assert_eq!(
        (newest.action.as_str(), newest.actor.as_str()),
        ("pool.update", "system:test")
    );
    assert_eq!(newest.before.as_ref().unwrap()["enabled"], true);
    assert_eq!(newest.after.as_ref().unwrap()["enabled"], false);
    let actions: Vec<&str> = rows.iter().map(|row| row.action.as_str()).collect();
    for expected in [
        "provider.create",
        "pool.create",
        "credential.create",
        "model.create",
        "offer.create",
        "price_book.publish",
    ] {
        assert!(actions.contains(&expected), "{expected} in {actions:?}");
    }
    // what is taken back leaves nothing
    let tx = world.tx().await;
    catalog::create_provider(&tx, &world.actor, new_provider("gone"))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert!(
        catalog::get_provider_by_slug(world.database.readers(), "gone")
            .await
            .unwrap()
            .is_none()
    );
}
