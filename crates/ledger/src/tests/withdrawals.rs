//! Withdrawals: what leaves at once, what waits for holds to end, what is refused, and the way back.

use domain::{Amount, LotId, TenantId};
use store::audit::Actor;

use super::world::*;
use crate::{
    LedgerError, LedgerStore, Refusal,
    batch::{Item, Locking},
    claims::Purpose::{Expiry, Refund, Suspension},
    corrections::CorrectionKind,
    movements::{
        self,
        GrantKind::{Goodwill, Payment, Promotion},
        Release, Released,
    },
    reading,
};

on_every_database! {
    what_is_available_leaves_at_once,
    a_claim_is_served_by_holds_that_end_and_not_by_new_credit,
    what_is_spent_of_a_lot_lowers_its_claims,
    claims_are_served_oldest_first,
    each_purpose_posts_as_the_chart_says,
    a_claim_is_served_once_when_a_batch_is_sent_twice,
    what_only_waits_is_asked_for_once,
    what_makes_no_sense_is_refused,
    a_suspension_is_released_to_its_lot,
    random_histories_keep_the_books,
}

fn amounts(nanos: [i64; 2]) -> [Amount; 2] {
    nanos.map(Amount::from_nanos)
}

async fn lot_of(world: &World, tenant: TenantId, kind: movements::GrantKind, amount: i64) -> LotId {
    let source = uuid::Uuid::new_v4().to_string();
    world.grant(tenant, kind, amount, &source).await.unwrap().lot.unwrap()
}

async fn what_is_available_leaves_at_once(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let lot = lot_of(world, tenant, Payment, 1_000).await;
    let withdrawn = world.withdraw(tenant, lot, Refund, 300, "a").await.unwrap();
    assert_eq!([withdrawn.taken, withdrawn.claimed], amounts([300, 0]));
    assert_eq!([withdrawn.remaining, withdrawn.available], amounts([700, 700]));
    assert_eq!(world.balance(tenant).await, (700, 0, 0));
    assert_eq!((world.left(tenant, lot).await, world.claimed(tenant).await), (700, 0));
    assert_eq!(world.posted(&format!("refunds_payable:{tenant}")).await, -300);
    // what has left cannot be used any more
    let refused = ledger.hold(hold_request(tenant, 701)).await;
    assert!(matches!(
        refused,
        Err(LedgerError::Refused(Refusal::InsufficientCredit { available })) if available.nanos() == 700
    ));
    drop(ledger.hold(hold_request(tenant, 700)).await.unwrap());
    ledger.drain().await;
}

async fn a_claim_is_served_by_holds_that_end_and_not_by_new_credit(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let lot = lot_of(world, tenant, Payment, 1_000).await;
    let (first, second) = (
        ledger.hold(hold_request(tenant, 600)).await.unwrap(),
        ledger.hold(hold_request(tenant, 300)).await.unwrap(),
    );
    let withdrawn = world.withdraw(tenant, lot, Refund, 1_000, "all").await.unwrap();
    assert_eq!([withdrawn.taken, withdrawn.claimed], amounts([100, 900]));
    assert_eq!(world.balance(tenant).await, (0, 900, 0));
    // new credit is the tenant's to use
    lot_of(world, tenant, Payment, 50).await;
    assert_eq!(world.balance(tenant).await, (50, 900, 0));
    assert_eq!(world.claimed(tenant).await, 900);
    first.void(completed());
    world.wait_for_charges(1).await;
    assert_eq!(world.balance(tenant).await, (50, 300, 0));
    assert_eq!((world.left(tenant, lot).await, world.claimed(tenant).await), (300, 300));
    second.settle(&charge_of(120), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (50, 0, 0));
    assert_eq!((world.left(tenant, lot).await, world.claimed(tenant).await), (0, 0));
    assert_eq!(world.posted(&format!("refunds_payable:{tenant}")).await, -880);
    assert_eq!(world.posted("revenue_usage").await, -120);
    assert_eq!(world.number("SELECT COUNT(*) FROM tx WHERE kind = 'claim'").await, 2);
    assert_eq!(world.number("SELECT COUNT(*) FROM claim").await, 0);
}

