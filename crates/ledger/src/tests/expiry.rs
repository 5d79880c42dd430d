//! Expiry: when, of which lots, how much at once, and by several nodes at the same time.

use domain::{Amount, LotId, TenantId};
use store::audit::Actor;

use super::world::*;
use crate::movements::{
    self, Grant, GrantKind,
    GrantKind::{Goodwill, Payment, Promotion},
};

on_every_database! {
    only_what_has_expired_goes,
    what_holds_cover_goes_when_they_end,
    several_nodes_take_each_lot_once,
    a_broken_lot_keeps_no_other_from_expiring,
    what_is_released_later_expires_later,
}

async fn expiring(world: &World, tenant: TenantId, kind: GrantKind, amount: i64, source: &str) -> LotId {
    let grant = Grant {
        tenant,
        amount: Amount::from_nanos(amount),
        kind,
        expires_at: Some(world.database.now().await.unwrap().plus_ms(3_600_000)),
        source: source.to_owned(),
    };
    let tx = world.database.begin().await.unwrap();
    let granted = movements::grant(&tx, &Actor::system("test"), &grant).await.unwrap();
    tx.commit().await.unwrap();
    granted.lot.unwrap()
}

/// An hour passes for these lots.
async fn pass(world: &World, lots: &[LotId]) {
    for lot in lots {
        let sql = "UPDATE lot SET expires_at_ms = expires_at_ms - 3600000 WHERE id = $1";
        world.change(sql, vec![lot.as_uuid().into()]).await.unwrap();
    }
}

fn nanos(expired: &movements::Expired) -> (u64, i64, i64) {
    (expired.lots, expired.taken.nanos(), expired.claimed.nanos())
}

async fn only_what_has_expired_goes(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(500).await);
    let paid = expiring(world, tenant, Payment, 100, "a").await;
    let promo = expiring(world, tenant, Promotion, 100, "b").await;
    let later = expiring(world, tenant, Goodwill, 100, "c").await;
    let spent = expiring(world, tenant, Promotion, 1, "d").await;
    let hold = ledger.hold(hold_request(tenant, 1)).await.unwrap();
    pass(world, &[spent]).await;
    hold.settle(&charge_of(1), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!(world.left(tenant, spent).await, 0);
    pass(world, &[paid, promo]).await;
    assert_eq!(
        nanos(&movements::expire_lots(&world.database).await.unwrap()),
        (2, 200, 0)
    );
    assert_eq!(
        nanos(&movements::expire_lots(&world.database).await.unwrap()),
        (0, 0, 0)
    );
    assert_eq!(world.balance(tenant).await, (600, 0, 0));
    assert_eq!(
        (world.left(tenant, paid).await, world.left(tenant, promo).await),
        (0, 0)
    );
    assert_eq!(world.left(tenant, later).await, 100);
    assert_eq!(
        (world.posted("breakage").await, world.posted("promo_expense").await),
        (-100, 101 - 100)
    );
    let actor = "SELECT COUNT(*) FROM tx WHERE kind = 'expiry' AND actor = 'system:ledger-expiry'";
    assert_eq!(world.number(actor).await, 2);
}

async fn what_holds_cover_goes_when_they_end(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let lot = expiring(world, tenant, Payment, 1_000, "a").await;
    let (one, other) = (
        ledger.hold(hold_request(tenant, 600)).await.unwrap(),
        ledger.hold(hold_request(tenant, 300)).await.unwrap(),
    );
    pass(world, &[lot]).await;
    assert_eq!(
        nanos(&movements::expire_lots(&world.database).await.unwrap()),
        (1, 100, 900)
    );
    assert_eq!(
        nanos(&movements::expire_lots(&world.database).await.unwrap()),
        (0, 0, 0)
    );
    assert_eq!(world.balance(tenant).await, (0, 900, 0));
    // what was held before is honoured: the request is paid for with credit that has expired meanwhile
    one.settle(&charge_of(500), "acme".to_owned(), completed());
    world.wait_for_charges(1).await;
    assert_eq!(world.balance(tenant).await, (0, 300, 0));
    assert_eq!((world.left(tenant, lot).await, world.claimed(tenant).await), (300, 300));
    other.void(completed());
    ledger.drain().await;
    assert_eq!((world.left(tenant, lot).await, world.claimed(tenant).await), (0, 0));
    assert_eq!(
        (world.posted("breakage").await, world.posted("revenue_usage").await),
        (-500, -500)
    );
    assert_eq!(world.balance(tenant).await, (0, 0, 0));
}

async fn several_nodes_take_each_lot_once(world: &World) {
    let tenants = [world.tenant(7).await, world.tenant(0).await];
    let mut lots = Vec::new();
    for number in 0..130_usize {
        let tenant = tenants[number % 2];
        lots.push(expiring(world, tenant, Promotion, 10, &number.to_string()).await);
    }
    pass(world, &lots).await;
    let nodes = (0..3).map(|_| movements::expire_lots(&world.database));
    let expired = futures_util::future::join_all(nodes).await;
    let sum: u64 = expired.iter().map(|one| one.as_ref().unwrap().lots).sum();
    let skipped: u64 = expired.iter().map(|one| one.as_ref().unwrap().skipped).sum();
    assert!(sum <= 130 && sum + skipped >= 130, "{expired:?}");
    movements::expire_lots(&world.database).await.unwrap();
    assert_eq!(world.number("SELECT COUNT(*) FROM tx WHERE kind = 'expiry'").await, 130);
    assert_eq!(world.posted("promo_expense").await, 0);
    assert_eq!(
        (world.balance(tenants[0]).await.0, world.balance(tenants[1]).await.0),
        (7, 0)
    );
}

async fn a_broken_lot_keeps_no_other_from_expiring(world: &World) {
    let (tenant, nobody) = (world.tenant(0).await, TenantId::generate());
    let lots = [
        expiring(world, tenant, Payment, 10, "a").await,
        expiring(world, tenant, Payment, 20, "b").await,
    ];
    pass(world, &lots).await;
    // the first that is due has no account
    let sql = "INSERT INTO lot (id, tenant_id, kind, granted, remaining, expires_at_ms, created_at_ms) \
               VALUES ($1, $1, 'paid', 1, 1, 1, 1)";
    world.change(sql, vec![nobody.as_uuid().into()]).await.unwrap();
    let expired = movements::expire_lots(&world.database).await.unwrap();
    assert_eq!((nanos(&expired), expired.skipped), ((2, 30, 0), 1));
    let sql = "DELETE FROM lot WHERE id = $1";
    world.change(sql, vec![nobody.as_uuid().into()]).await.unwrap();
}

async fn what_is_released_later_expires_later(world: &World) {
    let tenant = world.tenant(0).await;
    let lot = expiring(world, tenant, Payment, 100, "a").await;
    world
        .withdraw(tenant, lot, crate::claims::Purpose::Suspension, 40, "s")
        .await
        .unwrap();
    pass(world, &[lot]).await;
    assert_eq!(
        nanos(&movements::expire_lots(&world.database).await.unwrap()),
        (1, 60, 0)
    );
    let tx = world.database.begin().await.unwrap();
    let release = movements::Release {
        tenant,
        lot,
        amount: Amount::from_nanos(40),
        source: "r".to_owned(),
    };
    movements::release(&tx, &Actor::system("test"), &release).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        nanos(&movements::expire_lots(&world.database).await.unwrap()),
        (1, 40, 0)
    );
    assert_eq!(
        (world.left(tenant, lot).await, world.posted("breakage").await),
        (0, -100)
    );
}
