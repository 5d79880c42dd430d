//! Tenants and keys as they are kept.

use accounts::{
    AccountsError, Budget, BudgetPeriod, CallerCache, KeyUpdate, NewTenant, Tenant, TenantUpdate, VirtualKey,
    operator_keys, operator_tenants, tenant_keys,
};
use domain::{Amount, KeyId, TenantId, scope::TenantScope};

use crate::world::{World, limited, named};

#[tokio::test]
async fn tenants_are_created_listed_read_and_changed() {
    let world = World::new().await;
    let (first, second) = (world.tenant("Acme").await, world.tenant("Globex").await);
    let readers = world.database.readers();
    assert_eq!(
        operator_tenants::list(readers, None, 10).await.unwrap(),
        [second.clone(), first.clone()]
    );
    assert_eq!(
        operator_tenants::list(readers, None, 1).await.unwrap(),
        std::slice::from_ref(&second)
    );
    assert_eq!(
        operator_tenants::list(readers, Some(second.id), 10).await.unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(operator_tenants::get(readers, first.id).await.unwrap(), first);
    let missing = operator_tenants::get(readers, TenantId::generate()).await;
    assert!(matches!(missing, Err(AccountsError::NotFound("tenant"))));

    let tx = world.database.begin().await.unwrap();
    let update = TenantUpdate {
        tier: Some("gold".to_owned()),
        enabled: Some(false),
        name: None,
        budget: None,
    };
    let changed = operator_tenants::update(&tx, &world.actor, first.id, update.clone())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        changed,
        Tenant {
            tier: "gold".to_owned(),
            enabled: false,
            ..first.clone()
        }
    );
    assert_eq!(operator_tenants::get(readers, first.id).await.unwrap(), changed);

    let before = (world.versions().await, world.audit().await.len());
    let tx = world.database.begin().await.unwrap();
    operator_tenants::update(&tx, &world.actor, first.id, update)
        .await
        .unwrap();
    let bad = TenantUpdate {
        name: Some(String::new()),
        ..TenantUpdate::default()
    };
    let refused = operator_tenants::update(&tx, &world.actor, first.id, bad).await;
    assert!(matches!(refused, Err(AccountsError::Invalid { field: "name", .. })));
    tx.commit().await.unwrap();
    assert_eq!(
        (world.versions().await, world.audit().await.len()),
        before,
        "what changes nothing leaves no trail"
    );
}

#[tokio::test]
async fn a_tenant_keeps_its_budget() {
    let world = World::new().await;
    let budget = |limit| Budget {
        limit: Amount::from_nanos(limit),
        period: BudgetPeriod::Week,
    };
    let tx = world.database.begin().await.unwrap();
    let new = |limit| NewTenant {
        name: "Acme".to_owned(),
        tier: None,
        budget: Some(budget(limit)),
    };
    let refused = operator_tenants::create(&tx, &world.actor, new(0)).await;
    assert!(matches!(refused, Err(AccountsError::Invalid { field: "budget", .. })));
    let created = operator_tenants::create(&tx, &world.actor, new(5)).await.unwrap();
    assert_eq!(
        operator_tenants::get(tx.connection(), created.id).await.unwrap(),
        created
    );
    for (update, expected) in [
        (None, Some(budget(5))),
        (Some(Some(budget(7))), Some(budget(7))),
        (Some(None), None),
    ] {
        let update = TenantUpdate {
            budget: update,
            ..TenantUpdate::default()
        };
        let changed = operator_tenants::update(&tx, &world.actor, created.id, update)
            .await
            .unwrap();
        assert_eq!(changed.budget, expected);
        assert_eq!(
            operator_tenants::get(tx.connection(), created.id).await.unwrap(),
            changed
        );
    }
    let nothing = TenantUpdate {
        budget: Some(Some(budget(-1))),
        ..TenantUpdate::default()
    };
    let refused = operator_tenants::update(&tx, &world.actor, created.id, nothing).await;
    assert!(matches!(refused, Err(AccountsError::Invalid { field: "budget", .. })));
    tx.execute("UPDATE tenant SET budget_limit = 5", vec![]).await.unwrap();
    let damaged = operator_tenants::get(tx.connection(), created.id).await;
    assert!(matches!(
        damaged,
        Err(AccountsError::Store(store::StoreError::Damaged(_)))
    ));
}