async fn what_is_spent_of_a_lot_lowers_its_claims(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let lot = lot_of(world, tenant, Payment, 1_000).await;
    let (spent, open) = (
        ledger.hold(hold_request(tenant, 700)).await.unwrap(),
        ledger.hold(hold_request(tenant, 300)).await.unwrap(),
    );
    let refund = world.withdraw(tenant, lot, Refund, 200, "earlier").await.unwrap();
    assert_eq!([refund.taken, refund.claimed], amounts([0, 200]));
    pause().await;
    let suspension = world.withdraw(tenant, lot, Suspension, 700, "later").await.unwrap();
    assert_eq!([suspension.taken, suspension.claimed], amounts([0, 700]));
    spent.settle(&charge_of(700), "acme".to_owned(), completed());
    world.wait_for_charges(1).await;
    // 300 are left: the later claim gives way
    let waiting = "SELECT SUM(amount) FROM claim WHERE purpose =";
    assert_eq!(world.number(&format!("{waiting} 'refund'")).await, 200);
    assert_eq!(world.number(&format!("{waiting} 'suspension'")).await, 100);
    assert_eq!(world.claimed(tenant).await, 300);
    open.settle(&charge_of(250), "acme".to_owned(), completed());
    ledger.drain().await;
    assert_eq!((world.left(tenant, lot).await, world.claimed(tenant).await), (0, 0));
    assert_eq!(world.posted(&format!("refunds_payable:{tenant}")).await, -50);
    assert_eq!(world.posted(&format!("credit_suspended:{tenant}:{lot}")).await, 0);
}

/// Claims are served in the order of their instants, which are whole milliseconds.
async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
}

async fn claims_are_served_oldest_first(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let (one, other) = (
        lot_of(world, tenant, Payment, 100).await,
        lot_of(world, tenant, Promotion, 100).await,
    );
    let holds = [
        ledger.hold(hold_request(tenant, 80)).await.unwrap(),
        ledger.hold(hold_request(tenant, 120)).await.unwrap(),
    ];
    world.withdraw(tenant, one, Suspension, 50, "1").await.unwrap();
    pause().await;
    world.withdraw(tenant, other, Expiry, 70, "2").await.unwrap();
    pause().await;
    world.withdraw(tenant, one, Refund, 50, "3").await.unwrap();
    let [first, second] = holds;
    first.void(completed());
    world.wait_for_charges(1).await;
    assert_eq!(world.posted(&format!("credit_suspended:{tenant}:{one}")).await, -50);
    assert_eq!(world.posted("promo_expense").await, 100 - 30);
    assert_eq!(world.posted(&format!("refunds_payable:{tenant}")).await, 0);
    second.void(completed());
    ledger.drain().await;
    assert_eq!(world.posted("promo_expense").await, 100 - 70);
    assert_eq!(world.posted(&format!("refunds_payable:{tenant}")).await, -50);
    assert_eq!(world.balance(tenant).await, (30, 0, 0));
}

async fn each_purpose_posts_as_the_chart_says(world: &World) {
    let tenant = world.tenant(0).await;
    let paid = lot_of(world, tenant, Payment, 1_000).await;
    let promo = lot_of(world, tenant, Goodwill, 1_000).await;
    let cases = [
        (paid, Refund, format!("refunds_payable:{tenant}")),
        (paid, Expiry, "breakage".to_owned()),
        (promo, Expiry, "promo_expense".to_owned()),
        (paid, Suspension, format!("credit_suspended:{tenant}:{paid}")),
        (promo, Suspension, format!("credit_suspended:{tenant}:{promo}")),
    ];
    for (lot, purpose, account) in cases {
        let before = world.left(tenant, lot).await;
        world.withdraw(tenant, lot, purpose, 10, "case").await.unwrap();
        assert_eq!(world.posted(&account).await, -10, "{account}");
        assert_eq!(world.left(tenant, lot).await, before - 10);
        let kind = purpose.as_str();
        assert!(
            world
                .number(&format!("SELECT COUNT(*) FROM tx WHERE kind = '{kind}'"))
                .await
                > 0
        );
    }
}

async fn a_claim_is_served_once_when_a_batch_is_sent_twice(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(0).await);
    let lot = lot_of(world, tenant, Payment, 1_000).await;
    let hold = hold_request(tenant, 1_000);
    batches.send(vec![Item::Hold(hold.clone())]).await;
    world.withdraw(tenant, lot, Refund, 900, "all").await.unwrap();
    let batch = batches.next(vec![settle_item(&hold, 300)]);
    let first = batches.store.apply(&batch, Locking::Wait).await.unwrap();
    let second = batches.store.apply(&batch, Locking::Wait).await.unwrap();
    assert_eq!((first.outcomes, first.available), (second.outcomes, second.available));
    // 700 are left and claimed, and all of that was freed
    assert_eq!((world.left(tenant, lot).await, world.claimed(tenant).await), (0, 0));
    assert_eq!(world.posted(&format!("refunds_payable:{tenant}")).await, -700);
    assert_eq!(world.balance(tenant).await, (0, 0, 0));
}

