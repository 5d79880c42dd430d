//! The seed: every model and price parses, and seeding again changes nothing.

use std::collections::HashSet;

use catalog::{CatalogError, ModelView, NewOffer, UpdateModel, seed_models, seed_offers};

use crate::support::{World, new_credential, new_pool, new_provider, world};

async fn all_models(world: &World) -> Vec<ModelView> {
    catalog::list_models(world.database.readers(), None, 1_000)
        .await
        .unwrap()
}

async fn seed(world: &World) -> catalog::Seeded {
    let tx = world.tx().await;
    let seeded = seed_models(&tx).await.unwrap();
    tx.commit().await.unwrap();
    seeded
}

#[tokio::test]
async fn every_model_and_every_price_is_read() {
    let world = world().await;
    assert_eq!(seed(&world).await.models, 276);
    let models = all_models(&world).await;
    assert_eq!(models.len(), 276);
    let mut names = HashSet::new();
    let mut offers = 0;
    for model in &models {
        for name in std::iter::once(&model.id).chain(&model.aliases) {
            assert!(names.insert(name.to_ascii_lowercase()), "{name} twice");
        }
        offers += seed_offers(&model.id).unwrap().len();
    }
    assert_eq!(offers, 671);
    let sol = models.iter().find(|model| model.id == "openai/gpt-6.1-sol").unwrap();
    assert_eq!(
        (sol.context_window, sol.max_output_tokens),
        (Some(1_050_000), Some(128_000))
    );
    assert!(sol.details.capabilities.contains(&"tools".to_owned()));
    assert!(
        models
            .iter()
            .any(|model| model.details.deprecated && model.details.deprecation_date.is_some())
    );
    assert!(
        models.iter().any(|model| model.max_output_tokens.is_none()),
        "unpublished limits stay unknown"
    );
    assert_eq!(seed_offers("no/such").unwrap(), []);
}

#[tokio::test]
async fn seeding_again_changes_nothing_that_an_operator_did() {
    let world = world().await;
    seed(&world).await;
    let tx = world.tx().await;
    let disabled = UpdateModel {
        enabled: Some(false),
        name: Some("Mine".to_owned()),
        ..UpdateModel::default()
    };
    catalog::update_model(&tx, &world.actor, "openai/gpt-4o", disabled)
        .await
        .unwrap();
    catalog::remove_alias(&tx, &world.actor, "openai/gpt-6.1-sol", "GPT-6.1-Sol")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let before = all_models(&world).await;
    assert_eq!(seed(&world).await, catalog::Seeded::default());
    assert_eq!(all_models(&world).await, before);
}

#[tokio::test]
async fn an_operators_names_win_over_the_seeds() {
    let world = world().await;
    let tx = world.tx().await;
    let mut own = crate::support::new_model("mine/model");
    own.aliases = vec!["GPT-4o".to_owned(), "openai/gpt-6-sol".to_owned()];
    catalog::create_model(&tx, &world.actor, own).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(seed(&world).await.models, 275);
    let named = catalog::find_model(world.database.readers(), "gpt-4o")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(named.id, "mine/model");
    assert!(
        catalog::get_model(world.database.readers(), "openai/gpt-4o")
            .await
            .is_ok()
    );
    let audited = || async {
        let (readers, backend) = (world.database.readers(), world.database.backend());
        store::audit::list(readers, backend, None, 100).await.unwrap().len()
    };
    let rows = audited().await;
    assert_eq!(seed(&world).await, catalog::Seeded::default());
    assert_eq!(audited().await, rows);
}

#[tokio::test]
async fn an_offer_takes_its_price_from_the_template() {
    let world = world().await;
    seed(&world).await;
    let tx = world.tx().await;
    let openai = catalog::create_provider(&tx, &world.actor, new_provider("openai"))
        .await
        .unwrap();
    let pool = catalog::create_pool(&tx, &world.actor, new_pool(openai.id, "openai-main"))
        .await
        .unwrap();
    let model = "openai/gpt-6.1-sol";
    let offer = catalog::create_offer(&tx, &world.actor, NewOffer::of(model, pool.id))
        .await
        .unwrap();
    assert_eq!(
        (offer.upstream_model_id.as_str(), offer.usage_profile.as_str()),
        ("gpt-6.1-sol", "openai_chat")
    );
    assert_eq!(offer.price.as_deref(), Some(&seed_offers(model).unwrap()[0].price));
    let again = catalog::create_offer(&tx, &world.actor, NewOffer::of(model, pool.id)).await;
    assert!(matches!(again, Err(CatalogError::Taken(_))));

    let own = catalog::create_provider(&tx, &world.actor, new_provider("local"))
        .await
        .unwrap();
    let pool = catalog::create_pool(&tx, &world.actor, new_pool(own.id, "local"))
        .await
        .unwrap();
    catalog::create_credential(&tx, &world.actor, &world.key, new_credential(pool.id, "k"))
        .await
        .unwrap();
    let refused = catalog::create_offer(&tx, &world.actor, NewOffer::of(model, pool.id)).await;
    assert!(
        matches!(
            refused,
            Err(CatalogError::Invalid {
                field: "upstream_model_id",
                ..
            })
        ),
        "{refused:?}"
    );
    let borrowed = NewOffer {
        template: Some("openai".to_owned()),
        ..NewOffer::of(model, pool.id)
    };
    catalog::create_offer(&tx, &world.actor, borrowed).await.unwrap();
}
