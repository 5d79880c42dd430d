//! Grants: what they post, once, and in which order their lots are spent.

use domain::{Amount, TenantId, clock::UnixMs};
use store::audit::Actor;

use super::world::*;
use crate::{
    LedgerError, Refusal,
    movements::{
        self, Grant,
        GrantKind::{Goodwill, Payment, Promotion},
    },
    reading,
};

on_every_database! {
    each_kind_posts_as_the_chart_says,
    a_payment_pays_debt_first,
    a_source_is_granted_once,
    credit_expires_in_the_future_only,
    an_impossible_amount_is_refused,
    lots_are_spent_promotional_first_then_soonest_then_oldest,
    history_cannot_be_changed,
}

async fn each_kind_posts_as_the_chart_says(world: &World) {
    let tenant = world.tenant(0).await;
    let cases = [
        (Payment, "bank", "paid"),
        (Promotion, "promo_expense", "promo"),
        (Goodwill, "goodwill", "promo"),
    ];
    for (kind, debit, lot_kind) in cases {
        let lot = world.grant(tenant, kind, 100, debit).await.unwrap().lot.unwrap();
        assert_eq!(world.posted(debit).await, 100);
        assert_eq!(world.posted(&format!("credit_{lot_kind}:{tenant}:{lot}")).await, -100);
    }
    assert_eq!(world.balance(tenant).await, (300, 0, 0));
    let page = reading::operator_transactions(world.database.readers(), Some(tenant), None, 10)
        .await
        .unwrap();
    assert_eq!(page.len(), 3);
    assert!(
        page.iter()
            .all(|found| found.entries.len() == 2 && found.actor == "system:test")
    );
}

async fn a_payment_pays_debt_first(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(500).await);
    world
        .change(
            "UPDATE acct SET debt = 300 WHERE tenant_id = $1",
            vec![tenant.as_uuid().into()],
        )
        .await
        .unwrap();
    let refused = ledger.hold(hold_request(tenant, 1)).await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::Debt { debt })) if debt.nanos() == 300));
    let promo = world.grant(tenant, Promotion, 50, "promo").await.unwrap();
    assert!(promo.paid_debt.is_zero());
    let part = world.grant(tenant, Payment, 100, "part").await.unwrap();
    assert_eq!((part.lot, part.paid_debt.nanos()), (None, 100));
    let rest = world.grant(tenant, Payment, 1_000, "rest").await.unwrap();
    assert_eq!((rest.paid_debt.nanos(), rest.available.nanos()), (200, 500 + 50 + 800));
    assert_eq!(world.balance(tenant).await, (1_350, 0, 0));
    assert_eq!(world.posted(&format!("customer_debt:{tenant}")).await, -300);
    drop(ledger.hold(hold_request(tenant, 1_350)).await.unwrap());
    ledger.drain().await;
}

async fn a_source_is_granted_once(world: &World) {
    let (one, other) = (world.tenant(0).await, world.tenant(0).await);
    world.grant(one, Payment, 100, "wire 7").await.unwrap();
    for amount in [100, 200] {
        assert!(matches!(
            world.grant(one, Payment, amount, "wire 7").await,
            Err(LedgerError::Duplicate)
        ));
    }
    world.grant(other, Payment, 100, "wire 7").await.unwrap();
    assert_eq!(world.balance(one).await, (100, 0, 0));
    assert_eq!(world.posted("bank").await, 200);
}

async fn credit_expires_in_the_future_only(world: &World) {
    let tenant = world.tenant(0).await;
    let give = async |source: &str, expires_at: Option<UnixMs>| {
        let tx = world.database.begin().await.unwrap();
        let grant = Grant {
            tenant,
            amount: Amount::from_nanos(100),
            kind: Promotion,
            expires_at,
            source: source.to_owned(),
        };
        let granted = movements::grant(&tx, &Actor::system("test"), &grant).await;
        tx.commit().await.unwrap();
        granted
    };
    let now = world.database.now().await.unwrap();
    for past in [now, now.plus_ms(-1), UnixMs(0), UnixMs(i64::MIN)] {
        let refused = give("past", Some(past)).await;
        assert!(matches!(refused, Err(LedgerError::ExpiryPassed)), "{refused:?}");
    }
    assert_eq!(world.balance(tenant).await, (0, 0, 0));
    // a refused grant uses up no source
    let later = give("past", Some(now.plus_ms(60_000))).await.unwrap().lot.unwrap();
    let never = give("never", None).await.unwrap().lot.unwrap();
    let lots = reading::operator_lots(world.database.readers(), tenant).await.unwrap();
    let expiries: Vec<_> = lots.iter().map(|lot| (lot.id, lot.expires_at)).collect();
    assert_eq!(expiries, [(later, Some(now.plus_ms(60_000))), (never, None)]);
}