/// Nothing moves at first, and still the same source is not taken twice, not even when the claim is gone.
async fn what_only_waits_is_asked_for_once(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let lot = lot_of(world, tenant, Payment, 100).await;
    let hold = ledger.hold(hold_request(tenant, 100)).await.unwrap();
    let suspended = world.withdraw(tenant, lot, Suspension, 60, "s").await.unwrap();
    assert_eq!([suspended.taken, suspended.claimed], amounts([0, 60]));
    let released = give_back(world, tenant, lot, 20, "r").await.unwrap();
    assert_eq!([released.unclaimed, released.returned], amounts([20, 0]));
    for _ in 0..2 {
        assert!(matches!(
            world.withdraw(tenant, lot, Suspension, 60, "s").await,
            Err(LedgerError::Duplicate)
        ));
        assert!(matches!(
            give_back(world, tenant, lot, 20, "r").await,
            Err(LedgerError::Duplicate)
        ));
    }
    assert_eq!(world.claimed(tenant).await, 40);
    hold.void(completed());
    ledger.drain().await;
    assert_eq!(world.balance(tenant).await, (60, 0, 0));
    let again = world.withdraw(tenant, lot, Suspension, 60, "s").await;
    assert!(matches!(again, Err(LedgerError::Duplicate)));
    // the same source for another purpose is another withdrawal
    world.withdraw(tenant, lot, Refund, 60, "s").await.unwrap();
    assert_eq!(world.balance(tenant).await, (0, 0, 0));
}

async fn what_makes_no_sense_is_refused(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let paid = lot_of(world, tenant, Payment, 100).await;
    let promo = lot_of(world, tenant, Promotion, 100).await;
    let other = world.tenant(50).await;
    for amount in [0, -1, i64::MIN] {
        let refused = world.withdraw(tenant, paid, Refund, amount, "x").await;
        assert!(matches!(refused, Err(LedgerError::InvalidAmount(_))));
    }
    assert!(matches!(
        world.withdraw(tenant, promo, Refund, 1, "x").await,
        Err(LedgerError::NotRefundable)
    ));
    assert!(matches!(
        world.withdraw(other, paid, Refund, 1, "x").await,
        Err(LedgerError::UnknownLot)
    ));
    let more = world.withdraw(tenant, paid, Refund, 101, "x").await;
    assert!(matches!(more, Err(LedgerError::MoreThanLeft(left)) if left.nanos() == 100));
    let hold = ledger.hold(hold_request(tenant, 200)).await.unwrap();
    world.withdraw(tenant, paid, Refund, 60, "x").await.unwrap();
    let more = world.withdraw(tenant, paid, Suspension, 41, "y").await;
    assert!(matches!(more, Err(LedgerError::MoreThanLeft(left)) if left.nanos() == 40));
    assert!(matches!(
        world.withdraw(tenant, paid, Refund, 40, "y").await,
        Err(LedgerError::ClaimWaits)
    ));
    hold.void(completed());
    ledger.drain().await;
    world.withdraw(tenant, paid, Refund, 30, "y").await.unwrap();
    assert!(matches!(
        world.withdraw(tenant, paid, Refund, 5, "y").await,
        Err(LedgerError::Duplicate)
    ));
    assert_eq!(
        (world.left(tenant, paid).await, world.balance(tenant).await),
        (10, (110, 0, 0))
    );
}

async fn give_back(
    world: &World,
    tenant: TenantId,
    lot: LotId,
    amount: i64,
    source: &str,
) -> Result<Released, LedgerError> {
    let tx = world.database.begin().await.unwrap();
    let release = Release {
        tenant,
        lot,
        amount: Amount::from_nanos(amount),
        source: source.to_owned(),
    };
    let released = movements::release(&tx, &Actor::system("test"), &release).await?;
    tx.commit().await.unwrap();
    Ok(released)
}

