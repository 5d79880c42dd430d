//! Corrections: which credit comes back, what never becomes what, what is refused, and that the original rows stay.

use domain::{Amount, LotId, RequestId, TenantId, clock::UnixMs};
use store::audit::Actor;

use super::world::*;
use crate::{
    BudgetClaim, BudgetKey, HoldRequest, LedgerError,
    batch::Item,
    corrections::CorrectionKind::{self, Goodwill, Refund, TrueUp},
    movements::{
        self, Corrected, Correction,
        GrantKind::{self, Payment, Promotion},
    },
    reading,
};

on_every_database! {
    a_charge_goes_back_to_the_lot_that_paid_it,
    each_of_a_batch_gets_back_what_paid_for_it,
    no_more_goes_back_than_was_charged,
    a_source_corrects_a_request_once,
    goodwill_is_new_promotional_credit,
    credit_of_an_expired_lot_gets_time_again,
    paid_credit_pays_debt_first,
    the_budgets_of_the_charge_are_lowered,
    a_preview_leaves_nothing,
    open_and_unknown_requests_are_refused,
}

impl World {
    pub async fn correct(
        &self,
        request: RequestId,
        kind: CorrectionKind,
        amount: Option<i64>,
        source: &str,
    ) -> Result<Corrected, LedgerError> {
        self.correct_in(request, kind, amount, source, Vec::new()).await
    }

    async fn correct_in(
        &self,
        request: RequestId,
        kind: CorrectionKind,
        amount: Option<i64>,
        source: &str,
        budgets: Vec<BudgetKey>,
    ) -> Result<Corrected, LedgerError> {
        let tx = self.database.begin().await.unwrap();
        let correction = Correction {
            request,
            kind,
            amount: amount.map(Amount::from_nanos),
            source: source.to_owned(),
            budgets,
        };
        let corrected = movements::correct(&tx, &Actor::system("test"), &correction).await?;
        tx.commit().await.unwrap();
        Ok(corrected)
    }

    async fn lot(&self, tenant: TenantId, kind: GrantKind, amount: i64) -> LotId {
        let source = uuid::Uuid::new_v4().to_string();
        self.grant(tenant, kind, amount, &source).await.unwrap().lot.unwrap()
    }
}

/// Charges of these amounts in one batch, in the order of their ids.
async fn charged_together(world: &World, tenant: TenantId, charges: &[i64]) -> Vec<RequestId> {
    let mut batches = world.batches().await;
    let mut holds: Vec<HoldRequest> = charges.iter().map(|amount| hold_request(tenant, *amount)).collect();
    holds.sort_by_key(|hold| hold.request);
    let ends = holds.iter().zip(charges);
    let mut items: Vec<Item> = holds.iter().cloned().map(Item::Hold).collect();
    // they end in another order than that of their ids
    items.extend(
        ends.rev()
            .map(|(hold, amount)| settle_item(hold, u64::try_from(*amount).unwrap())),
    );
    batches.send(items).await;
    holds.iter().map(|hold| hold.request).collect()
}

async fn a_charge_goes_back_to_the_lot_that_paid_it(world: &World) {
    let tenant = world.tenant(0).await;
    let lot = world.lot(tenant, Payment, 1_000).await;
    let request = charged_together(world, tenant, &[300]).await[0];
    let corrected = world.correct(request, TrueUp, Some(100), "count").await.unwrap();
    assert_eq!((corrected.amount.nanos(), corrected.charged.nanos()), (100, 300));
    assert_eq!((corrected.net_charge.nanos(), corrected.available.nanos()), (200, 800));
    assert_eq!((corrected.credit.len(), corrected.credit[0].lot), (1, lot));
    let rest = world.correct(request, Refund, None, "all").await.unwrap();
    assert_eq!((rest.amount.nanos(), rest.net_charge.nanos()), (200, 0));
    assert_eq!(
        (world.left(tenant, lot).await, world.balance(tenant).await),
        (1_000, (1_000, 0, 0))
    );
    assert_eq!(world.posted("revenue_usage").await, 0);
    // the charge stands as it was written
    let charge = reading::operator_charge(world.database.readers(), request)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(charge.row.amount.nanos(), 300);
    let made = reading::operator_corrections(world.database.readers(), &[request])
        .await
        .unwrap();
    let made: Vec<_> = made
        .iter()
        .map(|one| (one.kind, one.amount.nanos(), one.transaction))
        .collect();
    assert_eq!(
        made,
        [(TrueUp, 100, corrected.transaction), (Refund, 200, rest.transaction)]
    );
}

