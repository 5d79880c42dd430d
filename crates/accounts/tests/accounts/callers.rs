//! From a presented key to a caller.

use accounts::{
    AccountsError, Budget, BudgetPeriod, CachedLookup, CallerCache, KeyState, KeyUpdate, PlainKey, TenantUpdate,
    operator_keys, operator_tenants,
};
use domain::{Amount, clock::UnixMs};
use store::keyring::ServerKey;

use crate::world::{World, limited, named};

#[tokio::test]
async fn a_caller_carries_what_the_request_path_needs() {
    let world = World::new().await;
    let tenant = world.tenant("Acme").await;
    let (key, plain) = world.key(tenant.id, limited()).await;
    let cache = CallerCache::new();
    assert!(cache.lookup(&plain.hash(&world.pepper)).is_none());
    let caller = world.known(&cache, &plain).await.admit(UnixMs(1)).unwrap();
    assert_eq!((caller.scope.tenant(), caller.key), (tenant.id, key.id));
    assert_eq!((caller.tenant_name.as_str(), caller.tier.as_str()), ("Acme", "default"));
    assert_eq!(
        (caller.key_name.as_str(), caller.key_last4.as_str()),
        ("ci", plain.last4())
    );
    assert_eq!(caller.limits, limited().limits);
    assert_eq!(caller.tenant_budget, None);
    assert!(caller.may_use("anthropic/claude-sonnet", ["sonnet"]) && !caller.may_use("openai/o3", ["o3"]));
    let expiry = limited().expires_at.unwrap();
    let known = world.known(&cache, &plain).await;
    assert_eq!(known.state(expiry.plus_ms(-1)), KeyState::Active);
    assert_eq!(known.state(expiry), KeyState::Expired);
}

#[tokio::test]
async fn a_change_is_seen_after_invalidation() {
    let world = World::new().await;
    let tenant = world.tenant("Acme").await;
    let (key, plain) = world.key(tenant.id, named("ci")).await;
    let cache = CallerCache::new();
    let now = UnixMs::now();
    assert!(world.known(&cache, &plain).await.admit(now).is_ok());

    world
        .update(
            key.id,
            KeyUpdate {
                enabled: Some(false),
                ..KeyUpdate::default()
            },
        )
        .await
        .unwrap();
    cache.invalidate_all();
    assert!(cache.lookup(&plain.hash(&world.pepper)).is_none());
    assert_eq!(world.known(&cache, &plain).await.state(now), KeyState::Disabled);

    world
        .update(
            key.id,
            KeyUpdate {
                enabled: Some(true),
                ..KeyUpdate::default()
            },
        )
        .await
        .unwrap();
    let tx = world.database.begin().await.unwrap();
    let budget = Budget {
        limit: Amount::from_usd(3),
        period: BudgetPeriod::Month,
    };
    let limited = TenantUpdate {
        budget: Some(Some(budget)),
        ..TenantUpdate::default()
    };
    operator_tenants::update(&tx, &world.actor, tenant.id, limited)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    cache.invalidate_all();
    let caller = world.known(&cache, &plain).await.admit(now).unwrap();
    assert_eq!(caller.tenant_budget, Some(budget));
    let tx = world.database.begin().await.unwrap();
    let off = TenantUpdate {
        enabled: Some(false),
        ..TenantUpdate::default()
    };
    operator_tenants::update(&tx, &world.actor, tenant.id, off)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    cache.invalidate_all();
    assert_eq!(
        world.known(&cache, &plain).await.admit(now),
        Err(KeyState::TenantDisabled)
    );

    let tx = world.database.begin().await.unwrap();
    let revoked = operator_keys::revoke(&tx, &world.actor, key.id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(revoked.revoked_at.is_some());
    cache.invalidate_all();
    assert_eq!(world.known(&cache, &plain).await.state(now), KeyState::Revoked);
    let again = KeyUpdate {
        enabled: Some(true),
        ..KeyUpdate::default()
    };
    assert!(matches!(world.update(key.id, again).await, Err(AccountsError::Revoked)));
}

#[tokio::test]
async fn an_unknown_key_is_unknown() {
    let world = World::new().await;
    let cache = CallerCache::new();
    let stranger = PlainKey::generate().hash(&world.pepper);
    assert!(matches!(
        cache.resolve(&world.database, stranger).await.unwrap(),
        CachedLookup::Unknown
    ));
    let tenant = world.tenant("Acme").await;
    let (_, plain) = world.key(tenant.id, named("ci")).await;
    // a right key under another pepper is a stranger as well
    let other = plain.hash(&ServerKey::generate());
    assert!(matches!(
        cache.resolve(&world.database, other).await.unwrap(),
        CachedLookup::Unknown
    ));
    cache.invalidate_all();
    assert!(cache.lookup(&stranger).is_none());
}

#[tokio::test]
async fn a_database_that_is_gone_is_an_error_and_not_an_unknown_key() {
    let world = World::new().await;
    let tenant = world.tenant("Acme").await;
    let (_, plain) = world.key(tenant.id, named("ci")).await;
    let cache = CallerCache::new();
    world.database.close().await;
    let outcome = cache.resolve(&world.database, plain.hash(&world.pepper)).await;
    assert!(matches!(outcome, Err(AccountsError::Lookup(_))));
    assert!(cache.lookup(&plain.hash(&world.pepper)).is_none());
}