#[tokio::test]
async fn a_key_keeps_its_settings() {
    let world = World::new().await;
    let tenant = world.tenant("Acme").await;
    let (key, plain) = world.key(tenant.id, limited()).await;
    assert_eq!((key.name.as_str(), key.last4.as_str()), ("ci", plain.last4()));
    assert_eq!(key.limits(), limited().limits);
    let readers = world.database.readers();
    assert_eq!(operator_keys::get(readers, key.id).await.unwrap(), key);

    let update = KeyUpdate {
        budget: Some(None),
        requests_per_minute: Some(Some(7)),
        name: Some("cd".to_owned()),
        ..KeyUpdate::default()
    };
    let changed = world.update(key.id, update).await.unwrap();
    let expected = VirtualKey {
        budget: None,
        requests_per_minute: Some(7),
        name: "cd".to_owned(),
        ..key.clone()
    };
    assert_eq!(changed, expected);
    assert_eq!(operator_keys::get(readers, key.id).await.unwrap(), expected);
    let too_much = KeyUpdate {
        requests_per_minute: Some(Some(0)),
        ..KeyUpdate::default()
    };
    assert!(matches!(
        world.update(key.id, too_much).await,
        Err(AccountsError::Invalid { .. })
    ));
    assert!(matches!(
        world.update(KeyId::generate(), KeyUpdate::default()).await,
        Err(AccountsError::NotFound("key"))
    ));

    let tx = world.database.begin().await.unwrap();
    let nobody = operator_keys::create(&tx, &world.actor, &world.pepper, TenantId::generate(), named("x")).await;
    assert!(matches!(nobody, Err(AccountsError::NotFound("tenant"))));
}

#[tokio::test]
async fn a_tenant_sees_its_own_keys_only() {
    let world = World::new().await;
    let (mine, theirs) = (world.tenant("Acme").await, world.tenant("Globex").await);
    let (first, _) = world.key(mine.id, named("first")).await;
    let (second, _) = world.key(mine.id, named("second")).await;
    let (foreign, _) = world.key(theirs.id, named("foreign")).await;
    let readers = world.database.readers();
    let scope = TenantScope::authenticated(mine.id);
    assert_eq!(
        tenant_keys::list(readers, scope, None, 10).await.unwrap(),
        [second.clone(), first.clone()]
    );
    assert_eq!(
        tenant_keys::list(readers, scope, Some(second.id), 10).await.unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(tenant_keys::get(readers, scope, first.id).await.unwrap(), first);
    let refused = tenant_keys::get(readers, scope, foreign.id).await;
    assert!(matches!(refused, Err(AccountsError::NotFound("key"))));
    assert_eq!(
        operator_keys::list(readers, None, None, 10).await.unwrap(),
        [foreign, second, first]
    );
}

#[tokio::test]
async fn damaged_rows_are_refused_by_the_database_or_on_reading() {
    let world = World::new().await;
    let tenant = world.tenant("Acme").await;
    let (key, plain) = world.key(tenant.id, limited()).await;
    for sql in [
        "UPDATE virtual_key SET budget_period = 'hour'",
        "UPDATE virtual_key SET budget_period = NULL",
        "UPDATE virtual_key SET requests_per_minute = 0",
        "UPDATE virtual_key SET budget_limit = -1",
    ] {
        // each in a transaction of its own: a failed one refuses everything that follows
        let tx = world.database.begin().await.unwrap();
        assert!(tx.execute(sql, vec![]).await.is_err(), "{sql}");
    }
    let tx = world.database.begin().await.unwrap();
    tx.execute("UPDATE virtual_key SET allowed_models_json = '{'", vec![])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let read = operator_keys::get(world.database.readers(), key.id).await;
    assert!(matches!(read, Err(AccountsError::Store(store::StoreError::Damaged(_)))));
    let resolved = CallerCache::new()
        .resolve(&world.database, plain.hash(&world.pepper))
        .await;
    assert!(
        matches!(resolved, Err(AccountsError::Lookup(_))),
        "a damaged allow-list never means all models"
    );
}