/// Three charges, of which the lots' border lies in the second: promotional credit never comes back as paid.
async fn each_of_a_batch_gets_back_what_paid_for_it(world: &World) {
    let tenant = world.tenant(0).await;
    let (promo, paid) = (
        world.lot(tenant, Promotion, 150).await,
        world.lot(tenant, Payment, 1_000).await,
    );
    let requests = charged_together(world, tenant, &[100, 100, 100]).await;
    let left = async || [world.left(tenant, promo).await, world.left(tenant, paid).await];
    assert_eq!(left().await, [0, 850]);
    world.correct(requests[2], Refund, None, "r").await.unwrap();
    assert_eq!(left().await, [0, 950]);
    // what was spent last comes back first
    world.correct(requests[1], Refund, Some(30), "1").await.unwrap();
    assert_eq!(left().await, [0, 980]);
    world.correct(requests[1], Refund, Some(40), "2").await.unwrap();
    assert_eq!(left().await, [20, 1_000]);
    world.correct(requests[0], Refund, None, "r").await.unwrap();
    world.correct(requests[1], Refund, None, "r").await.unwrap();
    assert_eq!(left().await, [150, 1_000]);
}

async fn no_more_goes_back_than_was_charged(world: &World) {
    let tenant = world.tenant(1_000).await;
    let request = charged_together(world, tenant, &[300]).await[0];
    let more = world.correct(request, Refund, Some(301), "x").await;
    assert!(matches!(more, Err(LedgerError::MoreThanCharged(left)) if left.nanos() == 300));
    world.correct(request, TrueUp, Some(250), "x").await.unwrap();
    let more = world.correct(request, Refund, Some(51), "y").await;
    assert!(matches!(more, Err(LedgerError::MoreThanCharged(left)) if left.nanos() == 50));
    for amount in [0, -1] {
        let nothing = world.correct(request, Refund, Some(amount), "y").await;
        assert!(matches!(nothing, Err(LedgerError::InvalidAmount(_))));
    }
    world.correct(request, Refund, None, "y").await.unwrap();
    let more = world.correct(request, Refund, None, "z").await;
    assert!(matches!(more, Err(LedgerError::MoreThanCharged(left)) if left.is_zero()));
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
}

async fn a_source_corrects_a_request_once(world: &World) {
    let tenant = world.tenant(1_000).await;
    let requests = charged_together(world, tenant, &[300, 300]).await;
    world.correct(requests[0], Refund, Some(100), "incident").await.unwrap();
    let again = world.correct(requests[0], Refund, Some(100), "incident").await;
    assert!(matches!(again, Err(LedgerError::Duplicate)));
    // another request of the same source is another correction
    world.correct(requests[1], Refund, Some(100), "incident").await.unwrap();
    assert_eq!(world.balance(tenant).await, (600, 0, 0));
}

async fn goodwill_is_new_promotional_credit(world: &World) {
    let tenant = world.tenant(1_000).await;
    let request = charged_together(world, tenant, &[300]).await[0];
    let given = world.correct(request, Goodwill, Some(200), "sorry").await.unwrap();
    assert_eq!((given.net_charge.nanos(), given.available.nanos()), (300, 900));
    assert!(given.credit[0].is_new && given.credit[0].kind == crate::chart::LotKind::Promo);
    assert_eq!(world.posted("goodwill").await, 200);
    assert_eq!(world.posted("revenue_usage").await, -300);
    let more = world.correct(request, Goodwill, Some(101), "again").await;
    assert!(matches!(more, Err(LedgerError::MoreThanHeld(left)) if left.nanos() == 100));
    // it can never leave as money, and what was charged can still be given back
    let refund = world
        .withdraw(tenant, given.credit[0].lot, crate::claims::Purpose::Refund, 1, "x")
        .await;
    assert!(matches!(refund, Err(LedgerError::NotRefundable)));
    world.correct(request, Refund, None, "all").await.unwrap();
    assert_eq!(world.balance(tenant).await, (1_200, 0, 0));
}

async fn credit_of_an_expired_lot_gets_time_again(world: &World) {
    const DAY: i64 = 24 * 3_600_000;
    let tenant = world.tenant(0).await;
    let lot = world.lot(tenant, Promotion, 500).await;
    let requests = charged_together(world, tenant, &[500]).await;
    let expires_in = async |days: i64| {
        let now = world.database.now().await.unwrap().0;
        let sql = "UPDATE lot SET expires_at_ms = $1 WHERE id = $2";
        let at = now + days * DAY;
        world.change(sql, vec![at.into(), lot.as_uuid().into()]).await.unwrap();
        UnixMs(at)
    };
    let kept = expires_in(8).await;
    let corrected = world.correct(requests[0], Refund, Some(100), "1").await.unwrap();
    assert_eq!(
        (corrected.credit[0].lot, corrected.credit[0].expires_at),
        (lot, Some(kept))
    );
    for (days, source) in [(6, "2"), (-1, "3")] {
        let was = expires_in(days).await;
        let corrected = world.correct(requests[0], Refund, Some(100), source).await.unwrap();
        let given = corrected.credit[0];
        assert!(given.is_new && given.lot != lot && given.kind == crate::chart::LotKind::Promo);
        let now = world.database.now().await.unwrap().0;
        let life = given.expires_at.unwrap().0 - now;
        assert!(
            given.expires_at.unwrap() > was && (6 * DAY..=7 * DAY).contains(&life),
            "{life}"
        );
    }
    assert_eq!(world.balance(tenant).await, (300, 0, 0));
    // beyond the grace of the audit, so that it looks at the lot
    expires_in(30).await;
}