async fn a_suspension_is_released_to_its_lot(world: &World) {
    let (ledger, tenant) = (world.ledger().await, world.tenant(0).await);
    let lot = lot_of(world, tenant, Promotion, 1_000).await;
    let other = lot_of(world, tenant, Payment, 10).await;
    let hold = ledger.hold(hold_request(tenant, 700)).await.unwrap();
    world.withdraw(tenant, other, Suspension, 10, "s").await.unwrap();
    let suspended = world.withdraw(tenant, lot, Suspension, 1_000, "s").await.unwrap();
    assert_eq!([suspended.taken, suspended.claimed], amounts([300, 700]));
    for (amount, most) in [(1_001, 1_000), (i64::MAX, 1_000)] {
        let more = give_back(world, tenant, lot, amount, "r").await;
        assert!(matches!(more, Err(LedgerError::MoreThanSuspended(left)) if left.nanos() == most));
    }
    assert!(matches!(
        give_back(world, tenant, lot, 0, "r").await,
        Err(LedgerError::InvalidAmount(_))
    ));
    let part = give_back(world, tenant, lot, 600, "1").await.unwrap();
    assert_eq!([part.unclaimed, part.returned], amounts([600, 0]));
    assert_eq!(
        (world.claimed(tenant).await, world.balance(tenant).await),
        (100, (0, 700, 0))
    );
    let rest = give_back(world, tenant, lot, 150, "2").await.unwrap();
    assert_eq!([rest.unclaimed, rest.returned], amounts([100, 50]));
    assert_eq!([rest.remaining, rest.available], amounts([750, 50]));
    assert_eq!(world.posted(&format!("credit_suspended:{tenant}:{lot}")).await, -250);
    assert!(matches!(
        give_back(world, tenant, lot, 1, "2").await,
        Err(LedgerError::Duplicate)
    ));
    hold.void(completed());
    ledger.drain().await;
    assert_eq!(
        (world.claimed(tenant).await, world.balance(tenant).await),
        (0, (750, 0, 0))
    );
    give_back(world, tenant, lot, 250, "3").await.unwrap();
    assert_eq!(
        (world.left(tenant, lot).await, world.left(tenant, other).await),
        (1_000, 0)
    );
    assert_eq!(world.balance(tenant).await, (1_000, 0, 0));
}

/// Holds, ends, grants, withdrawals, releases and corrections in any order: the auditor finds nothing wrong on the way.
async fn random_histories_keep_the_books(world: &World) {
    let (mut batches, tenant) = (world.batches().await, world.tenant(0).await);
    let mut dice = Dice(0x5eed_0b00_c0de);
    let (mut suspended, mut open, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..280 {
        let amount = dice.up_to(400) + 1;
        match dice.up_to(12) {
            0 => {
                let kind = [Payment, Payment, Promotion][dice.index(3)];
                lot_of(world, tenant, kind, amount).await;
            }
            1..=3 => {
                let hold = hold_request(tenant, amount);
                let committed = batches.send(vec![Item::Hold(hold.clone())]).await;
                if committed.outcomes == [crate::batch::ItemOutcome::Hold(crate::rules::HoldOutcome::Held)] {
                    open.push(hold);
                }
            }
            4 | 5 if !open.is_empty() => {
                let hold = open.swap_remove(dice.index(open.len()));
                ended.push(hold.request);
                let end = match dice.up_to(3) {
                    0 => void_item(&hold),
                    _ => settle_item(&hold, u64::try_from(dice.up_to(hold.amount.nanos() + 20)).unwrap()),
                };
                batches.send(vec![end]).await;
            }
            9 if !suspended.is_empty() => {
                let lot = suspended[dice.index(suspended.len())];
                // more than is suspended makes no sense, and then nothing may have happened
                let _ = give_back(world, tenant, lot, amount % 60 + 1, &turn.to_string()).await;
            }
            10 | 11 if !ended.is_empty() => {
                let request = ended[dice.index(ended.len())];
                let kind = CorrectionKind::ALL[dice.index(3)];
                let amount = [None, Some(amount % 90 + 1)][dice.index(2)];
                // more than was charged makes no sense, and then nothing may have happened
                let _ = world.correct(request, kind, amount, &turn.to_string()).await;
            }
            _ => {
                let mut lots = reading::operator_lots(world.database.readers(), tenant).await.unwrap();
                lots.retain(|lot| !lot.remaining.is_zero());
                if lots.is_empty() {
                    continue;
                }
                let one = &lots[dice.index(lots.len())];
                let (lot, left) = (one.id, one.remaining.nanos());
                let source = turn.to_string();
                let purpose = [Refund, Expiry, Suspension][dice.index(3)];
                let amount = [left, left / 2 + 1][dice.index(2)];
                let done = world.withdraw(tenant, lot, purpose, amount, &source).await;
                if done.is_ok() && purpose == Suspension {
                    suspended.push(lot);
                }
            }
        }
        if turn % 8 == 0 {
            world.assert_clean().await;
        }
    }
    for kind in [
        "claim",
        "refund",
        "expiry",
        "suspension",
        "release",
        "usage",
        "true_up",
        "request_refund",
        "request_goodwill",
    ] {
        let found = world
            .number(&format!("SELECT COUNT(*) FROM tx WHERE kind = '{kind}'"))
            .await;
        assert!(found > 0, "the history had no {kind}");
    }
    batches.send(open.iter().map(void_item).collect()).await;
    assert_eq!(world.balance(tenant).await.1, 0);
}

/// SplitMix64: the same throws every time.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        i64::try_from(mixed % u64::try_from(limit).unwrap()).unwrap()
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.up_to(i64::try_from(length).unwrap())).unwrap()
    }
}