async fn an_impossible_amount_is_refused(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(i64::MAX - 10).await);
    for amount in [0, -1, 11] {
        let refused = world.grant(tenant, Payment, amount, "other").await;
        assert!(matches!(refused, Err(LedgerError::InvalidAmount(_))), "{amount}");
    }
    // what is held comes back, so it counts as well
    let hold = ledger.hold(hold_request(tenant, i64::MAX - 10)).await.unwrap();
    assert!(matches!(
        world.grant(tenant, Payment, 11, "other").await,
        Err(LedgerError::InvalidAmount(_))
    ));
    hold.void(completed());
    ledger.drain().await;
    world.grant(tenant, Payment, 10, "other").await.unwrap();
    assert!(world.grant(TenantId::generate(), Payment, 1, "nobody").await.is_err());
}

async fn lots_are_spent_promotional_first_then_soonest_then_oldest(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let mut lots = Vec::new();
    for (kind, source) in [
        (Payment, "a"),
        (Payment, "b"),
        (Promotion, "c"),
        (Goodwill, "d"),
        (Promotion, "e"),
    ] {
        lots.push(world.grant(tenant, kind, 100, source).await.unwrap().lot.unwrap());
    }
    for (lot, expires) in [(lots[3], 2_000_i64), (lots[4], 1_000)] {
        let sql = "UPDATE lot SET expires_at_ms = $2 WHERE id = $1";
        world
            .change(sql, vec![lot.as_uuid().into(), expires.into()])
            .await
            .unwrap();
    }
    let order = [lots[4], lots[3], lots[2], lots[0], lots[1]];
    let mut spent = 0;
    for charge in [50_u64, 100, 100, 70, 180] {
        let amount = i64::try_from(charge).unwrap();
        let hold = ledger.hold(hold_request(tenant, amount)).await.unwrap();
        hold.settle(&charge_of(charge), "acme".to_owned(), completed());
        ledger.drain().await;
        spent += amount;
        let found = reading::operator_lots(world.database.readers(), tenant).await.unwrap();
        for (place, lot) in (0_i64..).zip(order) {
            let left = found.iter().find(|view| view.id == lot).unwrap().remaining;
            assert_eq!(
                left,
                Amount::from_nanos((100 * (place + 1) - spent).clamp(0, 100)),
                "{place} after {spent}"
            );
        }
    }
}

async fn history_cannot_be_changed(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(1_000).await);
    drop(ledger.hold(hold_request(tenant, 10)).await.unwrap());
    ledger.drain().await;
    let rows = [
        "INSERT INTO audit (at_ms, actor, action, subject) VALUES (1, 'a', 'b', 'c')",
        "INSERT INTO price_version (version, effective_at_ms, published_at_ms, actor, note) VALUES (2, 1, 1, 'a', '')",
        "INSERT INTO price_item (version, kind, subject, value_json) VALUES (1, 'offer', 'x', '{}')",
    ];
    for sql in rows {
        world.change(sql, vec![]).await.unwrap();
    }
    let tables = [
        ("tx", "actor"),
        ("entry", "account"),
        ("charge", "reason"),
        ("audit", "actor"),
        ("price_version", "note"),
        ("price_item", "value_json"),
    ];
    for (table, column) in tables {
        let count = format!("SELECT COUNT(*) FROM {table}");
        let before = world.number(&count).await;
        assert!(before > 0, "{table}");
        for sql in [
            format!("UPDATE {table} SET {column} = 'x'"),
            format!("DELETE FROM {table}"),
        ] {
            let error = world.change(&sql, vec![]).await.unwrap_err();
            assert!(
                std::error::Error::source(&error).is_some_and(|why| why.to_string().contains("insert-only")),
                "{sql}: {error}"
            );
        }
        assert_eq!(world.number(&count).await, before);
    }
}