async fn paid_credit_pays_debt_first(world: &World) {
    let tenant = world.tenant(0).await;
    world.lot(tenant, Promotion, 100).await;
    world.lot(tenant, Payment, 200).await;
    let request = charged_together(world, tenant, &[300]).await[0];
    let sql = "UPDATE acct SET debt = 150 WHERE tenant_id = $1";
    world.change(sql, vec![tenant.as_uuid().into()]).await.unwrap();
    let corrected = world.correct(request, Refund, None, "all").await.unwrap();
    assert_eq!((corrected.amount.nanos(), corrected.paid_debt.nanos()), (300, 150));
    assert_eq!(corrected.available.nanos(), 150);
    assert_eq!(world.balance(tenant).await, (150, 0, 0));
    assert_eq!(world.posted(&format!("customer_debt:{tenant}")).await, -150);
}

async fn the_budgets_of_the_charge_are_lowered(world: &World) {
    let tenant = world.tenant(1_000).await;
    let [key, shared, over] = [1, 2, 3].map(|period_start| BudgetKey {
        scope: uuid::Uuid::now_v7(),
        period_start: UnixMs(period_start),
    });
    let mut batches = world.batches().await;
    let claim = |key| BudgetClaim {
        key,
        limit: Amount::from_nanos(1_000),
    };
    let hold = HoldRequest {
        budgets: [claim(key), claim(shared)].into_iter().collect(),
        ..hold_request(tenant, 400)
    };
    batches
        .send(vec![Item::Hold(hold.clone()), settle_item(&hold, 400)])
        .await;
    world
        .correct_in(hold.request, Refund, Some(150), "1", vec![shared, key, over])
        .await
        .unwrap();
    let used = reading::budgets(world.database.readers(), &[key, shared])
        .await
        .unwrap();
    assert_eq!([used[&key].used.nanos(), used[&shared].used.nanos()], [250, 250]);
    // goodwill leaves the charge as it is, and what was used of it
    world
        .correct_in(hold.request, Goodwill, Some(100), "2", vec![key])
        .await
        .unwrap();
    let used = reading::budgets(world.database.readers(), &[key]).await.unwrap();
    assert_eq!(used[&key].used.nanos(), 250);
}

async fn a_preview_leaves_nothing(world: &World) {
    let tenant = world.tenant(1_000).await;
    let request = charged_together(world, tenant, &[300]).await[0];
    let tx = world.database.begin().await.unwrap();
    let correction = Correction {
        request,
        kind: Refund,
        amount: None,
        source: "preview".to_owned(),
        budgets: Vec::new(),
    };
    let corrected = movements::correct(&tx, &Actor::system("test"), &correction)
        .await
        .unwrap();
    assert_eq!(corrected.available.nanos(), 1_000);
    tx.rollback().await.unwrap();
    assert_eq!(world.balance(tenant).await, (700, 0, 0));
    assert_eq!(
        world
            .number("SELECT COUNT(*) FROM tx WHERE kind = 'request_refund'")
            .await,
        0
    );
}

async fn open_and_unknown_requests_are_refused(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(1_000).await);
    let (open, void) = (hold_request(tenant, 10), hold_request(tenant, 10));
    batches
        .send(vec![
            Item::Hold(open.clone()),
            Item::Hold(void.clone()),
            void_item(&void),
        ])
        .await;
    for request in [open.request, RequestId::generate()] {
        let refused = world.correct(request, Refund, None, "x").await;
        assert!(matches!(refused, Err(LedgerError::UnknownCharge)));
    }
    let refused = world.correct(void.request, Refund, None, "x").await;
    assert!(matches!(refused, Err(LedgerError::MoreThanCharged(left)) if left.is_zero()));
    // nothing was charged, but the customer may have waited in vain
    world.correct(void.request, Goodwill, Some(10), "x").await.unwrap();
    batches.send(vec![void_item(&open)]).await;
}
